{{/* The topics of streams/topics.py, for these settings. A test compares them. */}}
{{- define "scorm-webhooks.topics" -}}
{{- $events := int .Values.settings.eventPartitions -}}
{{- $family := list "deliveries" "deliveries.bulk" "deliveries.test" "deliveries.held" "delivery-attempts" -}}
{{- range .Values.settings.retrySchedule }}{{ $family = append $family (printf "deliveries.retry.%s" .) }}{{ end -}}
- name: session-events
  partitions: {{ $events }}
  config: {{ include "scorm-webhooks.topicConfig" (dict "days" 7) }}
- name: session-events.invalid
  partitions: {{ min 3 $events }}
  config: {{ include "scorm-webhooks.topicConfig" (dict "days" 30 "recordBytes" 2097152) }}
{{- range list "subscriptions" "erasures" }}
- name: {{ . }}
  partitions: 1
  config: {{ dict "cleanup.policy" "compact" "delete.retention.ms" (mul 7 86400000) "max.message.bytes" 1048588 "message.timestamp.type" "LogAppendTime" | toJson }}
{{- end }}
- name: deliveries.dead-letter
  partitions: {{ int .Values.settings.deliveryPartitions }}
  config: {{ include "scorm-webhooks.topicConfig" (dict "days" 30) }}
{{- range $family }}
- name: {{ . }}
  partitions: {{ int $.Values.settings.deliveryPartitions }}
  config: {{ include "scorm-webhooks.topicConfig" (dict "days" 7) }}
{{- end }}
{{- end }}

{{- define "scorm-webhooks.topicConfig" -}}
{{ dict "cleanup.policy" "delete" "retention.ms" (mul .days 86400000) "retention.bytes" -1 "max.message.bytes" (default 1048588 .recordBytes) "message.timestamp.type" "LogAppendTime" | toJson }}
{{- end }}
