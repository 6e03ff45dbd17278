{{/* The pod of a stage or a Job. `.name` is the process, `.command` its arguments, `.pod` the options of the pod. */}}

{{- define "scorm-webhooks.podSpec" -}}
{{- $root := .root -}}
{{- $files := (include "scorm-webhooks.mountedFiles" . | fromYaml).found -}}
serviceAccountName: {{ .serviceAccount }}
automountServiceAccountToken: false
# Without this, a Service called scorm-webhooks-api puts SCORM_WEBHOOKS_API_PORT=tcp://… into each pod.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .pod.terminationGracePeriodSeconds | default (include "scorm-webhooks.stopSeconds" $root | int | add 15) }}
securityContext:
  {{- toYaml .pod.securityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .pod.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .pod.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if .spread }}
{{- with .pod.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "scorm-webhooks.selectorLabels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ $.name }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}
containers:
  - name: {{ .name }}
    image: {{ include "scorm-webhooks.image" $root }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{ toJson .command }}
    securityContext:
      {{- toYaml .pod.containerSecurityContext | nindent 6 }}
    {{- if .stage }}
    envFrom:
      - configMapRef:
          name: {{ include "scorm-webhooks.configMapName" $root }}
    {{- end }}
    env:
      {{- include "scorm-webhooks.env" . | nindent 6 }}
    {{- if .stage }}
    {{- include "scorm-webhooks.portsAndProbes" . | nindent 4 }}
    {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- if eq .name "api" }}
      # For the commands of operators in this pod.
      - name: local-key
        mountPath: /run/scorm-webhooks
      {{- end }}
      {{- range $files }}
      - name: {{ .volume }}
        mountPath: /etc/scorm-webhooks/{{ .volume }}
        readOnly: true
      {{- end }}
      {{- with .pod.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 64Mi
  {{- if eq .name "api" }}
  - name: local-key
    emptyDir:
      medium: Memory
      sizeLimit: 1Mi
  {{- end }}
  {{- range $files }}
  - name: {{ .volume }}
    {{- if .secret }}
    secret:
      secretName: {{ .secret }}
      # libpq refuses a private key that everybody may read.
      defaultMode: 0440
    {{- else }}
    configMap:
      name: {{ .configMap }}
    {{- end }}
      items:
        {{- range $path, $key := .files }}
        - key: {{ $key }}
          path: {{ $path }}
        {{- end }}
  {{- end }}
  {{- with .pod.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "scorm-webhooks.env" -}}
{{- if not .stage }}
{{- range $name, $value := include "scorm-webhooks.variables" .root | fromYaml }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- if .needs.http }}
{{- range $name, $value := include "scorm-webhooks.apiVariables" .root | fromYaml }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- if .static }}
# The pod's name survives a restart: its partitions wait for it, and no other process takes them meanwhile.
- name: SCORM_WEBHOOKS_INSTANCE_ID
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- range (include "scorm-webhooks.secretVariables" . | fromYaml).found }}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret }}
      key: {{ .key }}
{{- end }}
{{- with .pod.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* /healthz says that the process lives, whatever Kafka and the database do. /readyz says what is missing. */}}
{{- define "scorm-webhooks.portsAndProbes" -}}
ports:
  - name: metrics
    containerPort: 9090
  {{- if .needs.http }}
  - name: http
    containerPort: 8080
  {{- end }}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- if .needs.http }}
lifecycle:
  # Requests still arrive until every proxy knows that this pod ends.
  preStop:
    sleep:
      seconds: {{ .values.preStopSleepSeconds }}
{{- end }}
{{- end }}

{{/*
Changes when a Secret of this process changes, so that `helm upgrade` restarts it. The versions say nothing about the
content. `helm template` cannot look Secrets up: there it is constant.
*/}}
{{- define "scorm-webhooks.secretVersions" -}}
{{- $root := .root -}}
{{- $names := list -}}
{{- range concat (include "scorm-webhooks.secretVariables" . | fromYaml).found (include "scorm-webhooks.mountedFiles" . | fromYaml).found -}}
{{- if .secret }}{{ $names = append $names .secret }}{{ end -}}
{{- end -}}
{{- $versions := list -}}
{{- range $names | uniq | sortAlpha -}}
{{- $found := lookup "v1" "Secret" $root.Release.Namespace . -}}
{{- $versions = append $versions (printf "%s=%s" . (dig "metadata" "resourceVersion" "unknown" $found)) -}}
{{- end -}}
{{- join "," $versions | sha256sum -}}
{{- end }}

{{/* Seconds until a process has ended itself: the sleep of `api`, then `TimeLimits.stop` of streams/core/deliveries/time_limits.py. */}}
{{- define "scorm-webhooks.stopSeconds" -}}
{{- $attempt := .Values.settings.attemptTimeoutSeconds | default 10 | ceil | int -}}
{{- add (max 10 $attempt) 15 (.Values.stages.api.preStopSleepSeconds | int) -}}
{{- end }}
