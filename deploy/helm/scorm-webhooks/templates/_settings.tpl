{{/* A value as the environment takes it. Helm reads every number as a float: 1000000 must not become 1e+06. */}}
{{- define "scorm-webhooks.text" -}}
{{- if kindIs "invalid" . -}}
{{- else if kindIs "slice" . -}}
{{ join "," . }}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ printf "%.0f" . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* Variables that are no secrets, as a map. A value that is empty or null is left out. */}}
{{- define "scorm-webhooks.variables" -}}
{{- $found := dict -}}
{{- range $name, $value := .Values.settings -}}
{{- if not (hasPrefix "oidc" $name) -}}
{{- $_ := set $found (include "scorm-webhooks.variable" $name) (include "scorm-webhooks.text" $value) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $found "SCORM_WEBHOOKS_HEALTH_HOST" .Values.listenAddress -}}
{{- $_ := set $found "SCORM_WEBHOOKS_HEALTH_PORT" "9090" -}}
{{- if .Values.trustedCertificates.configMap -}}
{{- $_ := set $found "SCORM_WEBHOOKS_CA_FILE" "/etc/scorm-webhooks/trusted-certificates/ca.crt" -}}
{{- end -}}
{{- $_ := set $found "SCHEMA_REGISTRY_URL" .Values.schemaRegistry.url -}}
{{- $found = merge $found (include "scorm-webhooks.kafkaVariables" . | fromYaml) (include "scorm-webhooks.databaseVariables" . | fromYaml) -}}
{{- include "scorm-webhooks.present" $found -}}
{{- end }}

{{/* Variables of `api` alone: the settings of OpenID Connect need its secret, which no other process gets. */}}
{{- define "scorm-webhooks.apiVariables" -}}
{{- $found := dict "SCORM_WEBHOOKS_API_HOST" .Values.listenAddress "SCORM_WEBHOOKS_API_PORT" "8080" -}}
{{- range $name, $value := .Values.settings -}}
{{- if hasPrefix "oidc" $name -}}
{{- $_ := set $found (include "scorm-webhooks.variable" $name) (include "scorm-webhooks.text" $value) -}}
{{- end -}}
{{- end -}}
{{- if not .Values.settings.oidcIssuer -}}
{{- $found = pick $found "SCORM_WEBHOOKS_API_HOST" "SCORM_WEBHOOKS_API_PORT" -}}
{{- end -}}
{{- if .Values.smtp.existingSecret -}}
{{- /* `api` does not get the Secret itself. */ -}}
{{- $_ := set $found "SCORM_WEBHOOKS_SENDS_MAIL" "true" -}}
{{- end -}}
{{- if .Values.brandLogo.configMap -}}
{{- $_ := set $found "SCORM_WEBHOOKS_BRAND_LOGO" (printf "/etc/scorm-webhooks/brand-logo/%s" .Values.brandLogo.key) -}}
{{- end -}}
{{- include "scorm-webhooks.present" $found -}}
{{- end }}

{{- define "scorm-webhooks.variable" -}}
SCORM_WEBHOOKS_{{ snakecase . | upper }}
{{- end }}

{{- define "scorm-webhooks.present" -}}
{{- $present := dict -}}
{{- range $name, $value := . }}{{ if $value }}{{ $_ := set $present $name $value }}{{ end }}{{ end -}}
{{- toYaml $present -}}
{{- end }}

