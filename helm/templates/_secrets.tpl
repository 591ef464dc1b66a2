{{- /*
Secrets come as files, never as variables: a variable shows in crash dumps and in every child process. Each secret
is one key of a Secret that exists, named in the values; the settings read the file that <NAME>_FILE names.
*/ -}}

{{- define "marketplace.secrets.folder" -}}/etc/marketplace/secrets{{- end }}

{{- /* The variables of the list "secrets" whose Secret is named. */ -}}
{{- define "marketplace.secrets.env" -}}
{{- $variables := dict "database" "DATABASE_URL" "broker" "BROKER_URL" "cache" "CACHE_URL" "secretKey" "SECRET_KEY" "hub" "HF_TOKEN" -}}
{{- range .secrets }}
{{- if (index $.root.Values.secrets .).name }}
- name: {{ index $variables . }}_FILE
  value: {{ include "marketplace.secrets.folder" $ }}/{{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The sources of their projected volume. */ -}}
{{- define "marketplace.secrets.sources" -}}
{{- range $secret := .secrets }}
{{- with index $.root.Values.secrets $secret }}
{{- if .name }}
- secret:
    name: {{ .name }}
    items:
      - key: {{ .key }}
        path: {{ $secret }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
