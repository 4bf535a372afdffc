{{- define "wattline.name" -}}
{{- .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what is appended to it. */}}
{{- define "wattline.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "wattline.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "wattline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "wattline.frontEndSelector" -}}
app.kubernetes.io/name: {{ include "wattline.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
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
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default (ternary "front-end" "cpu" (gt (len .Values.workers) 0))) -}}
{{- end -}}

{{- define "wattline.scheme" -}}
{{- ternary "HTTPS" "HTTP" (ne .Values.tls.secretName "") -}}
{{- end -}}

{{/* The name of one engine's Deployment and Service. Takes a list: root, group's name, index. */}}
{{- define "wattline.workerName" -}}
{{- printf "%s-%s-%d" (include "wattline.fullname" (index . 0)) (index . 1) (int (index . 2)) -}}
{{- end -}}

{{/* The engines to attach to, as WATTLINE_MODELS wants them: a JSON array with an object for each model. */}}
{{- define "wattline.attached" -}}
{{- $root := . -}}
{{- $models := list -}}
{{- range $group, $own := .Values.workers -}}
{{- $worker := mergeOverwrite (deepCopy $root.Values.workerDefaults) $own -}}
{{- $urls := list -}}
{{- range $index := until (int $worker.replicas) -}}
{{- $urls = append $urls (printf "http://%s:8000" (include "wattline.workerName" (list $root $group $index))) -}}
{{- end -}}
{{- $models = append $models (dict "served_name" ($worker.servedName | default $worker.model) "worker_urls" $urls) -}}
{{- end -}}
{{- $models | toJson -}}
{{- end -}}
