{{/* What scales a stage: its number of processes changes slowly, because each change moves partitions. */}}

{{- define "scorm-webhooks.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 30
  policies:
    - {type: Percent, value: 100, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: 600
  policies:
    - {type: Pods, value: 1, periodSeconds: 120}
{{- end }}
