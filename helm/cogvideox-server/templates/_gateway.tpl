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
  "AUDIT_KEY_FILE" "/run/secrets/cogvideox/audit.key"
  "AUDIT_PROMPTS" .Values.audit.prompts
  "AUDIT_CHECKPOINT_SECONDS" .Values.audit.checkpointSeconds
  "AUDIT_BACKLOG" (int64 .Values.audit.backlog)
  "STRICT" (toString .Values.gateway.strict)
  "ALLOW_UNSAFE_REDIS" (toString .Values.redis.allowUnsafe)
  "MAX_PROMPT_CHARACTERS" (int64 .Values.gateway.maxPromptCharacters)
  "MAX_BODY_BYTES" (int64 .Values.gateway.maxBodyBytes)
  "BODY_SECONDS" .Values.gateway.bodySeconds
  "MAX_IMAGE_BYTES" (int64 .Values.gateway.maxImageBytes)
  "IMAGE_FETCH_SECONDS" .Values.gateway.imageFetchSeconds
  "IMAGE_ALLOW" (join "," .Values.gateway.imageAllow)
  "REFUSE_UNAVAILABLE" (toString .Values.gateway.refuseUnavailable)
  "MAX_TENANT_IMAGES" (int .Values.gateway.maxTenantImages)
  "IMAGE_WEBP" (toString .Values.gateway.imageWebp)
  "MAX_SIZE" .Values.gateway.maxSize
  "MAX_DURATION" (int .Values.gateway.maxDuration)
  "OFFER_AUDIO" (toString .Values.gateway.offerAudio)
  "MAX_WAIT_SECONDS" (int64 .Values.gateway.maxWaitSeconds)
  "START_WITHIN_S" (int64 .Values.gateway.startWithinSeconds)
  "RUN_LIMIT_S" (int64 .Values.gateway.runLimitSeconds)
  "RETENTION_DAYS" .Values.gateway.retentionDays
  "CORS_ORIGINS" (join "," .Values.gateway.corsOrigins)
  "TRUSTED_PROXIES" (join "," .Values.gateway.trustedProxies)
  "ADMIN_PORT" (int .Values.gateway.adminPort)
-}}
{{- if .Values.tenants -}}
{{- $_ := set $env "TENANTS_FILE" "/etc/cogvideox/tenants/tenants.yaml" -}}
{{- end -}}
{{- range $name, $value := $env }}
- name: COGVIDEOX_{{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}
