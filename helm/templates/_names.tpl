{{- /* One template for each name, so that no name is spelled twice. */ -}}

{{- define "marketplace.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "marketplace.web.name" -}}{{ include "marketplace.fullname" . }}-web{{- end }}
{{- define "marketplace.worker.name" -}}{{ include "marketplace.fullname" . }}-worker{{- end }}
{{- define "marketplace.beat.name" -}}{{ include "marketplace.fullname" . }}-beat{{- end }}
{{- define "marketplace.watcher.name" -}}{{ include "marketplace.fullname" . }}-watcher{{- end }}
{{- define "marketplace.gateway.name" -}}{{ include "marketplace.fullname" . }}-gateway{{- end }}
{{- define "marketplace.migrate.name" -}}{{ include "marketplace.fullname" . }}-migrate{{- end }}

{{- define "marketplace.settings.name" -}}{{ include "marketplace.fullname" . }}-settings{{- end }}
{{- define "marketplace.places.name" -}}{{ include "marketplace.fullname" . }}-places{{- end }}

{{- /* Cluster-wide objects carry the namespace, so that a second release elsewhere does not meet this one. */ -}}
{{- define "marketplace.clusterwide.name" -}}
{{ printf "%s-%s" (include "marketplace.fullname" .) .Release.Namespace | trunc 54 | trimSuffix "-" }}
{{- end }}

{{- define "marketplace.storage.claim" -}}
{{ .Values.storage.existingClaim | default (printf "%s-storage" (include "marketplace.fullname" .)) }}
{{- end }}
{{- define "marketplace.storage.volume" -}}{{ include "marketplace.clusterwide.name" . }}-storage{{- end }}

{{- /* The service accounts: one that keeps clusters as wished, one that reads logs, one that may do nothing. */ -}}
{{- define "marketplace.account.controller" -}}{{ include "marketplace.fullname" . }}-controller{{- end }}
{{- define "marketplace.account.reader" -}}{{ include "marketplace.fullname" . }}-reader{{- end }}
{{- define "marketplace.account.plain" -}}{{ include "marketplace.fullname" . }}{{- end }}

{{- define "marketplace.controller.clusterrole" -}}{{ include "marketplace.clusterwide.name" . }}-controller{{- end }}
{{- define "marketplace.reader.clusterrole" -}}{{ include "marketplace.clusterwide.name" . }}-reader{{- end }}
