{{- define "wattline.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is appended to it; a Service's name has no dots and begins with a letter. */}}
{{- define "wattline.fullname" -}}
{{- $name := .Release.Name | replace "." "-" -}}
{{- if not (contains .Chart.Name $name) -}}
{{- $name = printf "%s-%s" $name .Chart.Name -}}
{{- end -}}
{{- regexReplaceAll "^([0-9])" $name "r${1}" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "wattline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "wattline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "wattline.frontEndSelector" -}}
app.kubernetes.io/name: {{ include "wattline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: front-end
{{- end -}}

{{- define "wattline.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "wattline.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "wattline.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default (ternary "front-end" "cpu" (not (empty .Values.workers)))) -}}
{{- end -}}

{{- define "wattline.scheme" -}}
{{- ternary "HTTPS" "HTTP" (not (empty .Values.tls.secretName)) -}}
{{- end -}}

{{/* The name of one engine's Deployment and Service. Takes a list: root, group's name, index. */}}
{{- define "wattline.workerName" -}}
{{- printf "%s-%s-%d" (include "wattline.fullname" (index . 0)) (index . 1) (int (index . 2)) -}}
{{- end -}}

{{/*
The engines to attach to, as WATTLINE_MODELS wants them: a JSON array with an object for each model. Groups that serve
one name, on different nodes say, are one model.
*/}}
{{- define "wattline.attached" -}}
{{- $root := . -}}
{{- $urlsByName := dict -}}
{{- range $group, $own := .Values.workers -}}
{{- $worker := mergeOverwrite (deepCopy $root.Values.workerDefaults) $own -}}
{{- $name := $worker.servedName | default $worker.model -}}
{{- $urls := get $urlsByName $name | default list -}}
{{- range $index := until (int $worker.replicas) -}}
{{- $urls = append $urls (printf "http://%s:8000" (include "wattline.workerName" (list $root $group $index))) -}}
{{- end -}}
{{- $_ := set $urlsByName $name $urls -}}
{{- end -}}
{{- $models := list -}}
{{- range $name, $urls := $urlsByName -}}
{{- $models = append $models (dict "served_name" $name "worker_urls" $urls) -}}
{{- end -}}
{{- $models | toJson -}}
{{- end -}}
