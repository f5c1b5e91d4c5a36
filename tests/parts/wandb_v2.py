"""W&B with operator v2 for the cluster: charts of the operator and of cert-manager with our stand-in behind both, a
server manifest, and bundles of all that."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installer.chart.relocation import NOWHERE
from installer.chart.retarget import merged
from installer.errors import RecipeError
from installer.strict_yaml import load_yaml
from tests.parts import runnable
from tests.parts.application import Application
from tests.parts.bundles import packed_chart
from tests.parts.go_programs import stand_in_operator
from tests.parts.images import File, Image, Layer, Run, Symlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TEMPLATES = Path(__file__).parents[2] / "templates" / "wandb-v2"
MANIFEST = "us-docker.pkg.dev/wandb-production/public/wandb/server-manifest"
OPERATOR = "us-docker.pkg.dev/wandb-production/public/wandb/operator"
PROGRAMS = "AIRFERRY_TEST_OPERATOR_V2"
"""The variable that names a folder with the operator's programs, `manager` and `crd-installer`, where somebody has
built them; then its chart is that among the files of AIRFERRY_TEST_WANDB_V2."""
STAND_IN, REAL = "stand-in", "real"
CERT_MANAGER = "quay.io/jetstack/stand-in:1.0"

_RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: NAME}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NAME}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: NAME, namespace: "{{ .Release.Namespace }}"}]
"""
_ISSUED = """
{{- range tuple "Certificate" "Issuer" }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: "{{ lower . }}s.cert-manager.io"}
spec:
  group: cert-manager.io
  names: {kind: {{ . }}, plural: "{{ lower . }}s", singular: {{ lower . }}, listKind: {{ . }}List}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
{{- end }}
"""
_ISSUER = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: cert-manager}
spec:
  selector: {matchLabels: {app: cert-manager}}
  template:
    metadata: {labels: {app: cert-manager}}
    spec:
      serviceAccountName: cert-manager
      terminationGracePeriodSeconds: 1
      {{- with .Values.global.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      containers:
        - name: cert-manager
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
          command: [/cert-manager]
          env: {{ toJson .Values.env }}
"""
_HOOK = """
apiVersion: v1
kind: ServiceAccount
metadata:
  name: crd-installer
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-weight: "-10"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: crd-installer
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-weight: "-10"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: ServiceAccount, name: crd-installer, namespace: "{{ .Release.Namespace }}"}]
---
{{- $operator := index .Values "wandb-operator" }}
apiVersion: batch/v1
kind: Job
metadata:
  name: crd-installer
  annotations:
    helm.sh/hook: "pre-install,pre-upgrade"
    helm.sh/hook-delete-policy: "before-hook-creation,hook-succeeded"
