{{- /*
What the pods of all components have in common. Each template takes
(dict "root" $ "component" "web" "values" .Values.web) and, where said so, more.
*/ -}}

{{- define "marketplace.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end }}

{{- /* metadata of a pod template. Pods start anew when a setting has changed. */ -}}
{{- define "marketplace.pod.metadata" -}}
labels:
  {{- include "marketplace.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/settings: {{ include "marketplace.settings" .root | sha256sum | trunc 16 }}
  {{- with merge (dict) (.values.podAnnotations | default dict) .root.Values.annotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* Rights of a pod: the restricted Pod Security level. */ -}}
{{- define "marketplace.pod.security" -}}
securityContext:
  runAsNonRoot: true
  # Models run as the same user: what one writes to the storage the other must read and replace.
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch # walking through terabytes of weights takes longer than starting
  seccompProfile:
    type: RuntimeDefault
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* Where a pod may run, and how many of them may be lost with one machine. */ -}}
{{- define "marketplace.pod.scheduling" -}}
{{- $values := .values -}}
{{- $all := .root.Values.scheduling -}}
{{- with merge (dict) ($values.nodeSelector | default dict) $all.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat $all.tolerations ($values.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName | default $all.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- if $values.replicas }}
topologySpreadConstraints:
  {{- $selector := include "marketplace.selector" . }}
  {{- range $all.spread }}
  - topologyKey: {{ .topologyKey }}
    maxSkew: {{ .maxSkew }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
    matchLabelKeys: [pod-template-hash] # the pods of a release that is going away do not count
  {{- end }}
{{- end }}
{{- end }}

{{- /*
The program of a container: image, environment, mounts, rights, resources. Takes "secrets", the list of the secrets
that it needs; "resources"; "storage": true for what reads or writes files of customers; "heartbeat": true for what has
no port to ask; "clusters": true for what speaks to clusters.
*/ -}}
{{- define "marketplace.container" -}}
image: {{ include "marketplace.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ include "marketplace.settings.name" .root }}
env:
  {{- include "marketplace.secrets.env" . | nindent 2 }}
  {{- if .heartbeat }}
  - name: HEARTBEAT_PATH
    value: {{ include "marketplace.heartbeat.path" . }}
  {{- end }}
  {{- with concat .root.Values.extraEnv (.values.extraEnv | default list) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  - name: temporary
    mountPath: /tmp
  - name: home
    mountPath: {{ include "marketplace.home" . }}
  - name: secrets
    mountPath: {{ include "marketplace.secrets.folder" . }}
    readOnly: true
  {{- if .storage }}
  - name: storage
    mountPath: {{ include "marketplace.storage.folder" . }}
  {{- end }}
  {{- if and .clusters .root.Values.kubeconfigs.secret }}
  - name: kubeconfigs
    mountPath: /etc/marketplace/kubeconfigs
    readOnly: true
  {{- end }}
{{- end }}

{{- /* The volumes that "marketplace.container" mounts. Takes "secrets" and "storage" as there. */ -}}
{{- define "marketplace.pod.volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: {{ .root.Values.temporarySize }}
- name: home
  emptyDir:
    sizeLimit: 64Mi
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- include "marketplace.secrets.sources" . | nindent 6 }}
{{- if .storage }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ include "marketplace.storage.claim" .root }}
{{- end }}
{{- if and .clusters .root.Values.kubeconfigs.secret }}
- name: kubeconfigs
  secret:
    secretName: {{ .root.Values.kubeconfigs.secret }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- /*
Waits until the migrate Job has brought the database up to this release. During an upgrade the old pods serve on.
*/ -}}
{{- define "marketplace.pod.waiting" -}}
- name: wait-for-migrations
  args: [-m, django, wait_for_migrations, --seconds, {{ .root.Values.migrate.waitSeconds | quote }}]
  {{- $waiting := merge (dict "secrets" (list "database") "resources" .root.Values.migrate.waitResources) (omit . "storage" "heartbeat" "clusters") }}
  {{- include "marketplace.container" $waiting | nindent 2 }}
{{- end }}

{{- define "marketplace.home" -}}/var/lib/marketplace{{- end }}
{{- define "marketplace.storage.folder" -}}{{ include "marketplace.home" . }}/storage{{- end }}

{{- /*
Probes of what has no port to ask: whether its file was touched of late. Patient, because while the broker is away
nothing turns and a new start mends nothing.
*/ -}}
{{- define "marketplace.heartbeat.probes" -}}
startupProbe:
  exec:
    command: [python, -m, marketplace.config.heartbeat, "300"]
  periodSeconds: 3
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  exec:
    command: [python, -m, marketplace.config.heartbeat, "300"]
  periodSeconds: 30
  timeoutSeconds: 10
{{- end }}
{{- define "marketplace.heartbeat.path" -}}/tmp/heartbeat{{- end }}
