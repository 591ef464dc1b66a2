{{- /*
The file of places. Without one of the provider's there is this cluster, with nothing in it yet, or not even that where
storage.volume does not say what customers' namespaces could mount. Never the places that the marketplace ships: those
are for one machine without Kubernetes.
*/ -}}
{{- define "marketplace.places" -}}
{{- if .Values.places -}}
{{ .Values.places }}
{{- else -}}
{{- $places := dict "region" (list (dict "slug" "default" "name" "Default")) }}
{{- if .Values.storage.volume }}
{{- $configuration := dict "kubeconfig" "" "installation" (include "marketplace.clusterwide.name" .) "storage" .Values.storage.volume }}
{{- $configuration = set $configuration "caller_namespaces" (dict "kubernetes.io/metadata.name" .Release.Namespace) }}
{{- $cluster := dict "slug" "default" "region" "default" "kind" "kubernetes" "configuration" $configuration }}
{{- $places = set $places "cluster" (list $cluster) }}
{{- end }}
{{- toToml $places }}
{{- end }}
{{- end }}