{{- define "scorm-webhooks.kafkaVariables" -}}
{{- $kafka := .Values.kafka -}}
{{- $config := dict -}}
{{- $signsIn := or $kafka.sasl.enabled $kafka.oauth.enabled -}}
{{- $protocol := ternary (ternary "SASL_SSL" "SSL" $signsIn) (ternary "SASL_PLAINTEXT" "PLAINTEXT" $signsIn) $kafka.tls.enabled -}}
{{- if and (ne $protocol "PLAINTEXT") (not $kafka.msk.region) -}}
{{- $_ := set $config "security.protocol" $protocol -}}
{{- end -}}
{{- if $kafka.sasl.enabled -}}
{{- $_ := set $config "sasl.mechanism" $kafka.sasl.mechanism -}}
{{- with $kafka.sasl.username }}{{ $_ := set $config "sasl.username" . }}{{ end -}}
{{- end -}}
{{- if $kafka.oauth.enabled -}}
{{- $config = merge $config (include "scorm-webhooks.oauthProperties" $kafka.oauth | fromYaml) -}}
{{- end -}}
{{- if and $kafka.tls.enabled $kafka.tls.ca.existingSecret -}}
{{- $_ := set $config "ssl.ca.location" "/etc/scorm-webhooks/kafka-ca/ca.crt" -}}
{{- end -}}
{{- if and $kafka.tls.enabled $kafka.tls.client.existingSecret -}}
{{- $_ := set $config "ssl.certificate.location" "/etc/scorm-webhooks/kafka-client/tls.crt" -}}
{{- $_ := set $config "ssl.key.location" "/etc/scorm-webhooks/kafka-client/tls.key" -}}
{{- end -}}
{{- $found := dict "KAFKA_BOOTSTRAP_SERVERS" $kafka.bootstrapServers "KAFKA_MSK_REGION" $kafka.msk.region "KAFKA_MSK_ROLE_ARN" $kafka.msk.roleArn -}}
{{- range $name, $value := merge (deepCopy $kafka.config) $config -}}
{{- $_ := set $found (printf "KAFKA_CONFIG_%s" ($name | replace "." "_" | upper)) (include "scorm-webhooks.text" $value) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{/* librdkafka's properties for tokens, without secrets. */}}
{{- define "scorm-webhooks.oauthProperties" -}}
{{- $properties := dict "sasl.mechanism" "OAUTHBEARER" "sasl.oauthbearer.method" "oidc" -}}
{{- $_ := set $properties "sasl.oauthbearer.token.endpoint.url" .tokenEndpointUrl -}}
{{- with .clientId }}{{ $_ := set $properties "sasl.oauthbearer.client.id" . }}{{ end -}}
{{- with .scope }}{{ $_ := set $properties "sasl.oauthbearer.scope" . }}{{ end -}}
{{- with .extensions }}{{ $_ := set $properties "sasl.oauthbearer.extensions" . }}{{ end -}}
{{- if .ca.existingSecret }}{{ $_ := set $properties "https.ca.location" "/etc/scorm-webhooks/kafka-oauth-ca/ca.crt" }}{{ end -}}
{{- toYaml $properties -}}
{{- end }}

{{/* libpq, PostgreSQL's client library, reads these. */}}
{{- define "scorm-webhooks.databaseVariables" -}}
{{- $tls := .Values.database.tls -}}
{{- $found := dict -}}
{{- with $tls.mode }}{{ $_ := set $found "PGSSLMODE" . }}{{ end -}}
{{- if $tls.ca.existingSecret -}}
{{- $_ := set $found "PGSSLROOTCERT" "/etc/scorm-webhooks/database-ca/ca.crt" -}}
{{- end -}}
{{- if $tls.client.existingSecret -}}
{{- $_ := set $found "PGSSLCERT" "/etc/scorm-webhooks/database-client/tls.crt" -}}
{{- $_ := set $found "PGSSLKEY" "/etc/scorm-webhooks/database-client/tls.key" -}}
{{- end -}}
{{- toYaml $found -}}
{{- end }}

{{/*
The ConfigMap is named by its content. A new release has a new one, and processes of the old release that restart during
an upgrade keep theirs: a setting that they do not know would stop them.
*/}}
{{- define "scorm-webhooks.configMapName" -}}
{{ include "scorm-webhooks.fullname" . }}-settings-{{ include "scorm-webhooks.variables" . | sha256sum | trunc 10 }}
{{- end }}
