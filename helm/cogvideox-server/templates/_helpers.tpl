{{/* Names, labels, images. */}}

{{- define "cogvideox.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that every suffix of ours fits into 63 characters. */}}
{{- define "cogvideox.fullname" -}}
{{- $name := include "cogvideox.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selectors compare: must never change in an upgrade. */}}
{{- define "cogvideox.selector" -}}
app.kubernetes.io/name: {{ include "cogvideox.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "cogvideox.labels" -}}
{{ include "cogvideox.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: cogvideox-server
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* image: {repository, tag, digest}; a digest wins over a tag. */}}
{{- define "cogvideox.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "cogvideox.serviceAccount" -}}
{{- $suffix := .suffix -}}
{{- with .account -}}
{{- if .name -}}{{ .name }}{{- else if .create -}}{{ include "cogvideox.fullname" $.root }}-{{ $suffix }}{{- else -}}default{{- end -}}
{{- end -}}
{{- end -}}

{{/* Maps are laid over each other, key by key; sprig's own merge would lose false, 0 and "". */}}
{{- define "cogvideox.overlay" -}}
{{- $out := deepCopy .base -}}
{{- range $key, $value := .over -}}
{{- $old := get $out $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $old) -}}
{{- $_ := set $out $key (include "cogvideox.overlay" (dict "base" $old "over" $value) | fromJson) -}}
{{- else -}}
{{- $_ := set $out $key $value -}}
{{- end -}}
{{- end -}}
{{- $out | toJson -}}
{{- end -}}

{{/* The pools as JSON, each laid over the defaults. */}}
{{- define "cogvideox.pools" -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
{{- $pools = append $pools (include "cogvideox.overlay" (dict "base" $.Values.poolDefaults "over" .) | fromJson) -}}
{{- end -}}
{{- $pools | toJson -}}
{{- end -}}

{{/* "yes" if this pool's model is neither built in nor a folder: it is pulled from a hub on first use. */}}
{{- define "cogvideox.downloads" -}}
{{- if and (ne .model "tiny") (not (hasPrefix "/" .model)) }}yes{{ end -}}
{{- end -}}

{{/* "yes" if some pool follows the queue. */}}
{{- define "cogvideox.autoscaled" -}}
{{- range include "cogvideox.pools" . | fromJsonArray -}}
{{- if .autoscaling.enabled }}yes{{ end -}}
{{- end -}}
{{- end -}}

{{/* Weights are fetched by a Job into a shared volume, or by each pod for its node or itself. */}}
{{- define "cogvideox.fetchesByJob" -}}
{{- if and .Values.weights.items (has .Values.modelCache.type (list "pvc" "existingClaim")) }}yes{{ end -}}
{{- end -}}

{{- define "cogvideox.fetchesInPod" -}}
{{- if and .Values.weights.items (has .Values.modelCache.type (list "emptyDir" "hostPath")) }}yes{{ end -}}
{{- end -}}

{{- define "cogvideox.priorityClass" -}}
{{- if .own -}}
{{- .own -}}
{{- else if .root.Values.priorityClasses.create -}}
{{- include "cogvideox.fullname" .root }}-{{ .suffix -}}
{{- end -}}
{{- end -}}
