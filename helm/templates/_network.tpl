{{- /*
Parts of network policies. Egress takes (dict "root" $ "to" (list "dns" "database")): names of the values below
networkPolicy. An empty "to" there allows these ports everywhere, because addresses of a managed database are not known
beforehand.
*/ -}}
{{- define "marketplace.network.egress" -}}
{{- range .to }}
{{- with index $.root.Values.networkPolicy . }}
- ports:
    {{- range .ports }}
    - port: {{ . }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "marketplace.network.dns" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
  {{- with .Values.networkPolicy.dns.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
