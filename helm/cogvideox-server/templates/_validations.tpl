{{/* One line for each problem. A line says what is wrong and what to set. */}}

{{- define "cogvideox.problems" -}}
{{- include "cogvideox.redisProblems" . -}}
{{- include "cogvideox.keyProblems" . -}}
{{- include "cogvideox.storeProblems" . -}}
{{- include "cogvideox.entryProblems" . -}}
{{- include "cogvideox.poolProblems" . -}}
{{- include "cogvideox.cacheProblems" . -}}
{{- include "cogvideox.scalingProblems" . -}}
{{- end -}}

{{- define "cogvideox.redisProblems" -}}
{{- $given := len (compact (list .Values.redis.url .Values.redis.existingSecret (ternary "yes" "" .Values.valkey.enabled))) -}}
{{- if eq $given 0 }}
- No Redis: set redis.existingSecret (a Secret with the key "redis-url") or redis.url; for a trial set valkey.enabled=true.
{{- else if gt $given 1 }}
- Several Redis: set only one of redis.url, redis.existingSecret and valkey.enabled.
{{- end }}
{{- end -}}

{{- define "cogvideox.keyProblems" -}}
{{- if not .Values.valkey.enabled -}}
{{- range $name, $key := .Values.keys -}}
{{- if not (or $key.value $key.existingSecret) }}
- No {{ $name }} key: run `head -c 32 /dev/urandom > {{ $name }}.key && kubectl create secret generic cogvideox-{{ $name }} --from-file={{ $name }}.key` and set keys.{{ $name }}.existingSecret=cogvideox-{{ $name }}. Keep a copy elsewhere.
{{- end }}
{{- end -}}
{{- end -}}
{{- range $name, $key := .Values.keys -}}
{{- if and $key.value (ne (len (b64dec $key.value)) 32) }}
- keys.{{ $name }}.value is not base64 of 32 bytes: make one with `openssl rand -base64 32`.
{{- end }}
{{- end -}}
{{- end -}}

{{- define "cogvideox.storeProblems" -}}
{{- $keys := .Values.store.s3.credentials -}}
{{- if and (eq .Values.links.mode "public") (not .Values.links.base) }}
- links.mode is public without a base: set links.base to the URL under which the bucket's keys can be read.
{{- end }}
{{- if and (eq .Values.links.mode "public") (not .Values.audit.bucket) }}
- links.mode is public, and the audit would lie in the same bucket for anyone to read: set audit.bucket.
{{- end }}
{{- if and (has .Values.links.mode (list "presigned" "public")) (ne .Values.store.type "s3") }}
- links.mode is {{ .Values.links.mode }}, but there is no bucket: set store.type=s3, or links.mode=auto.
{{- end }}
{{- if and .Values.store.s3.sseKeyId (ne .Values.store.s3.sse "aws:kms") }}
- store.s3.sseKeyId without KMS: set store.s3.sse=aws:kms.
{{- end }}
{{- if eq .Values.store.type "s3" -}}
{{- if not .Values.store.s3.bucket }}
- store.type is s3 without a bucket: set store.s3.bucket, or store.type=folder.
{{- end }}
{{- if ne (empty $keys.accessKeyId) (empty $keys.secretAccessKey) }}
- Half a pair of S3 keys: set both store.s3.credentials.accessKeyId and secretAccessKey, or existingSecret, or neither with IRSA.
{{- end }}
{{- else if and (eq .Values.store.folder.accessMode "ReadWriteOnce") (or (gt (int .Values.gateway.replicas) 1) .Values.gateway.autoscaling.enabled) }}
- Several gateways on a ReadWriteOnce volume: set store.folder.accessMode=ReadWriteMany, or store.type=s3, or gateway.replicas=1.
{{- end }}
{{- end -}}

{{- define "cogvideox.entryProblems" -}}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (contains "127.0.0.1" .Values.publicUrl) }}
- Result links would point at {{ .Values.publicUrl }}: set publicUrl to what clients reach the gateway by, for instance https://video.example.com.
{{- end }}
{{- if and (or .Values.ingress.enabled .Values.httpRoute.enabled) (not .Values.gateway.prefix) (not .Values.gateway.adminPort) }}
- Without a prefix everything is let in, the operators' API too: set gateway.adminPort to a port of its own, or gateway.prefix.
{{- end }}
{{- if hasKey (fromYaml .Values.tenants) "Error" }}
- tenants is not YAML: {{ get (fromYaml .Values.tenants) "Error" }}. Correct it; gateways would go on with what they knew.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
- ingress.enabled without a host: set ingress.hosts.
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
- httpRoute.enabled without a Gateway: set httpRoute.parentRefs.
{{- end }}
{{- if and .Values.tracing.enabled (not .Values.tracing.endpoint) }}
- tracing.enabled without a collector: set tracing.endpoint to its OTLP address over HTTP, for instance http://collector:4318.
{{- end }}
{{- if and .Values.rewriter.url .Values.rewriter.localModel }}
- Two rewriters: set only one of rewriter.url and rewriter.localModel.
{{- end }}
{{- $needed := add (int .Values.gateway.preStopSeconds) 12 -}}
{{- if lt (int64 .Values.gateway.terminationGracePeriodSeconds) $needed }}
- Gateways would be killed while they serve: set gateway.terminationGracePeriodSeconds to at least {{ $needed }} (preStopSeconds + 12).
{{- end }}
{{- end -}}

