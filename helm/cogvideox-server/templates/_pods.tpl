{{/* What every pod of the chart has in common: Pod Security "restricted" and a read-only root. */}}

{{- define "cogvideox.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "cogvideox.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "cogvideox.imagePull" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Variables whose values come from Secrets; everything else stands in the settings ConfigMap. */}}
{{- define "cogvideox.s3Credentials" -}}
{{- if include "cogvideox.hasS3Keys" . }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ include "cogvideox.s3Secret" . }}
      key: {{ .Values.store.s3.credentials.accessKeyIdKey }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ include "cogvideox.s3Secret" . }}
      key: {{ .Values.store.s3.credentials.secretAccessKeyKey }}
{{- end }}
{{- end -}}

{{/* Written to by the processes, so never on the read-only root. */}}
{{- define "cogvideox.writableVolumes" -}}
- name: state
  emptyDir:
    sizeLimit: {{ .stateSize }}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- end -}}

{{- define "cogvideox.sharedMounts" -}}
- name: state
  mountPath: /var/lib/cogvideox
- name: tmp
  mountPath: /tmp
- name: secrets
  mountPath: /run/secrets/cogvideox
  readOnly: true
{{- if .Values.redis.caBundle.existingSecret }}
- name: redis-ca
  mountPath: /etc/cogvideox/redis-ca
  readOnly: true
{{- end }}
{{- if and (eq .Values.store.type "s3") .Values.store.s3.caBundle.existingSecret }}
- name: s3-ca
  mountPath: /etc/cogvideox/s3-ca
  readOnly: true
{{- end }}
{{- if eq .Values.store.type "folder" }}
- name: results
  mountPath: /var/lib/cogvideox/results
{{- end }}
{{- if .Values.catalogue }}
- name: catalogue
  mountPath: /etc/cogvideox/catalogue
  readOnly: true
{{- end }}
{{- if .Values.configFiles }}
- name: files
  mountPath: /etc/cogvideox/files
  readOnly: true
{{- end }}
{{- end -}}

{{- define "cogvideox.sharedVolumes" -}}
{{- with .Values.redis.caBundle }}
{{- if .existingSecret }}
- name: redis-ca
  secret:
    secretName: {{ .existingSecret }}
    items: [{key: {{ .key }}, path: {{ .key }}}]
{{- end }}
{{- end }}
{{- if and (eq .Values.store.type "s3") .Values.store.s3.caBundle.existingSecret }}
- name: s3-ca
  secret:
    secretName: {{ .Values.store.s3.caBundle.existingSecret }}
    items: [{key: {{ .Values.store.s3.caBundle.key }}, path: {{ .Values.store.s3.caBundle.key }}}]
{{- end }}
{{- if eq .Values.store.type "folder" }}
- name: results
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-results" (include "cogvideox.fullname" .)) .Values.store.folder.existingClaim }}
{{- end }}
{{- if .Values.catalogue }}
- name: catalogue
  configMap:
    name: {{ include "cogvideox.fullname" . }}-catalogue
{{- end }}
{{- if .Values.configFiles }}
- name: files
  configMap:
    name: {{ include "cogvideox.fullname" . }}-files
{{- end }}
{{- end -}}

{{/* A pod restarts when what it was started with changes; Secrets made elsewhere are not seen. */}}
{{- define "cogvideox.checksums" -}}
checksum/settings: {{ include (print .Template.BasePath "/settings-configmap.yaml") . | sha256sum }}
checksum/files: {{ printf "%s%s" .Values.catalogue (toJson .Values.configFiles) | sha256sum }}
# By scrypt: who may read pods but no Secrets must not be able to guess a short password from its digest.
checksum/secrets: {{ derivePassword 1 "long" (toJson (list .Values.redis .Values.keys .Values.store.s3.credentials .Values.rewriter.apiKey .Values.moderation.apiKey)) .Release.Name "checksum" | sha256sum }}
{{- end -}}
