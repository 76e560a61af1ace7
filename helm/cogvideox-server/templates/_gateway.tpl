{{/* What only the gateway is told. */}}

{{- define "cogvideox.gatewayEnv" -}}
{{- $env := dict
  "HOST" "0.0.0.0"
  "PORT" "8000"
  "METRICS_PORT" (ternary "9100" "0" .Values.monitoring.metrics)
  "CHECKPOINT" .Values.gateway.checkpoint
  "PREFIX" .Values.gateway.prefix
  "MASTER_KEY_FILE" "/run/secrets/cogvideox/master.key"
  "LINK_KEY_FILE" "/run/secrets/cogvideox/link.key"
  "STRICT" (toString .Values.gateway.strict)
  "ALLOW_UNSAFE_REDIS" (toString .Values.redis.allowUnsafe)
  "MAX_PROMPT_CHARACTERS" (int64 .Values.gateway.maxPromptCharacters)
  "MAX_BODY_BYTES" (int64 .Values.gateway.maxBodyBytes)
  "BODY_SECONDS" .Values.gateway.bodySeconds
  "MAX_IMAGE_BYTES" (int64 .Values.gateway.maxImageBytes)
  "IMAGE_FETCH_SECONDS" .Values.gateway.imageFetchSeconds
  "IMAGE_ALLOW" (join "," .Values.gateway.imageAllow)
  "REFUSE_UNAVAILABLE" (toString .Values.gateway.refuseUnavailable)
-}}
{{- range $name, $value := $env }}
- name: COGVIDEOX_{{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}