{{- define "cogvideox.poolProblems" -}}
{{- $names := list -}}
{{- $routes := list -}}
{{- range include "cogvideox.pools" . | fromJsonArray -}}
{{- if has .name $names }}
- Two pools are called {{ .name }}: give each its own name.
{{- end }}
{{- if has .name (list "gateway" "valkey" "worker" "weights" "default" "test" "models" "results") }}
- A pool cannot be called {{ .name }}: the chart's own objects have that name.
{{- end }}
{{- $names = append $names .name -}}
{{- $routes = append $routes .checkpoint -}}
{{- if and (eq .device "cuda") (not .gpu.count) }}
- Pool {{ .name }} renders on cuda without a GPU: set its gpu.count=1, or device=auto.
{{- end }}
{{- if and (hasPrefix "/" .model) (eq $.Values.modelCache.type "none") (not .extraVolumes) }}
- Pool {{ .name }} loads {{ .model }}, but no model cache is mounted: set modelCache.type (pvc, existingClaim, hostPath, emptyDir or image).
{{- end }}
{{- if and $.Values.offline (include "cogvideox.downloads" .) }}
- Pool {{ .name }} would download {{ .model }}, but offline is set: give it a folder below modelCache.mountPath.
{{- end }}
{{- end -}}
{{- if not (has .Values.gateway.checkpoint $routes) }}
- Nobody would render new jobs: gateway.checkpoint is {{ .Values.gateway.checkpoint }}, the pools serve {{ join ", " $routes }}. Set gateway.checkpoint to one of these, or add a pool.
{{- end }}
{{- end -}}

{{- define "cogvideox.cacheProblems" -}}
{{- $cache := .Values.modelCache -}}
{{- if and (eq $cache.type "existingClaim") (not $cache.existingClaim) }}
- modelCache.type is existingClaim without a claim: set modelCache.existingClaim.
{{- end }}
{{- if and (eq $cache.type "hostPath") (not $cache.hostPath) }}
- modelCache.type is hostPath without a folder: set modelCache.hostPath.
{{- end }}
{{- if eq $cache.type "image" -}}
{{- if not (contains "@sha256:" $cache.image) }}
- modelCache.type is image without a digest: set modelCache.image to REPOSITORY@sha256:….
{{- end }}
{{- if semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version }}
- Image volumes need Kubernetes 1.33 or newer, this is {{ .Capabilities.KubeVersion.Version }}: set modelCache.type to pvc or hostPath.
{{- end }}
{{- end -}}
{{- if and (has $cache.type (list "pvc" "emptyDir")) (not .Values.weights.items) }}
- modelCache.type is {{ $cache.type }}, but nothing fills it: set weights.items, or use existingClaim or image.
{{- end }}
{{- if and .Values.weights.items (has $cache.type (list "none" "image")) }}
- weights.items is set, but modelCache.type={{ $cache.type }} has no room for them: set modelCache.type to pvc, existingClaim, hostPath or emptyDir.
{{- end }}
{{- if and .Values.offline .Values.weights.items (not .Values.weights.endpoint) }}
- weights.items would be downloaded, but offline is set: set weights.endpoint to your mirror, or bring the weights by existingClaim or image.
{{- end }}
{{- end -}}

{{- define "cogvideox.scalingProblems" -}}
{{- $routes := list -}}
{{- range include "cogvideox.pools" . | fromJsonArray -}}
{{- $routes = append $routes .checkpoint -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) }}
- Pool {{ .name }}: autoscaling.minReplicas is above maxReplicas.
{{- end }}
{{- if and .autoscaling.enabled (lt (int .autoscaling.cooldownPeriod) (div (int .loadSeconds) 3 | int)) }}
- Pool {{ .name }} would spend its time loading: set autoscaling.cooldownPeriod to at least a third of loadSeconds ({{ .loadSeconds }}).
{{- end }}
{{- end -}}
{{- if include "cogvideox.autoscaled" . -}}
{{- if and (gt (len (uniq $routes)) 1) (not .Values.keda.prometheus.serverAddress) }}
- Redis counts running jobs of all routes together, and the pools serve {{ join ", " (uniq $routes) }}: set keda.prometheus.serverAddress to the Prometheus that scrapes the workers.
{{- end }}
{{- if and .Values.redis.existingSecret (not .Values.keda.redis.address) }}
- KEDA cannot read redis.existingSecret: set keda.redis.address (HOST:PORT) and, with a password, keda.redis.passwordSecret.
{{- end }}
{{- if and (hasPrefix "sentinel:" .Values.redis.url) (not .Values.keda.redis.address) }}
- KEDA is told of Sentinel by itself: set keda.redis.address (sentinels, separated by commas) and keda.redis.sentinelMaster.
{{- end }}
{{- if and .Values.redis.url (contains "@" .Values.redis.url) (not (or .Values.keda.redis.passwordSecret .Values.keda.redis.password)) }}
- KEDA takes the password of Redis from a Secret only: set keda.redis.passwordSecret, or keda.redis.password.
{{- end }}
{{- end -}}
{{- end -}}
