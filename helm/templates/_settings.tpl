{{- /* The environment of every component, as data of a ConfigMap. Names are those of the README's table. */ -}}
{{- define "marketplace.settings" -}}
{{- $web := urlParse .Values.web.url -}}
{{- $origins := list (printf "%s://%s" $web.scheme $web.host) -}}
{{- range .Values.web.moreHosts }}
{{- $origins = append $origins (printf "%s://%s" $web.scheme .) -}}
{{- end -}}
{{- $hosts := concat (list (regexReplaceAll ":[0-9]+$" $web.host "") "127.0.0.1" "localhost") .Values.web.moreHosts -}}
DJANGO_SETTINGS_MODULE: marketplace.config.settings
PYTHONUNBUFFERED: "1"
MARKETPLACE_HOME: {{ include "marketplace.home" . }}
STORAGE_ROOT: {{ include "marketplace.storage.folder" . }}
MODEL_FOLDERS: {{ include "marketplace.storage.folder" . }}/incoming
WEB_URL: {{ .Values.web.url | quote }}
GATEWAY_URL: {{ .Values.gateway.url | quote }}
ALLOWED_HOSTS: {{ $hosts | uniq | join "," | quote }}
CSRF_TRUSTED_ORIGINS: {{ $origins | uniq | join "," | quote }}
GATEWAY_STOP_DELAY_SECONDS: "5"
{{- range $name, $value := .Values.settings }}
{{- if and (kindIs "float64" $value) (eq $value (floor $value)) }}
{{- $value = int64 $value }}{{- /* Helm reads 1000000 as a float and would write 1e+06 */ -}}
{{- end }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
