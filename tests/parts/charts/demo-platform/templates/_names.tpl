{{- define "platform.job" -}}
restartPolicy: Never
terminationGracePeriodSeconds: 5
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ .image }}
    args: [{{ .script | quote }}]
    resources:
      {{- toYaml .root.Values.global.resources | nindent 6 }}
{{- end }}