spec:
  backoffLimit: 3
  template:
    spec:
      restartPolicy: OnFailure
      serviceAccountName: crd-installer
      {{- with .Values.global.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      containers:
        - name: crd-installer
          image: "{{ $operator.image.repository }}:{{ $operator.image.tag }}"
          command: [/crd-installer]
          args:
            - apply
            - --cert-inject-reference={{ .Release.Namespace }}/{{ .Release.Name }}-serving-cert
            - --webhook-service-name={{ .Release.Name }}
            - --webhook-service-namespace={{ .Release.Namespace }}
            - --groups=
"""
_MANAGER = """
{{- $operator := index .Values "wandb-operator" }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: wandb-operator, labels: {app.kubernetes.io/name: wandb-operator}}
spec:
  selector: {matchLabels: {app: wandb-operator}}
  template:
    metadata: {labels: {app: wandb-operator}}
    spec:
      serviceAccountName: wandb-operator
      terminationGracePeriodSeconds: 1
      {{- with .Values.global.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      containers:
        - name: operator
          image: "{{ $operator.image.repository }}:{{ $operator.image.tag }}"
          command: [/manager]
          args: [--webhook-cert-path=/tmp/wandb-operator/serving-certs]
          readinessProbe: {httpGet: {path: /readyz, port: 8081}, periodSeconds: 1}
          env:
            - {name: MANIFEST_CONDITION, value: "{{ .Values.manifestCondition }}"}
            {{- if $operator.caCerts.certs }}
            - {name: SSL_CERT_DIR, value: "/etc/wandb/ca-certs:/etc/ssl/certs"}
            {{- end }}
          volumeMounts:
            - {name: serving-certs, mountPath: /tmp/wandb-operator/serving-certs, readOnly: true}
            {{- if $operator.caCerts.certs }}
            - {name: authorities, mountPath: /etc/wandb/ca-certs, readOnly: true}
            {{- end }}
            {{- with .Values.global.volumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: serving-certs
          secret: {secretName: "{{ .Release.Name }}-serving-cert"}
        {{- if $operator.caCerts.certs }}
        - name: authorities
          secret: {secretName: "{{ .Release.Name }}-operator-ca-certs"}
        {{- end }}
        {{- with .Values.global.volumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata: {name: wandb-operator}
spec:
  selector: {app: wandb-operator}
  ports: [{port: 443, targetPort: 9443}]
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: "{{ .Release.Name }}-serving-cert"}
spec:
  secretName: "{{ .Release.Name }}-serving-cert"
  dnsNames: ["wandb-operator.{{ .Release.Namespace }}.svc"]
{{- if $operator.caCerts.certs }}
---
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-operator-ca-certs"}
stringData:
  {{- range $number, $pem := $operator.caCerts.certs }}
  ca-{{ $number }}.crt: {{ $pem | quote }}
  {{- end }}
{{- end }}
"""
_WEBHOOKS = """
{{- range tuple "Mutating" "Validating" }}
---
apiVersion: admissionregistration.k8s.io/v1
kind: {{ . }}WebhookConfiguration
metadata:
  name: wandb-operator
  annotations: {cert-manager.io/inject-ca-from: "{{ $.Release.Namespace }}/{{ $.Release.Name }}-serving-cert"}
webhooks:
  - name: weightsandbiases-v2.kb.io
    admissionReviewVersions: [v1]
    failurePolicy: Fail
    sideEffects: None
    clientConfig:
      service:
        name: wandb-operator
        namespace: "{{ $.Release.Namespace }}"
        path: "/{{ if eq . "Mutating" }}mutate{{ else }}validate{{ end }}-apps-wandb-com-v2-weightsandbiases"
    rules:
      - {apiGroups: [apps.wandb.com], apiVersions: [v2], operations: [CREATE, UPDATE], resources: [weightsandbiases]}
{{- end }}
"""


@cache
def program() -> Image:
    """One image for the operator, for the hook of its chart, and for cert-manager."""
    binary = File(stand_in_operator().read_bytes(), 0o755)
    layer = Layer({"/manager": binary, "/crd-installer": Symlink("manager"), "/cert-manager": Symlink("manager")})
    return Image((layer,), Run(entrypoint=("/manager",), user="65532"))


@dataclass(frozen=True)
class Operator:
    """An operator: its chart, the image that this names, and the values that it needs in a test."""

    chart: bytes = field(repr=False)
    tag: str
    program: Callable[[], Image]
    values: Mapping[str, Any] = field(default_factory=dict)


def operators() -> list[str]:
    """Which operators there are to test with."""
    return [STAND_IN, REAL] if os.environ.get(PROGRAMS) else [STAND_IN]


def stand_in() -> Operator:
    """Our stand-in."""
    return Operator(_operator_chart(), "stand-in", program)


def real(assets: Path) -> Operator:
    """W&B's own, without the operators of services, which are not to be had."""
    folder = Path(os.environ[PROGRAMS])
    files = {f"/{name}": File((folder / name).read_bytes(), 0o755) for name in ("manager", "crd-installer")}
    [chart] = (assets / "charts").glob("operator-*.tgz")
    off = ("moco", "redis-operator", "seaweedfs-operator", "altinity-clickhouse-operator")
    values = {"wandb": {"install": False}, **{name: {"enabled": False} for name in off}}
    image = Image((Layer(files),), Run(entrypoint=("/manager",), user="65532"))
    return Operator(
        chart.read_bytes(), chart.name.removeprefix("operator-").removesuffix(".tgz"), lambda: image, values
    )


@cache
def _operator_chart() -> bytes:
    """The chart `operator`, made like that of W&B as far as an installer sees it."""
    values = {
        "global": {"imagePullSecrets": [], "volumes": [], "volumeMounts": []},
        "wandb-operator": {"image": {"repository": OPERATOR, "tag": "stand-in"}, "caCerts": {"certs": []}},
        "manifestCondition": "",
        # The stand-in needs none of them to run services.
        **{name: {"enabled": True} for name in ("moco", "redis-operator", "seaweedfs-operator")},
    }
    files = {
        "templates/rights.yaml": _RIGHTS.replace("NAME", "wandb-operator"),
        "templates/hook.yaml": _HOOK,
        "templates/manager.yaml": _MANAGER,
        "templates/webhooks.yaml": _WEBHOOKS,
        "values.yaml": json.dumps(values),
    }
    return packed_chart("operator", "2.0.0", files)


def cert_manager_chart() -> bytes:
    """The chart `cert-manager`."""
    repository, _, tag = CERT_MANAGER.rpartition(":")
    values = {
        "global": {"imagePullSecrets": []},
        "image": {"repository": repository, "tag": tag},
        "env": [],
        "crds": {"enabled": True},
    }
    files = {
        "templates/rights.yaml": _RIGHTS.replace("NAME", "cert-manager"),
        "templates/definitions.yaml": _ISSUED,
        "templates/issuer.yaml": _ISSUER,
        "values.yaml": json.dumps(values),
    }
    return packed_chart("cert-manager", "1.0.0", files)


def image(repository: str, tag: str = "1.0", registry: str = "docker.io") -> dict[str, str]:
    """An image as a server manifest spells it."""
    return {**({"registry": registry} if registry else {}), "repository": repository, "tag": tag}


def server_manifest(tag: str = "1.0", *, migrate: str = "exit 0") -> dict[str, Any]:
    """A server manifest; `migrate` is the shell command of its migration."""
    return {
        "features": {},
        "kafka": {
            "images": {
                "bufstream": image("demo/bufstream"),
                "etcd": image("demo/etcd", registry="quay.io"),
                "bucketEnsure": image("demo/aws-cli", registry=""),
            },
            "topics": [],
        },
        "bucket": {"default": {"images": {"seaweedfs": image("demo/seaweedfs")}}},
        "mysql": {"default": {"images": {"mysql": image("demo/mysql"), "exporter": image("demo/exporter")}}},
        "redis": {
            "default": {
                "images": {
                    name: image(f"demo/redis-{name}") for name in ("standalone", "replication", "sentinel", "exporter")
                }
            }
        },
        "clickhouse": {"default": {"images": {"server": image("demo/clickhouse")}}},
        "clickhouseKeeper": {"default": {"images": {"keeper": image("demo/keeper")}}},
        "applications": {
            name: {
                "name": name,
                "image": image(f"demo/{name}", tag),
                "service": {"ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]},
            }
            for name in ("api", "frontend")
        },
        "migrations": {"gorilla": {"image": image("demo/migrate", tag), "args": [migrate]}},
    }


def named(node: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, str]]]:
    """The images that a server manifest names, by their places."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict) and "repository" in value:
            yield f"{path}{key}", value
        else:
            yield from named(value, f"{path}{key}.")


@dataclass
class Release:
    """A release of W&B with operator v2 as a bundle: `manifest` of `version`, whatever the profile of `airferry init`
    says, and `spec` over its resource. `succeeds` are charts that operator v1 may have installed for it."""

    folder: Path
    version: str = "0.84.0"
    sequence: int = 1
    name: str = "wandb"
    manifest: dict[str, Any] = field(default_factory=server_manifest)
    spec: dict[str, Any] = field(default_factory=dict)
    operator: Operator = field(default_factory=stand_in)
    operator_values: dict[str, Any] = field(default_factory=dict)
    cert_manager_values: dict[str, Any] = field(default_factory=dict)
    succeeds: tuple[str, ...] = ()

    def write(self) -> Path:
        """Write and sign the bundle; its file."""
        made = self.application()
        made.images |= {f"{OPERATOR}:{self.operator.tag}": self.operator.program(), CERT_MANAGER: program()}
        return made.write()

    def application(self) -> Application:
        """All of the bundle, with images of programs that do nothing."""
        application = Application(self.folder, self.name, version=self.version, sequence=self.sequence)
        profile = _parsed("profile.yaml")
        rules = profile["artifacts"][0]["images"]
        found = {}
        for place, spelt in named(self.manifest):
            text = "/".join(filter(None, (spelt.get("registry"), spelt["repository"]))) + f":{spelt['tag']}"
            full = text if "registry" in spelt else f"docker.io/{text}"
            rule = rules.get(place) or {}
            found[place] = {"image": full, **({"unless": rule["unless"]} if rule.get("unless") else {})}
            runs = runnable.job() if place.startswith("migrations") else runnable.pause()
            if place == "kafka.images.etcd":
                runs = runnable.httpd(port=2379)
            if place.startswith("applications"):
                runs = _server()
            application.images[full] = runs
            if "registry" not in spelt:
                application.images[f"{NOWHERE}/{text}"] = runs
        layer = Layer({"manifest.yaml": File(json.dumps(self.manifest).encode())})
        for repository in (MANIFEST, f"{NOWHERE}/wandb/server-manifest"):
            application.images[f"{repository}:{self.version}"] = Image((layer,))
        application.images |= dict.fromkeys((f"{OPERATOR}:{self.operator.tag}", CERT_MANAGER), runnable.pause())
        resource = merged(_parsed("wandb.yaml"), {"spec": {"wandb": {"version": self.version}, **self.spec}})
        application.document("operator-values.yaml", merged(self.operator.values, self.operator_values), "values")
        application.document("cert-manager-values.yaml", self.cert_manager_values, "values")
        application.document("wandb.yaml", resource, "resource")
        application.charts = [cert_manager_chart(), self.operator.chart]
        application.steps = profile["steps"]
        application.steps[-1]["succeeds"] += self.succeeds
        profile["artifacts"][0]["found"] = found
        keys = ("driver", "namespace", "artifacts", "logs", "smoke")
        application.profile = {key: profile[key] for key in keys if key in profile}
        return application


def _server() -> Image:
    """A part of the platform: it answers that it is ready."""
    served = runnable.httpd()
    return Image((*served.layers, Layer({"/www/ready": File(b"yes\n")})), served.run)


def _parsed(name: str) -> Any:
    return load_yaml((TEMPLATES / name).read_bytes(), name, RecipeError)
