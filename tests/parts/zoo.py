"""Applications that are nobody's: an operator of the tests' own with its resource, raw manifests, a chart with
generated passwords.

The charts of the zoo are named so that their alphabetical order is the wrong one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.parts import runnable
from tests.parts.application import Application
from tests.parts.bundles import packed_chart
from tests.parts.images import File, Image, Layer, Run
from tests.parts.kubernetes import find_go
from tests.parts.programs import CACHE

if TYPE_CHECKING:
    from collections.abc import Mapping

SOURCE = Path(__file__).with_name("zoo_operator") / "main.go"
ANIMAL, OPERATOR = "docker.io/demo/animal:1.0", "docker.io/demo/zoo-operator:1.0"

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: zoos.demo.example}
spec:
  group: demo.example
  names: {kind: Zoo, plural: zoos, singular: zoo, listKind: ZooList}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: zoo-operator}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: zoo-operator}}
  template:
    metadata: {labels: {app: zoo-operator}}
    spec:
      serviceAccountName: zoo-operator
      terminationGracePeriodSeconds: 1
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets: {{ toJson . }}
      {{- end }}
      containers:
        - name: operator
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
"""
RIGHTS = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: zoo-operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: zoo-operator}
rules:
  - {apiGroups: [demo.example], resources: [zoos, zoos/status], verbs: [get, list, patch]}
  - {apiGroups: [apps], resources: [deployments], verbs: [get, create, patch, delete]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: zoo-operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: zoo-operator}
subjects: [{kind: ServiceAccount, name: zoo-operator}]
"""
OPERATOR_VALUES = "replicas: 1\nimage: {repository: docker.io/demo/zoo-operator, tag: '1.0'}\nimagePullSecrets: []\n"
# A resource of the kind that the other chart brings, in a chart of its own.
ANIMALS = """
apiVersion: demo.example/v1
kind: Zoo
metadata: {name: {{ .Release.Name }}}
spec: {animals: {{ .Values.animals }}, image: "{{ .Values.image }}"}
"""


@cache
def operator_image() -> Image:
    """The zoo's operator, built now if its sources changed."""
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = CACHE / "airferry" / "tools" / f"zoo-operator-{key}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        command = [str(find_go()), "build", "-trimpath", "-ldflags", "-s -w", "-o", str(fresh), str(SOURCE)]
        known = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "auto"}
        subprocess.run(command, env={**os.environ, **known}, cwd=path.parent, check=True)
        fresh.replace(path)
    return Image((Layer({"/operator": File(path.read_bytes(), 0o755)}),), Run(entrypoint=("/operator",), user="65532"))


def operator_chart(version: str = "1.0.0", *, extra: Mapping[str, str] | None = None) -> bytes:
    """The chart `zoo-operator`, with the definition of the kind among its templates."""
    files = {
        "templates/greeting.yaml": "",
        "templates/crd.yaml": CRD,
        "templates/deployment.yaml": DEPLOYMENT,
        "templates/rights.yaml": RIGHTS,
        "values.yaml": OPERATOR_VALUES,
    }
    return packed_chart("zoo-operator", version, {**files, **(extra or {})})


def animals_chart(version: str = "1.0.0") -> bytes:
    """The chart `animals`, which consists of a Zoo."""
    values = f"animals: 1\nimage: {ANIMAL}\n"
    return packed_chart("animals", version, {"templates/greeting.yaml": ANIMALS, "values.yaml": values})


def zoo(folder: Path, name: str, *, version: int = 1, animals: int = 1, **spec: Any) -> Application:
    """The operator's chart, then a Zoo as a resource with conditions, and a question about its animals."""
    application = Application(folder, name, version=str(version), sequence=version)
    application.images = {OPERATOR: operator_image(), ANIMAL: runnable.pause()}
    application.chart(operator_chart(f"{version}.0.0"))
    resource = {
        "apiVersion": "demo.example/v1",
        "kind": "Zoo",
        "metadata": {"name": "zoo", "labels": {"edition": str(version)}},
        "spec": {"animals": animals, "image": ANIMAL, **spec},
    }
    application.document("zoo.yaml", resource, "resource")
    application.resource("zoo.yaml", name="zoo", controller="zoo-operator", ready={"condition": "Ready"})
    application.profile["questions"] = {
        "animals": {
            "type": "integer",
            "help": "How many animals the zoo has.",
            "minimum": 0,
            "to": [{"step": "zoo", "path": "spec.animals"}],
        }
    }
    sign = {"text": "closed for the season", "cause": "the zoo is closed in winter"}
    application.profile["logs"] = [{**sign, "next": "open it with `closed: false`."}]
    return application
