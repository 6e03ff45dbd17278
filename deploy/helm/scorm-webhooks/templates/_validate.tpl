{{/* What the schema cannot check, each with the value to set. */}}
{{- define "scorm-webhooks.validate" -}}
{{- $values := .Values -}}
{{- $wrong := list -}}
{{- if not $values.kafka.bootstrapServers -}}
{{- $wrong = append $wrong "kafka.bootstrapServers is not set: give host:port of one or more brokers, separated by commas." -}}
{{- end -}}
{{- if not $values.database.existingSecret -}}
{{- $wrong = append $wrong "database.existingSecret is not set: name a Secret whose key database.key has the URL postgresql://user:password@host/name." -}}
{{- end -}}
{{- if not $values.encryptionKeys.existingSecret -}}
{{- $wrong = append $wrong "encryptionKeys.existingSecret is not set: name a Secret with a key that `scorm-webhooks keys generate` made." -}}
{{- end -}}
{{- if and $values.kafka.sasl.enabled (not $values.kafka.sasl.existingSecret) -}}
{{- $wrong = append $wrong "kafka.sasl.existingSecret is not set: name a Secret with the password, or set kafka.sasl.enabled to false." -}}
{{- end -}}
{{- if and $values.kafka.oauth.enabled (not $values.kafka.oauth.existingSecret) -}}
{{- $wrong = append $wrong "kafka.oauth.existingSecret is not set: name a Secret with the client's secret, or set kafka.oauth.enabled to false." -}}
{{- end -}}
{{- if and $values.kafka.oauth.enabled (not $values.kafka.oauth.tokenEndpointUrl) -}}
{{- $wrong = append $wrong "kafka.oauth.tokenEndpointUrl is not set: give the URL of the provider's token endpoint." -}}
{{- end -}}
{{- $ways := 0 -}}
{{- range list $values.kafka.sasl.enabled $values.kafka.oauth.enabled $values.kafka.msk.region }}{{ if . }}{{ $ways = add $ways 1 }}{{ end }}{{ end -}}
{{- if gt (int $ways) 1 -}}
{{- $wrong = append $wrong "kafka.sasl, kafka.oauth and kafka.msk exclude one another: a client authenticates in one way. Keep one." -}}
{{- end -}}
{{- if and $values.kafka.msk.roleArn (not $values.kafka.msk.region) -}}
{{- $wrong = append $wrong "kafka.msk.region is not set, and kafka.msk.roleArn is: give the region of the cluster." -}}
{{- end -}}
{{/* These values become a ConfigMap or another resource that more people may read than Secrets. */ -}}
{{- $readable := dict "schemaRegistry.url" $values.schemaRegistry.url "kafka.oauth.tokenEndpointUrl" $values.kafka.oauth.tokenEndpointUrl "keda.prometheusAddress" $values.keda.prometheusAddress -}}
{{- range $name, $value := $values.settings -}}
{{- $_ := set $readable (printf "settings.%s" $name) $value -}}
{{- end -}}
{{- range $name, $value := $values.kafka.config -}}
{{- $_ := set $readable (printf "kafka.config.%s" $name) $value -}}
{{- if regexMatch "password|passphrase|secret|key\\.pem" $name -}}
{{- $wrong = append $wrong (printf "kafka.config has %s, which is a secret, and a ConfigMap would show it: use kafka.sasl.existingSecret, kafka.oauth.existingSecret, kafka.tls.client.existingSecret, or pod.extraEnv with KAFKA_CONFIG_%s from a Secret." $name ($name | replace "." "_" | upper)) -}}
{{- end -}}
{{- end -}}
{{- range $place, $value := $readable -}}
{{- if regexMatch "://.*@" (toString $value) -}}
{{- $wrong = append $wrong (printf "%s has a user name or a password in its URL, and a ConfigMap would show it: leave them out, and give those of the schema registry by schemaRegistry.existingSecret, those of the proxy by egressProxyCredentials.existingSecret." $place) -}}
{{- end -}}
{{- end -}}
{{- if and $values.settings.oidcIssuer (not $values.oidcClientSecret.existingSecret) -}}
{{- $wrong = append $wrong "oidcClientSecret.existingSecret is not set, and settings.oidcIssuer is: name a Secret with the client secret that the provider gave you." -}}
{{- end -}}
{{- if and (or $values.egressProxyCredentials.existingSecret $values.settings.egressProxyResolves) (not $values.settings.egressProxy) -}}
{{- $wrong = append $wrong "settings.egressProxy is not set, and egressProxyCredentials or settings.egressProxyResolves is: give the proxy's URL, such as http://proxy:3128." -}}
{{- end -}}
{{- if and (eq $values.topics.managedBy "strimzi") (not $values.topics.strimzi.cluster) -}}
{{- $wrong = append $wrong "topics.strimzi.cluster is not set: give the name of the Kafka resource, or set topics.managedBy to job." -}}
{{- end -}}
{{- if and $values.api.ingress.enabled (not $values.api.ingress.hosts) -}}
{{- $wrong = append $wrong "api.ingress.hosts is empty: give the host name of the API, such as webhooks.example.com." -}}
{{- end -}}
{{- if and $values.api.httpRoute.enabled (not $values.api.httpRoute.parentRefs) -}}
{{- $wrong = append $wrong "api.httpRoute.parentRefs is empty: name the Gateway, such as {name: public, namespace: gateways}." -}}
{{- end -}}
{{- if and (or $values.api.ingress.enabled $values.api.httpRoute.enabled) (not $values.settings.trustedProxies) -}}
{{- $wrong = append $wrong "settings.trustedProxies is empty, and the API is behind a proxy: all browsers would share the limit of one address, and anybody could keep the others from signing in. Give the networks of the proxy's pods, such as 10.0.0.0/8." -}}
{{- end -}}
{{- if and $values.monitoring.serviceMonitor.enabled $values.monitoring.podMonitor.enabled -}}
{{- $wrong = append $wrong "monitoring.serviceMonitor and monitoring.podMonitor are both enabled: every metric would be read twice. Enable one." -}}
{{- end -}}
{{- range $key, $needs := include "scorm-webhooks.stages" . | fromYaml -}}
{{- if $needs.partitions -}}
{{- $most := index $values.settings $needs.partitions | int -}}
{{- $stage := index $values.stages $key -}}
{{- $scaled := ne (dig "autoscaling" "by" "nothing" $stage) "nothing" -}}
{{- $count := ternary (dig "autoscaling" "maxReplicas" 0 $stage) $stage.replicas $scaled | int -}}
{{- if gt $count $most -}}
{{- $wrong = append $wrong (printf "stages.%s.%s is %d, more than settings.%s (%d): a process without a partition does nothing. Set at most %d, or raise settings.%s." $key (ternary "autoscaling.maxReplicas" "replicas" $scaled) $count $needs.partitions $most $most $needs.partitions) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $pods := dict "pod" $values.pod -}}
{{- range $key, $stage := $values.stages -}}
{{- $_ := set $pods (printf "stages.%s.pod" $key) $stage.pod -}}
{{- end -}}
{{- $least := include "scorm-webhooks.stopSeconds" . | int -}}
{{- range $place, $pod := $pods -}}
{{- with (default dict $pod).terminationGracePeriodSeconds -}}
{{- if lt (int .) $least -}}
{{- $wrong = append $wrong (printf "%s.terminationGracePeriodSeconds is %d: Kubernetes would kill a process that still finishes its requests. Set at least %d, or null." $place (int .) $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $stage := $values.stages -}}
{{- $scaling := default dict $stage.autoscaling -}}
{{- if and (ne (default "nothing" $scaling.by) "nothing") (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) -}}
{{- $wrong = append $wrong (printf "stages.%s.autoscaling.minReplicas is more than its maxReplicas: set at most %d." $key (int $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq (default "nothing" $scaling.by) "keda") $scaling.overdueSeconds (not $values.keda.prometheusAddress) -}}
{{- $wrong = append $wrong "keda.prometheusAddress is not set: give the URL of Prometheus, such as http://prometheus.example.com:9090." -}}
{{- end -}}
{{- if and (ne (default "nothing" $scaling.by) "nothing") (not $scaling.cpuPercent) (not $scaling.overdueSeconds) -}}
{{- $wrong = append $wrong (printf "stages.%s.autoscaling has nothing to scale by: set its cpuPercent." $key) -}}
{{- end -}}
{{- end -}}
{{- if and $values.stages.background.enabled (not (include "scorm-webhooks.inBackground" .)) -}}
{{- $wrong = append $wrong "stages.background runs nothing: none of the stages in stages.background.runs is enabled. Enable one, or set stages.background.enabled to false." -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n%s" (join "\n" $wrong)) -}}
{{- end -}}
{{- end }}
