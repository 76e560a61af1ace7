{{/* A worker's pod: {root, pool}. */}}

{{- define "cogvideox.poolSelector" -}}
{{ include "cogvideox.selector" (dict "root" .root "component" "worker") }}
cogvideox-server/pool: {{ .pool.name }}
{{- end -}}

{{- define "cogvideox.poolLabels" -}}
{{ include "cogvideox.labels" (dict "root" .root "component" "worker") }}
cogvideox-server/pool: {{ .pool.name }}
cogvideox-server/route: {{ .pool.checkpoint }}
{{- end -}}

{{- define "cogvideox.workerEnv" -}}
{{- $env := dict
  "CHECKPOINT" .checkpoint
  "MODEL" .model
  "DEVICE" .device
  "MEMORY" .memory
  "TEXT_ENCODER" .textEncoder
  "ATTENTION" .attention
  "COMPILE" .compile
  "GPUS_PER_JOB" (max 1 (int .gpu.count))
  "SCRATCH" "/scratch"
  "SCRATCH_MIN_FREE_MB" (int64 .scratchMinFreeMb)
  "WORKER_PORT" "9100"
  "GRACE_SECONDS" .graceSeconds
  "CHECKPOINT_SECONDS" .checkpointSeconds
  "RETRY_SECONDS" .retrySeconds
  "HANG_FACTOR" .hangFactor
  "HANG_FLOOR_SECONDS" .hangFloorSeconds
-}}
{{- range $name, $value := $env }}
- name: COGVIDEOX_{{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end -}}

{{/* The pool's own limits and requests, and its GPUs in both. */}}
{{- define "cogvideox.workerResources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpu.count -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- $_ := set $limits .gpu.resource (int .gpu.count | toString) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "cogvideox.workerTolerations" -}}
{{- $tolerations := .tolerations -}}
{{- if .gpu.count -}}
{{- $vendor := regexFind "^[^/]+" .gpu.resource -}}
{{- $key := ternary "nvidia.com/gpu" .gpu.resource (eq $vendor "nvidia.com") -}}
{{- $tolerations = append $tolerations (dict "key" $key "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- if $tolerations -}}{{ toYaml $tolerations }}{{- end -}}
{{- end -}}

{{- define "cogvideox.workerPod" -}}
{{- $root := .root -}}
{{- $pool := .pool -}}
{{- include "cogvideox.imagePull" $root }}
serviceAccountName: {{ include "cogvideox.serviceAccount" (dict "root" $root "account" $root.Values.workers.serviceAccount "suffix" "worker") }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with include "cogvideox.priorityClass" (dict "root" $root "own" $pool.priorityClassName "suffix" "worker") }}
priorityClassName: {{ . }}
{{- end }}
{{- with $pool.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
# The worker's own grace, then its children end and its name leaves the registry.
terminationGracePeriodSeconds: {{ add 15 (int $pool.graceSeconds) }}
securityContext: {{- include "cogvideox.podSecurity" $root | nindent 2 }}
{{- with $pool.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "cogvideox.workerTolerations" $pool }}
tolerations: {{- . | nindent 2 }}
{{- end }}
{{- with $pool.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $pool.topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "cogvideox.weightsInit" . | trim }}
initContainers: {{- . | nindent 2 }}
{{- end }}
containers:
  - name: worker
    image: {{ include "cogvideox.poolImage" . }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: [worker]
    securityContext: {{- include "cogvideox.containerSecurity" $root | nindent 6 }}
    envFrom:
      - configMapRef:
          name: {{ include "cogvideox.fullname" $root }}-settings
    env:
      {{- include "cogvideox.workerEnv" $pool | nindent 6 }}
      {{- with include "cogvideox.s3Credentials" $root | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with $pool.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - {name: health, containerPort: 9100}
    # Ready is: the model is loaded and jobs are taken. Patience for one load, then the pod starts afresh.
    startupProbe:
      httpGet: {path: /readyz, port: health}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: {{ ceil (divf $pool.loadSeconds 10) }}
    # Not ready while it drains, its engine restarts or its scratch disk is full.
    readinessProbe:
      httpGet: {path: /readyz, port: health}
      periodSeconds: 5
      timeoutSeconds: 5
    # Only whether the lease-keeper's loop turns, never whether the GPU is busy: the engine is its child's business.
    livenessProbe:
      httpGet: {path: /healthz, port: health}
      periodSeconds: 15
      timeoutSeconds: 10
      failureThreshold: 8
    resources: {{- include "cogvideox.workerResources" $pool | nindent 6 }}
    volumeMounts:
      {{- include "cogvideox.sharedMounts" $root | nindent 6 }}
      - name: scratch
        mountPath: /scratch
      - name: shm
        mountPath: /dev/shm
      {{- if ne $root.Values.modelCache.type "none" }}
      - name: models
        mountPath: {{ $root.Values.modelCache.mountPath }}
        readOnly: true
      {{- end }}
      {{- with $pool.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  {{- include "cogvideox.writableVolumes" $pool | nindent 2 }}
  - name: scratch
    emptyDir:
      sizeLimit: {{ $pool.scratchSize }}
  - name: shm
    emptyDir:
      medium: Memory
      sizeLimit: {{ $pool.shmSize }}
  - name: secrets
    projected:
      defaultMode: 0440
      sources: {{- include "cogvideox.workerSecretSources" $root | nindent 8 }}
  {{- with include "cogvideox.sharedVolumes" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with include "cogvideox.modelVolumes" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $pool.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "cogvideox.poolImage" -}}
{{- $image := include "cogvideox.overlay" (dict "base" .root.Values.image.worker "over" .pool.image) | fromJson -}}
{{- include "cogvideox.image" (dict "root" .root "image" $image) -}}
{{- end -}}
