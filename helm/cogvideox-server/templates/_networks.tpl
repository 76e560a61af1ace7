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

{{/* A worker downloads where its own first container fills the cache, or its model is a hub id or a checkpoint's name. */}}
{{- define "cogvideox.workersFetch" -}}
{{- include "cogvideox.fetchesInPod" . -}}
{{- range include "cogvideox.pools" . | fromJsonArray -}}
{{- if include "cogvideox.downloads" . }}yes{{ end -}}
{{- end -}}
{{- end -}}
