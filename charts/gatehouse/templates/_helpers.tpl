{{/* The labels that say what an object belongs to; "component" is apiserver, webhooks or empty. */}}
{{- define "gatehouse.labels" -}}
{{- $labels := dict
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/managed-by" .root.Release.Service
  "app.kubernetes.io/name" "gatehouse"
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") }}
{{- with .component }}
{{- $_ := set $labels "app.kubernetes.io/component" . }}
{{- end }}
{{- merge $labels .root.Values.commonLabels | toYaml }}
{{- end }}

{{/* What the pods of a component are found by. Never to be changed: a Deployment's selector is immutable. */}}
{{- define "gatehouse.selector" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: gatehouse
{{- end }}

{{/*
The objects of a file that `gatehouse manifests` printed, with the namespace and the labels of this release. What they
may do is said there alone; `without` is a line of it that is left out.
*/}}
{{- define "gatehouse.generated" -}}
{{- $text := .root.Files.Get .file | replace "gatehouse-system" .root.Release.Namespace }}
{{- if .without }}
{{- $text = replace (printf "%s\n" .without) "" $text }}
{{- end }}
{{- $list := fromYaml $text }}
{{- $labels := include "gatehouse.labels" . | fromYaml }}
{{- range $list.items }}
{{- $_ := set .metadata "labels" (merge (.metadata.labels | default dict) $labels) }}
---
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Flags of the origins of remote clusters beside labelled Secrets, each with its namespaces. */}}
{{- define "gatehouse.origins" -}}
{{- $clusters := .Values.clusters | default dict }}
{{- with ($clusters.clusterAPI).namespaces }}
cluster-api-namespaces: {{ uniq . | toJson }}
{{- end }}
{{- with ($clusters.argoCD).namespaces }}
argocd-cluster-namespaces: {{ uniq . | toJson }}
{{- end }}
{{- with $clusters.clusterProfiles }}
{{- with .namespaces }}
cluster-profile-namespaces: {{ uniq . | toJson }}
cluster-profile-secrets-namespace: {{ list $clusters.clusterProfiles.secretsNamespace | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/* The rights for these: those of files/origins.yaml, in each of the namespaces. */}}
{{- define "gatehouse.originRights" -}}
{{- $origins := include "gatehouse.origins" .root | fromYaml }}
{{- $labels := include "gatehouse.labels" . | fromYaml }}
{{- $placeholders := dict
  "of-cluster-api" "cluster-api-namespaces"
  "of-argocd" "argocd-cluster-namespaces"
  "of-cluster-profiles" "cluster-profile-namespaces"
  "of-cluster-profile-secrets" "cluster-profile-secrets-namespace" }}
{{- $text := .root.Files.Get "files/origins.yaml" | replace "gatehouse-system" .root.Release.Namespace }}
{{- range (fromYaml $text).items }}
{{- $object := . }}
{{- range index $origins (index $placeholders .metadata.namespace) }}
{{- $metadata := merge (dict "namespace" . "labels" $labels) $object.metadata }}
---
{{ merge (dict "metadata" $metadata) $object | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gatehouse.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
The Secret that a component serves with. Each TLS mode has one of its own: where the mode is changed, nobody finds what
somebody else made.
*/}}
{{- define "gatehouse.tlsSecret" -}}
{{- if eq .root.Values.tls.mode "files" -}}
{{ (index .root.Values.tls.files .component).secretName }}
{{- else if eq .root.Values.tls.mode "cert-manager" -}}
gatehouse-{{ .component }}-cert-manager
{{- else -}}
gatehouse-{{ .component }}-tls
{{- end -}}
{{- end }}

{{/* The whole seconds of a duration such as 1h30m. */}}
{{- define "gatehouse.seconds" -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- sub (mustDateModify . $start | unixEpoch | int64) (unixEpoch $start | int64) -}}
{{- end }}

{{/* The values of tls.selfManaged, with the defaults of the flags. */}}
{{- define "gatehouse.selfManaged" -}}
{{- with .Values.tls.selfManaged }}
certificateLifetime: {{ .certificateLifetime | default "2160h" }}
caLifetime: {{ .caLifetime | default "8760h" }}
rotationOverlap: {{ .rotationOverlap | default "10m" }}
{{- end }}
{{- end }}

{{/*
The seconds before its end from which a serving certificate should have been renewed: a week, or the tenth of a shorter
life, at which the process warns in its log too. Renewal comes when a third is left, or at renewBefore.
*/}}
{{- define "gatehouse.certificateEnds" -}}
{{- $near := int64 604800 }}
{{- if .Values.metrics.prometheusRule.certificateEnds }}
{{- $near = include "gatehouse.seconds" .Values.metrics.prometheusRule.certificateEnds | int64 }}
{{- else if eq .Values.tls.mode "self-managed" }}
{{- $lifetime := (include "gatehouse.selfManaged" . | fromYaml).certificateLifetime }}
{{- $near = min $near (div (include "gatehouse.seconds" $lifetime | int64) 10) }}
{{- else if eq .Values.tls.mode "cert-manager" }}
{{- $duration := include "gatehouse.seconds" .Values.tls.certManager.duration | int64 }}
{{- $renewBefore := include "gatehouse.seconds" .Values.tls.certManager.renewBefore | int64 }}
{{- $near = min $near (div $duration 10) (div $renewBefore 2) }}
{{- end }}
{{- $near -}}
{{- end }}

{{/* The annotation by which cert-manager fills in a caBundle. */}}
{{- define "gatehouse.injectCA" -}}
cert-manager.io/inject-ca-from: {{ .root.Release.Namespace }}/gatehouse-{{ .component }}
{{- end }}

{{/* The flags that both processes have. */}}
{{- define "gatehouse.args" -}}
- --log-level={{ .root.Values.logging.level }}
- --log-format={{ .root.Values.logging.format }}
- --secure-port=6443
- --max-connections={{ int (index .root.Values .component).maxConnections }}
{{- if eq .root.Values.tls.mode "self-managed" }}
- --tls-secret={{ include "gatehouse.tlsSecret" . }}
{{- with .root.Values.tls.selfManaged }}
{{- with .certificateLifetime }}
- --certificate-lifetime={{ . }}
{{- end }}
{{- with .caLifetime }}
- --ca-lifetime={{ . }}
{{- end }}
{{- with .rotationOverlap }}
- --rotation-overlap={{ . }}
{{- end }}
{{- end }}
{{- else }}
- --tls-cert-file=/etc/gatehouse/tls/tls.crt
- --tls-private-key-file=/etc/gatehouse/tls/tls.key
{{- end }}
{{- if .root.Values.audit.enabled }}
- --audit-policy-file=/etc/gatehouse/audit/policy.yaml
{{- end }}
{{- end }}

{{/* What the pods of both components have in common. The arguments are those of "gatehouse.deployment". */}}
{{- define "gatehouse.podSpec" -}}
{{- $values := index .root.Values .component -}}
serviceAccountName: gatehouse-{{ .component }}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .root.Values.priorityClass.name }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
# More than --shutdown-delay-duration and --shutdown-grace together.
terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: gatehouse-{{ .component }}
    image: {{ include "gatehouse.image" .root }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      - {{ .component }}
      {{- include "gatehouse.args" . | nindent 6 }}
      {{- with .args }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      {{- with $values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    ports:
      - name: https
        containerPort: 6443
        protocol: TCP
    # It serves at once, whatever the cluster does: only a process that hangs is restarted.
    livenessProbe:
      httpGet:
        path: /livez
        port: https
        scheme: HTTPS
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      httpGet:
        path: /readyz
        port: https
        scheme: HTTPS
      periodSeconds: 2
      timeoutSeconds: 2
      failureThreshold: 2
    resources:
      {{- toYaml $values.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      capabilities:
        drop: [ALL]
      privileged: false
      readOnlyRootFilesystem: true
    {{- with .volumes }}
    volumeMounts:
      {{- range . }}
      - name: {{ .name }}
        mountPath: /etc/gatehouse/{{ .name }}
        readOnly: true
      {{- end }}
    {{- end }}
{{- with .volumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
# Wished for, not insisted on: a cluster of one node must be able to run all of them.
topologySpreadConstraints:
  {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ . }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    # Those of one roll-out among themselves.
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "gatehouse.selector" $ | nindent 8 }}
  {{- end }}
{{- end }}

{{/* A Deployment: root, component, args (beside the common ones), volumes (mounted by their names). */}}
{{- define "gatehouse.deployment" -}}
{{- $values := index .root.Values .component -}}
{{- $volumes := .volumes | default list }}
{{- if ne .root.Values.tls.mode "self-managed" }}
{{- $volumes = append $volumes (dict "name" "tls" "secret" (dict "secretName" (include "gatehouse.tlsSecret" .))) }}
{{- end }}
{{- $config := $values.catalogue | default list }}
{{- if .root.Values.audit.enabled }}
{{- $config = append $config .root.Values.audit.policy }}
{{- $volumes = append $volumes (dict "name" "audit" "configMap" (dict "name" "gatehouse-audit-policy")) }}
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: gatehouse-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gatehouse.labels" . | nindent 4 }}
spec:
  replicas: {{ $values.replicas }}
  revisionHistoryLimit: 3
  minReadySeconds: 5
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "gatehouse.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- merge (include "gatehouse.selector" . | fromYaml) $values.podLabels .root.Values.commonLabels | toYaml | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: gatehouse-{{ .component }}
        {{- if $config }}
        # These files are read once: a change takes new pods.
        checksum/config: {{ toJson $config | sha256sum }}
        {{- end }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "gatehouse.podSpec" (merge (dict "volumes" $volumes) .) | nindent 6 }}
{{- end }}

{{/* What stands around a Deployment: its account, Service and PodDisruptionBudget. */}}
{{- define "gatehouse.surroundings" -}}
{{- $values := index .root.Values .component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: gatehouse-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gatehouse.labels" . | nindent 4 }}
  {{- with $values.serviceAccountAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
apiVersion: v1
kind: Service
metadata:
  name: gatehouse-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gatehouse.labels" . | nindent 4 }}
spec:
  type: ClusterIP
  ports:
    - name: https
      port: 443
      protocol: TCP
      targetPort: https
  selector:
    {{- include "gatehouse.selector" . | nindent 4 }}
{{- if $values.podDisruptionBudget }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: gatehouse-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "gatehouse.labels" . | nindent 4 }}
spec:
  # Never in the way of a drain for ever, whatever the number of replicas.
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "gatehouse.selector" . | nindent 6 }}
{{- end }}
{{- end }}
