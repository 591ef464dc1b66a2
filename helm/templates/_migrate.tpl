{{- /* The pod of the migrate Job, apart from it because the Job is named for what its pod does. */ -}}
{{- define "marketplace.migrate.pod" -}}
{{- $here := dict "root" $ "component" "migrate" "values" .Values.migrate "resources" .Values.migrate.resources }}
{{- $here = merge $here (dict "secrets" (list "database" "broker") "storage" true) }}
metadata:
  {{- include "marketplace.pod.metadata" $here | nindent 2 }}
spec:
  restartPolicy: OnFailure
  serviceAccountName: {{ include "marketplace.account.plain" . }}
  automountServiceAccountToken: false
  {{- include "marketplace.pod.security" $here | nindent 2 }}
  {{- include "marketplace.pod.scheduling" $here | nindent 2 }}
  # One after the other: tables, people, and what is offered.
  initContainers:
    - name: migrate
      args: [-m, django, migrate, --no-input]
      {{- include "marketplace.container" $here | nindent 6 }}
    {{- if .Values.staff.secret }}
    - name: staff
      args: [-m, django, ensure_staff, --folder, /etc/marketplace/staff]
      {{- include "marketplace.container" $here | nindent 6 }}
        - name: staff
          mountPath: /etc/marketplace/staff
          readOnly: true
    {{- end }}
  containers:
    - name: seed
      args: [-m, django, seed, --places, /etc/marketplace/places/places.toml]
      {{- include "marketplace.container" $here | nindent 6 }}
        - name: places
          mountPath: /etc/marketplace/places
          readOnly: true
  volumes:
    {{- include "marketplace.pod.volumes" $here | nindent 4 }}
    {{- if .Values.staff.secret }}
    - name: staff
      secret:
        secretName: {{ .Values.staff.secret }}
        defaultMode: 0440
    {{- end }}
    - name: places
      configMap:
        name: {{ include "marketplace.places.name" . }}
{{- end }}
