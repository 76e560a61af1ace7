{{/* Pieces of NetworkPolicies. Policies name addresses, not hosts: where you name none, the port alone is the rule. */}}

{{- define "cogvideox.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{/* {to, ports} as one egress rule. */}}
{{- define "cogvideox.egress" -}}
- ports:
    {{- range .ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .to }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "cogvideox.redisEgress" -}}
{{- if .Values.valkey.enabled }}
- ports:
    - {protocol: TCP, port: 6379}
  to:
    - podSelector:
        matchLabels: {{- include "cogvideox.selector" (dict "root" . "component" "valkey") | nindent 10 }}
{{- else }}
{{ include "cogvideox.egress" .Values.networkPolicy.redis }}
{{- end }}
{{- end -}}

{{- define "cogvideox.storeEgress" -}}
{{- if eq .Values.store.type "s3" }}
{{ include "cogvideox.egress" .Values.networkPolicy.store }}
{{- end }}
{{- end -}}

{{/* {root, port, from}: from nobody said means everybody in the cluster. */}}
{{- define "cogvideox.monitoringIngress" -}}
- ports:
    - {protocol: TCP, port: 9100}
  from:
    {{- if .Values.networkPolicy.monitoring }}
    {{- toYaml .Values.networkPolicy.monitoring | nindent 4 }}
    {{- else }}
    - namespaceSelector: {}
    {{- end }}
{{- end -}}

{{/* A worker whose model is a hub id downloads it itself. */}}
{{- define "cogvideox.workersFetch" -}}
{{- if and .Values.weights.items (ne .Values.modelCache.type "image") }}yes{{ end -}}
{{- range include "cogvideox.pools" . | fromJsonArray -}}
{{- if and (contains "/" .model) (not (hasPrefix "/" .model)) }}yes{{ end -}}
{{- end -}}
{{- end -}}
