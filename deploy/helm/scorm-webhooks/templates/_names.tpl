{{/* Names and labels. A name leaves room for "-fan-out" and for the hash that a StatefulSet adds. */}}

{{- define "scorm-webhooks.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "scorm-webhooks.fullname" -}}
{{- $name := include "scorm-webhooks.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ default $full .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "scorm-webhooks.selectorLabels" -}}
app.kubernetes.io/name: {{ include "scorm-webhooks.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "scorm-webhooks.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "scorm-webhooks.selectorLabels" . }}
app.kubernetes.io/version: {{ default .Chart.AppVersion .Values.image.tag | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: scorm-webhooks
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "scorm-webhooks.serviceAccountName" -}}
{{ ternary (default (include "scorm-webhooks.fullname" .) .Values.serviceAccount.name) (default "default" .Values.serviceAccount.name) .Values.serviceAccount.create }}
{{- end }}

{{/* Hooks run before the ServiceAccount of the release exists. */}}
{{- define "scorm-webhooks.hookServiceAccountName" -}}
{{ ternary (printf "%s-hooks" (include "scorm-webhooks.fullname" .)) (include "scorm-webhooks.serviceAccountName" .) .Values.serviceAccount.create }}
{{- end }}

{{- define "scorm-webhooks.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{/* The Service of a stage's probes and metrics. That of `api` is not the one that clients use. */}}
{{- define "scorm-webhooks.probeService" -}}
{{ include "scorm-webhooks.fullname" .root }}-{{ .stage.name }}{{ if .stage.needs.http }}-metrics{{ end }}
{{- end }}
