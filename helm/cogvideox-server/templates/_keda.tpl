{{/* How KEDA sees the queue. The names of the keys are the program's (video_jobs/keys.py); a test compares. */}}

{{- define "cogvideox.waitingKey" -}}{cogvideox}:waiting:1:{{ . }}{{- end -}}
{{- define "cogvideox.leasesKey" -}}{cogvideox}:leases{{- end -}}

{{/* Address, TLS, user and database as JSON: said, or read from the URL, or the built-in Valkey's. */}}
{{- define "cogvideox.kedaRedis" -}}
{{- $said := .Values.keda.redis -}}
{{- if .Values.valkey.enabled -}}
{{- dict "address" (printf "%s-valkey.%s.svc:6379" (include "cogvideox.fullname" .) .Release.Namespace) "tls" false "username" "" "database" 0 "sentinelMaster" "" | toJson -}}
{{- else if or $said.address (not .Values.redis.url) .Values.redis.existingSecret -}}
{{- pick $said "address" "tls" "username" "database" "sentinelMaster" | toJson -}}
{{- else -}}
{{- $url := urlParse .Values.redis.url -}}
{{- $host := ternary $url.host (printf "%s:6379" $url.host) (contains ":" (regexReplaceAll "\\[.*\\]" $url.host "")) -}}
{{- $user := $url.userinfo | splitList ":" | first -}}
{{- dict "address" $host "tls" (eq $url.scheme "rediss") "username" $user "database" (default 0 (trimPrefix "/" $url.path) | int) "sentinelMaster" "" | toJson -}}
{{- end -}}
{{- end -}}

{{/* The password's place: {secret, key} as JSON, empty where there is none. */}}
{{- define "cogvideox.kedaPassword" -}}
{{- if .Values.valkey.enabled -}}
{{- dict "secret" (printf "%s-valkey" (include "cogvideox.fullname" .)) "key" "password" | toJson -}}
{{- else if .Values.keda.redis.passwordSecret -}}
{{- dict "secret" .Values.keda.redis.passwordSecret "key" .Values.keda.redis.passwordKey | toJson -}}
{{- else if .Values.keda.redis.password -}}
{{- dict "secret" (include "cogvideox.ownSecret" .) "key" "keda-redis-password" | toJson -}}
{{- end -}}
{{- end -}}

{{/* One Redis trigger: {root, name, key}. KEDA's script counts sorted sets as well as lists. */}}
{{- define "cogvideox.redisTrigger" -}}
{{- $redis := include "cogvideox.kedaRedis" .root | fromJson -}}
- name: {{ .name }}
  type: {{ ternary "redis-sentinel" "redis" (ne $redis.sentinelMaster "") }}
  metadata:
    {{ ternary "addresses" "address" (ne $redis.sentinelMaster "") }}: {{ $redis.address | quote }}
    {{- with $redis.sentinelMaster }}
    sentinelMaster: {{ . | quote }}
    {{- end }}
    {{- with $redis.username }}
    username: {{ . | quote }}
    {{- end }}
    enableTLS: {{ $redis.tls | quote }}
    databaseIndex: {{ $redis.database | int | quote }}
    listName: {{ .key | quote }}
    listLength: "1"
  {{- if or (include "cogvideox.kedaPassword" .root) .root.Values.redis.caBundle.existingSecret }}
  authenticationRef:
    name: {{ include "cogvideox.fullname" .root }}-redis
  {{- end }}
{{- end -}}

{{/* Leases of the route hold the jobs of its fixed pools too: as many as these take are not this pool's business. */}}
{{- define "cogvideox.formula" -}}
{{- $fixed := 0 -}}
{{- if not .root.Values.keda.prometheus.serverAddress -}}
{{- range include "cogvideox.pools" .root | fromJsonArray -}}
{{- if and (eq .checkpoint $.pool.checkpoint) (not .autoscaling.enabled) -}}
{{- $fixed = add $fixed (int .replicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $fixed -}}max(waiting + running - {{ $fixed }}, 0){{- else -}}waiting + running{{- end -}}
{{- end -}}

{{/* Jobs in the hands of this pool: by its own workers' metrics, or every lease where one route is all there is. */}}
{{- define "cogvideox.runningTrigger" -}}
{{- if .root.Values.keda.prometheus.serverAddress -}}
- name: running
  type: prometheus
  metadata:
    serverAddress: {{ .root.Values.keda.prometheus.serverAddress | quote }}
    query: {{ printf "sum(cogvideox_worker_jobs{namespace=%q,pool=%q}) or vector(0)" .root.Release.Namespace .pool.name | quote }}
    threshold: "1"
    ignoreNullValues: "false"
{{- else -}}
{{ include "cogvideox.redisTrigger" (dict "root" .root "name" "running" "key" (include "cogvideox.leasesKey" .)) }}
{{- end -}}
{{- end -}}
