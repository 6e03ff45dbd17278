{{/*
What each process needs. `static`: a StatefulSet, whose pods keep their names in Kafka's group while they restart.
`partitions`: the setting that bounds how many processes share the work.
*/}}

{{- define "scorm-webhooks.stages" -}}
fanOut: {kafka: true, registry: true, static: true, partitions: eventPartitions}
deliver: {kafka: true, database: true, encryption: true, internet: true, static: true, partitions: deliveryPartitions}
record: {kafka: true, database: true, encryption: true, partitions: deliveryPartitions}
publish: {kafka: true, registry: true, database: true, encryption: true}
maintain: {kafka: true, registry: true, database: true, encryption: true}
meter: {kafka: true, registry: true, database: true, partitions: eventPartitions}
notify: {database: true, encryption: true, mail: true}
background: {kafka: true, registry: true, database: true, encryption: true, mail: true}
api: {kafka: true, registry: true, database: true, encryption: true, signIn: true, http: true}
{{- end }}

{{/* The Jobs before an install and an upgrade, in the order of their weights. */}}
{{- define "scorm-webhooks.jobs" -}}
{{- if eq .Values.topics.managedBy "job" }}
topics-apply: {kafka: true, command: [topics, apply], weight: "-2"}
{{- end }}
{{- if .Values.database.upgrade }}
db-upgrade: {database: true, owner: true, command: [db, upgrade{{ with .Values.database.grantTo }}, --grant-to, {{ . | quote }}{{ end }}], weight: "-1"}
{{- end }}
{{- end }}

{{/* "true" if a key of `stages` has pods of its own: it is enabled, and `background` does not run it. */}}
{{- define "scorm-webhooks.hasPods" -}}
{{- $background := .root.Values.stages.background -}}
{{- $isInBackground := and $background.enabled (has .key $background.runs) -}}
{{- if and (index .root.Values.stages .key).enabled (not $isInBackground) }}true{{ end -}}
{{- end }}

{{/* The stages that `background` runs, with commas between them. */}}
{{- define "scorm-webhooks.inBackground" -}}
{{- $found := list -}}
{{- range .Values.stages.background.runs }}{{ if (index $.Values.stages .).enabled }}{{ $found = append $found . }}{{ end }}{{ end -}}
{{- join "," $found -}}
{{- end }}

{{/* The stage of a key of `stages`: its name, what it needs, and its values with those of `pod` as defaults. */}}
{{- define "scorm-webhooks.stage" -}}
{{- $stage := index .root.Values.stages .key -}}
{{- $needs := index (include "scorm-webhooks.stages" .root | fromYaml) .key -}}
{{- $pod := mustMergeOverwrite (deepCopy .root.Values.pod) (deepCopy (default dict $stage.pod)) -}}
{{- range $list := list "extraEnv" "extraVolumes" "extraVolumeMounts" -}}
{{- $_ := set $pod $list (concat (index $.root.Values.pod $list) (default list (index (default dict $stage.pod) $list))) -}}
{{- end -}}
{{- $by := dig "autoscaling" "by" "nothing" $stage -}}
{{- $command := list (kebabcase .key) -}}
{{- if eq .key "background" }}{{ $command = list "run" "--stages" (include "scorm-webhooks.inBackground" .root) }}{{ end -}}
{{- dict "name" (kebabcase .key) "command" $command "needs" $needs "values" $stage "pod" $pod "autoscaledBy" $by
  "static" (and (default false $needs.static) (eq $by "nothing")) | toYaml -}}
{{- end }}

