{{/* Which Secret holds what: the operator's own, or the release's. */}}

{{- define "cogvideox.ownSecret" -}}
{{ include "cogvideox.fullname" . }}-secrets
{{- end -}}

{{- define "cogvideox.hasS3Keys" -}}
{{- $keys := .Values.store.s3.credentials -}}
{{- if and (eq .Values.store.type "s3") (or $keys.existingSecret $keys.accessKeyId) }}yes{{ end -}}
{{- end -}}

{{- define "cogvideox.s3Secret" -}}
{{- default (include "cogvideox.ownSecret" .) .Values.store.s3.credentials.existingSecret -}}
{{- end -}}

{{/* redis-url of the built-in Valkey lies in its own Secret. */}}
{{- define "cogvideox.redisSecret" -}}
{{- if .Values.valkey.enabled -}}
{{ include "cogvideox.fullname" . }}-valkey
{{- else -}}
{{ default (include "cogvideox.ownSecret" .) .Values.redis.existingSecret }}
{{- end -}}
{{- end -}}

{{- define "cogvideox.redisKey" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.key }}{{ else }}redis-url{{ end -}}
{{- end -}}

{{/* One source of a projected volume: {root, from: {value, existingSecret, key}, name}; what is not set is left out. */}}
{{- define "cogvideox.secretSource" -}}
{{- if .from.existingSecret }}
- secret:
    name: {{ .from.existingSecret }}
    items: [{key: {{ .from.key }}, path: {{ .name }}}]
{{- else if or .from.value .made }}
- secret:
    name: {{ include "cogvideox.ownSecret" .root }}
    items: [{key: {{ .name }}, path: {{ .name }}}]
{{- end }}
{{- end -}}

{{/* The worker never sees the master key or the link key. */}}
{{- define "cogvideox.workerSecretSources" -}}
- secret:
    name: {{ include "cogvideox.redisSecret" . }}
    items: [{key: {{ include "cogvideox.redisKey" . }}, path: redis-url}]
{{- if .Values.rewriter.url }}
{{- include "cogvideox.secretSource" (dict "root" . "from" .Values.rewriter.apiKey "name" "rewriter-key") }}
{{- end }}
{{- if .Values.moderation.url }}
{{- include "cogvideox.secretSource" (dict "root" . "from" .Values.moderation.apiKey "name" "moderation-key") }}
{{- end }}
{{- end -}}

{{- define "cogvideox.gatewaySecretSources" -}}
{{ include "cogvideox.workerSecretSources" . }}
{{- $made := .Values.valkey.enabled }}
{{- include "cogvideox.secretSource" (dict "root" . "from" .Values.keys.master "name" "master.key" "made" $made) }}
{{- include "cogvideox.secretSource" (dict "root" . "from" .Values.keys.link "name" "link.key" "made" $made) }}
{{- include "cogvideox.secretSource" (dict "root" . "from" .Values.keys.audit "name" "audit.key" "made" $made) }}
{{- end -}}

{{/* A key of a trial: kept from the Secret that is there, made once otherwise. Base64 either way. */}}
{{- define "cogvideox.keptKey" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $kept := "" -}}
{{- if $there -}}{{- $kept = get (default dict $there.data) .key -}}{{- end -}}
{{- default (randBytes 32) $kept -}}
{{- end -}}
