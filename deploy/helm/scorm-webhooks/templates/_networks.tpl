{{/* The paths of the API and the dashboard that the internet may see: all but /metrics and the probes. */}}
{{- define "scorm-webhooks.publicPaths" -}}
- {path: /, type: Exact}
{{- range list "/account" "/audit" "/choose-account" "/dead-letters" "/deliveries" "/docs" "/events" "/jobs" "/llms.txt" "/notifications" "/openapi.json" "/operator" "/runtime" "/sign-in" "/sign-out" "/static" "/theme" "/usage" "/v1" "/webhooks" "/zone" }}
- {path: {{ . }}, type: Prefix}
{{- end }}
{{- end }}

{{/* Networks that are not public: the table of streams/core/webhooks/address.py. */}}
{{- define "scorm-webhooks.privateNetworks" -}}
ipv4: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16/32, 169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.31.196.0/24, 192.52.193.0/24, 192.88.99.0/24, 192.168.0.0/16, 192.175.48.0/24, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/4, 240.0.0.0/4]
ipv6: ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3ffe::/16", "3fff::/20"]
{{- end }}

{{/* Egress rules of a process with these needs. Without `to`, a rule allows every destination on its ports. */}}
{{- define "scorm-webhooks.egress" -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- if .needs.kafka }}
- ports:
    {{- range default (include "scorm-webhooks.portsOf" .root.Values.kafka.bootstrapServers | fromYamlArray) $policy.kafka.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $policy.kafka.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if and .needs.kafka (or .root.Values.kafka.oauth.enabled .root.Values.kafka.msk.region) }}
{{- $kafka := .root.Values.kafka }}
{{- $url := urlParse (ternary $kafka.oauth.tokenEndpointUrl "https://sts.amazonaws.com" $kafka.oauth.enabled) }}
- ports:
    - {protocol: TCP, port: {{ default (ternary "443" "80" (eq $url.scheme "https")) (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host)) }}}
{{- end }}
{{- if .needs.database }}
- ports:
    {{- range $policy.database.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $policy.database.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- if and .needs.registry .root.Values.schemaRegistry.url }}
{{- $url := urlParse .root.Values.schemaRegistry.url }}
- ports:
    - {protocol: TCP, port: {{ default (ternary "443" "80" (eq $url.scheme "https")) (regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host)) }}}
{{- end }}
{{- if and .needs.internet .root.Values.settings.egressProxy }}
- ports:
    - {protocol: TCP, port: {{ regexFind "[0-9]+$" .root.Values.settings.egressProxy }}}
{{- else if .needs.internet }}
{{- include "scorm-webhooks.internet" .root }}
{{- end }}
{{- if and .needs.mail .root.Values.smtp.existingSecret }}
- ports:
    {{- range $policy.smtpPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- if and .needs.signIn .root.Values.settings.oidcIssuer }}
- ports:
    - {protocol: TCP, port: 443}
{{- end }}
{{- with $policy.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "scorm-webhooks.internet" -}}
{{- $private := include "scorm-webhooks.privateNetworks" . | fromYaml }}
- ports:
    {{- range .Values.networkPolicy.endpointPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: {{ toJson $private.ipv4 }}
    - ipBlock:
        cidr: 2000::/3
        except: {{ toJson $private.ipv6 }}
{{- with .Values.settings.allowedNetworks }}
- to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end }}
{{- end }}

{{- define "scorm-webhooks.portsOf" -}}
{{- $ports := list -}}
{{- range splitList "," . }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int) }}{{ end -}}
{{- $ports | uniq | toYaml -}}
{{- end }}

{{- define "scorm-webhooks.dns" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
