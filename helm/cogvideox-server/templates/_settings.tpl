{{/* The program's variables that gateway and workers share, as key: "value" lines. docs/configuration.md tells of each. */}}

{{- define "cogvideox.settings" -}}
COGVIDEOX_LOG_LEVEL: {{ .Values.logLevel | quote }}
COGVIDEOX_STATE: /var/lib/cogvideox
COGVIDEOX_PUBLIC_URL: {{ .Values.publicUrl | quote }}
COGVIDEOX_LINK_HOURS: {{ .Values.links.hours | quote }}
COGVIDEOX_LINKS: {{ .Values.links.mode }}
COGVIDEOX_LINK_DELIVERY: {{ .Values.links.delivery }}
{{- with .Values.links.base }}
COGVIDEOX_LINK_BASE: {{ . | quote }}
{{- end }}
{{- with .Values.audit.bucket }}
COGVIDEOX_AUDIT_S3_BUCKET: {{ . | quote }}
{{- end }}
COGVIDEOX_REDIS_URL_FILE: /run/secrets/cogvideox/redis-url
COGVIDEOX_LEASE_SECONDS: {{ .Values.leaseSeconds | quote }}
COGVIDEOX_ACCEPT_UNKNOWN_PROMPTS: {{ .Values.acceptUnknownPrompts | quote }}
{{- if .Values.catalogue }}
COGVIDEOX_CATALOGUE: /etc/cogvideox/catalogue/catalogue.toml
{{- end }}
{{- if hasKey .Values.configFiles "settings.toml" }}
COGVIDEOX_CONFIG: /etc/cogvideox/files/settings.toml
{{- end }}
{{- with .Values.rewriter }}
{{- with .localModel }}
COGVIDEOX_REWRITER_LOCAL_MODEL: {{ . | quote }}
{{- end }}
{{- if .url }}
COGVIDEOX_REWRITER_URL: {{ .url | quote }}
COGVIDEOX_REWRITER_MODEL: {{ .model | quote }}
COGVIDEOX_REWRITER_TIMEOUT_S: {{ .timeoutSeconds | quote }}
COGVIDEOX_REWRITER_RETRIES: {{ .retries | quote }}
{{- if or .apiKey.value .apiKey.existingSecret }}
COGVIDEOX_REWRITER_KEY_FILE: /run/secrets/cogvideox/rewriter-key
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.policyWords.paths }}
COGVIDEOX_POLICY_WORDS: {{ join "," . | quote }}
{{- end }}
{{- with .Values.moderation }}
{{- if .url }}
COGVIDEOX_MODERATION_URL: {{ .url | quote }}
COGVIDEOX_MODERATION_TIMEOUT_S: {{ .timeoutSeconds | quote }}
COGVIDEOX_MODERATION_FAILS: {{ .fails }}
COGVIDEOX_MODERATION_CHECKS: {{ join "," .checks | quote }}
COGVIDEOX_MODERATION_FRAMES: {{ .frames | quote }}
{{- if or .apiKey.value .apiKey.existingSecret }}
COGVIDEOX_MODERATION_KEY_FILE: /run/secrets/cogvideox/moderation-key
{{- end }}
{{- end }}
{{- end }}
COGVIDEOX_STORE: {{ .Values.store.type }}
{{- if eq .Values.store.type "s3" }}
{{- include "cogvideox.s3Settings" . }}
{{- end }}
{{- if .Values.tracing.enabled }}
COGVIDEOX_TRACING: "true"
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .Values.tracing.endpoint | quote }}
{{- end }}
{{- if .Values.offline }}
HF_HUB_OFFLINE: "1"
TRANSFORMERS_OFFLINE: "1"
{{- end }}
# The root is read-only: whatever a library caches goes to the state folder.
HOME: /var/lib/cogvideox
TMPDIR: /tmp
{{- end -}}

{{- define "cogvideox.s3Settings" -}}
{{- with .Values.store.s3 }}
COGVIDEOX_S3_BUCKET: {{ .bucket | quote }}
COGVIDEOX_S3_PATH_STYLE: {{ .pathStyle | quote }}
{{- range $name, $value := dict "PREFIX" .prefix "REGION" .region "ENDPOINT" .endpoint "PUBLIC_ENDPOINT" .publicEndpoint "SSE" .sse "SSE_KEY_ID" .sseKeyId "STORAGE_CLASS" .storageClass }}
{{- with $value }}
COGVIDEOX_S3_{{ $name }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .caBundle.existingSecret }}
COGVIDEOX_S3_CA_BUNDLE: /etc/cogvideox/s3-ca/{{ .caBundle.key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Bytes as mebibytes, rounded up, and one more: the proxy must let the gateway refuse what is too large. */}}
{{- define "cogvideox.proxyBodyMegabytes" -}}
{{- add 1 (ceil (divf (.Values.gateway.maxBodyBytes) 1048576)) -}}
{{- end -}}

{{/* The longest that a gateway may take to answer: a body's arrival and its turn (120 s), an image (50 s), two verdicts. */}}
{{- define "cogvideox.proxySeconds" -}}
{{- add 180 (ceil .Values.gateway.bodySeconds | int) (mul 2 (ceil .Values.moderation.timeoutSeconds | int)) -}}
{{- end -}}
