{{/* The model cache, and how weights get into it. */}}

{{- define "cogvideox.modelVolumes" -}}
{{- $cache := .Values.modelCache -}}
{{- if eq $cache.type "pvc" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "cogvideox.fullname" . }}-models
{{- else if eq $cache.type "existingClaim" }}
- name: models
  persistentVolumeClaim:
    claimName: {{ $cache.existingClaim }}
{{- else if eq $cache.type "hostPath" }}
- name: models
  hostPath:
    path: {{ $cache.hostPath }}
    type: Directory
{{- else if eq $cache.type "emptyDir" }}
- name: models
  emptyDir:
    sizeLimit: {{ $cache.emptyDirSize }}
{{- else if eq $cache.type "image" }}
- name: models
  image:
    reference: {{ $cache.image }}
    pullPolicy: IfNotPresent
{{- end }}
{{- if and .Values.weights.items (ne $cache.type "none") (ne $cache.type "image") }}
- name: weights
  configMap:
    name: {{ include "cogvideox.fullname" . }}-weights
{{- if or .Values.weights.token.value .Values.weights.token.existingSecret }}
- name: hub-token
  secret:
    secretName: {{ default (include "cogvideox.ownSecret" .) .Values.weights.token.existingSecret }}
    items: [{key: {{ ternary .Values.weights.token.key "hub-token" (ne .Values.weights.token.existingSecret "") }}, path: token}]
{{- end }}
{{- with .Values.weights.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fetches or waits: {root, name, mode, image}. Marker files say what is complete and verified. */}}
{{- define "cogvideox.weightsContainer" -}}
- name: {{ .name }}
  image: {{ .image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [python, -P, /etc/cogvideox/weights/fetch_weights.py, {{ .mode }}, /etc/cogvideox/weights/weights.json, {{ .root.Values.modelCache.mountPath }}]
  securityContext: {{- include "cogvideox.containerSecurity" .root | nindent 4 }}
  env:
    - {name: HOME, value: /tmp}
    {{- with .root.Values.weights.endpoint }}
    - {name: HF_ENDPOINT, value: {{ . | quote }}}
    {{- end }}
    {{- if or .root.Values.weights.token.value .root.Values.weights.token.existingSecret }}
    - {name: HF_TOKEN_PATH, value: /run/secrets/hub/token}
    {{- end }}
    {{- with .root.Values.weights.extraEnv }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  resources: {{- toYaml .root.Values.weights.resources | nindent 4 }}
  volumeMounts:
    - name: weights
      mountPath: /etc/cogvideox/weights
      readOnly: true
    - name: models
      mountPath: {{ .root.Values.modelCache.mountPath }}
      readOnly: {{ eq .mode "wait" }}
    - name: tmp
      mountPath: /tmp
    {{- if or .root.Values.weights.token.value .root.Values.weights.token.existingSecret }}
    - name: hub-token
      mountPath: /run/secrets/hub
      readOnly: true
    {{- end }}
    {{- with .root.Values.weights.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "cogvideox.weightsInit" -}}
{{- $image := include "cogvideox.poolImage" . -}}
{{- if include "cogvideox.fetchesByJob" .root }}
{{ include "cogvideox.weightsContainer" (dict "root" .root "name" "wait-for-weights" "mode" "wait" "image" $image) }}
{{- else if include "cogvideox.fetchesInPod" .root }}
{{ include "cogvideox.weightsContainer" (dict "root" .root "name" "fetch-weights" "mode" "fetch" "image" $image) }}
{{- end }}
{{- end -}}
