{{- define "wattline.cacheClaim" -}}
{{- .Values.cache.existingClaim | default (printf "%s-cache" (include "wattline.fullname" .)) -}}
{{- end -}}

{{- define "wattline.ledgerEnv" -}}
- name: WATTLINE_LEDGER_URL
  {{- if .Values.ledger.urlSecret.name }}
  valueFrom:
    secretKeyRef: {name: {{ .Values.ledger.urlSecret.name | quote }}, key: {{ .Values.ledger.urlSecret.key | quote }}}
  {{- else }}
  value: sqlite:////var/lib/wattline/ledger.db
  {{- end }}
{{- end -}}

{{- define "wattline.hubToken" -}}
{{- with .Values.huggingFaceToken }}
{{- if .secretName }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef: {name: {{ .secretName | quote }}, key: {{ .key | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{- define "wattline.frontEndEnv" -}}
- {name: WATTLINE_HOST, value: "0.0.0.0"}
- {name: WATTLINE_PORT, value: "8000"}
- {name: WATTLINE_DRAIN_SECONDS, value: {{ .Values.drainSeconds | quote }}}
- {name: WATTLINE_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
{{- if .Values.insecure }}
- {name: WATTLINE_INSECURE, value: "true"}
{{- end }}
{{- range $name, $value := dict "WATTLINE_POLICY" .Values.policy "WATTLINE_SLO_TTFT_SECONDS" .Values.sloTtftSeconds "WATTLINE_SLO_TPOT_SECONDS" .Values.sloTpotSeconds "WATTLINE_POWER_CAP_WATTS" .Values.powerCapWatts }}
{{- if ne (toString $value) "" }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
- {name: WATTLINE_SSL_CERTFILE, value: /etc/wattline-tls/tls.crt}
- {name: WATTLINE_SSL_KEYFILE, value: /etc/wattline-tls/tls.key}
{{- end }}
{{ include "wattline.ledgerEnv" . }}
{{- if .Values.workers }}
- name: WATTLINE_MODELS
  value: {{ include "wattline.attached" . | quote }}
{{- else }}
- {name: WATTLINE_MODEL, value: {{ .Values.engine.model | quote }}}
- {name: WATTLINE_WORKERS, value: {{ .Values.engine.workers | quote }}}
- {name: WATTLINE_DEVICE, value: {{ .Values.engine.device | quote }}}
- {name: WATTLINE_METER, value: {{ .Values.meter | quote }}}
{{- with .Values.engine.args }}
- {name: WATTLINE_ENGINE_ARGS, value: {{ join " " . | quote }}}
{{- end }}
{{- if .Values.powercap.hostPath }}
- {name: WATTLINE_RAPL_ROOT, value: /host/powercap}
{{- end }}
{{- with include "wattline.hubToken" . | trim }}
{{ . }}
{{- end }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}