{{/* Which ConfigMaps, Secrets and files each process gets, in order. An entry without a name is left out. */}}
{{- define "scorm-webhooks.secretVariables" -}}
{{- $values := .root.Values -}}
{{- $needs := .needs -}}
{{- $found := list -}}
{{- if $needs.encryption -}}
{{- $found = append $found (dict "variable" "SCORM_WEBHOOKS_ENCRYPTION_KEYS" "secret" $values.encryptionKeys.existingSecret "key" $values.encryptionKeys.key) -}}
{{- end -}}
{{- if $needs.database -}}
{{- $database := $values.database -}}
{{- if and $needs.owner $database.owner.existingSecret }}{{ $database = $database.owner }}{{ end -}}
{{- $found = append $found (dict "variable" "DATABASE_URL" "secret" $database.existingSecret "key" $database.key) -}}
{{- end -}}
{{- if $needs.mail -}}
{{- $found = append $found (dict "variable" "SMTP_URL" "secret" $values.smtp.existingSecret "key" $values.smtp.key) -}}
{{- end -}}
{{- if $needs.signIn -}}
{{- $found = append $found (dict "variable" "SCORM_WEBHOOKS_OPERATOR_KEYS" "secret" $values.operatorKeys.existingSecret "key" $values.operatorKeys.key) -}}
{{- $found = append $found (dict "variable" "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET" "secret" $values.oidcClientSecret.existingSecret "key" $values.oidcClientSecret.key) -}}
{{- end -}}
{{- if $needs.internet -}}
{{- $found = append $found (dict "variable" "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS" "secret" $values.egressProxyCredentials.existingSecret "key" $values.egressProxyCredentials.key) -}}
{{- end -}}
{{- if and $needs.kafka $values.kafka.sasl.enabled -}}
{{- $sasl := $values.kafka.sasl -}}
{{- if not $sasl.username -}}
{{- $found = append $found (dict "variable" "KAFKA_CONFIG_SASL_USERNAME" "secret" $sasl.existingSecret "key" $sasl.usernameKey) -}}
{{- end -}}
{{- $found = append $found (dict "variable" "KAFKA_CONFIG_SASL_PASSWORD" "secret" $sasl.existingSecret "key" $sasl.passwordKey) -}}
{{- end -}}
{{- if and $needs.kafka $values.kafka.oauth.enabled -}}
{{- $oauth := $values.kafka.oauth -}}
{{- if not $oauth.clientId -}}
{{- $found = append $found (dict "variable" "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_ID" "secret" $oauth.existingSecret "key" $oauth.clientIdKey) -}}
{{- end -}}
{{- $found = append $found (dict "variable" "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET" "secret" $oauth.existingSecret "key" $oauth.clientSecretKey) -}}
{{- end -}}
{{- if $needs.registry -}}
{{- $found = append $found (dict "variable" "SCHEMA_REGISTRY_CONFIG_BASIC_AUTH_USER_INFO" "secret" $values.schemaRegistry.existingSecret "key" $values.schemaRegistry.key) -}}
{{- end -}}
{{- $set := list -}}
{{- range $found }}{{ if .secret }}{{ $set = append $set . }}{{ end }}{{ end -}}
{{- dict "found" $set | toYaml -}}
{{- end }}

{{- define "scorm-webhooks.mountedFiles" -}}
{{- $values := .root.Values -}}
{{- $needs := .needs -}}
{{- $found := list -}}
{{- if and $needs.kafka $values.kafka.tls.enabled -}}
{{- $tls := $values.kafka.tls -}}
{{- $found = append $found (dict "volume" "kafka-ca" "secret" $tls.ca.existingSecret "files" (dict "ca.crt" $tls.ca.key)) -}}
{{- $found = append $found (dict "volume" "kafka-client" "secret" $tls.client.existingSecret "files" (dict "tls.crt" $tls.client.certificateKey "tls.key" $tls.client.privateKeyKey)) -}}
{{- end -}}
{{- if and $needs.kafka $values.kafka.oauth.enabled -}}
{{- $ca := $values.kafka.oauth.ca -}}
{{- $found = append $found (dict "volume" "kafka-oauth-ca" "secret" $ca.existingSecret "files" (dict "ca.crt" $ca.key)) -}}
{{- end -}}
{{- if $needs.database -}}
{{- $tls := $values.database.tls -}}
{{- $found = append $found (dict "volume" "database-ca" "secret" $tls.ca.existingSecret "files" (dict "ca.crt" $tls.ca.key)) -}}
{{- $found = append $found (dict "volume" "database-client" "secret" $tls.client.existingSecret "files" (dict "tls.crt" $tls.client.certificateKey "tls.key" $tls.client.privateKeyKey)) -}}
{{- end -}}
{{- $found = append $found (dict "volume" "trusted-certificates" "configMap" $values.trustedCertificates.configMap "files" (dict "ca.crt" $values.trustedCertificates.key)) -}}
{{- if $needs.http -}}
{{- $found = append $found (dict "volume" "brand-logo" "configMap" $values.brandLogo.configMap "files" (dict $values.brandLogo.key $values.brandLogo.key)) -}}
{{- end -}}
{{- $set := list -}}
{{- range $found }}{{ if or .secret .configMap }}{{ $set = append $set . }}{{ end }}{{ end -}}
{{- dict "found" $set | toYaml -}}
{{- end }}
