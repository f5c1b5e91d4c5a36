{{- define "demanding.bucket" -}}
{{ required "a bucket is required" .Values.bucket }}
{{- end }}
