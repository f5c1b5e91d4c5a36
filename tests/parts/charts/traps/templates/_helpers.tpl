{{- define "traps.pod" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ .name }}
spec:
  containers:
    - name: main
      image: {{ .image }}
{{- end }}
