"""The part of site.yaml about pods: how many, where, what they may use, how they are marked and confined."""

import difflib
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from installer.schema import Strict
from installer.site.answer_types import PlainText, Quantity

Component = Literal[
    "anaconda2",
    "api",
    "app",
    "console",
    "executor",
    "filemeta",
    "filestream",
    "flat-run-fields-updater",
    "frontend",
    "glue",
    "history-updater",
    "mcp-server",
    "metric-observer",
    "mysql",
    "nginx",
    "operator",
    "otel",
    "parquet",
    "parquet-metadata-cache",
    "prometheus",
    "redis",
    "reloader",
    "weave",
    "weave-evaluate-model-worker",
    "weave-trace",
    "weave-trace-agent-scoring-worker",
    "weave-trace-worker",
]
"""What of the platform can be given resources of its own."""

SINGLE = ("mysql", "operator", "otel", "prometheus", "redis", "reloader")
"""Components that are always one pod, or one per node."""

Security = Literal["default", "restricted", "openshift"]
# Kubernetes, "Labels and Selectors", "Annotations": an optional prefix, which is a DNS name, and a name.
_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
_Key = Annotated[str, Field(pattern=_KEY)]
_LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
# By these the charts find the pods of their workloads and Services.
_TAKEN = ("app", "component", "release", "app.kubernetes.io/", "helm.sh/", "bufstream.buf.build/")


def _known(names: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            also = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ValueError(f"no component {name!r}; {also}")


def _known_components(values: dict[str, Any]) -> dict[str, Any]:
    _known(values, get_args(Component))
    return values


def _can_be_several(values: dict[str, int]) -> dict[str, int]:
    if one := [name for name in values if name in SINGLE]:
        raise ValueError(f"always one pod, or one per node: {', '.join(one)}")
    _known(values, tuple(name for name in get_args(Component) if name not in SINGLE))
    return values


def _is_free(labels: dict[str, str]) -> dict[str, str]:
    taken = [key for key in labels if key in _TAKEN or key.startswith(tuple(x for x in _TAKEN if x.endswith("/")))]
    if taken:
        raise ValueError(f"the charts find their pods by these, so they cannot be set: {', '.join(taken)}")
    return labels


class ResourceAnswers(Strict):
    """What a component's container asks for and may use."""

    requests: dict[Literal["cpu", "memory"], Quantity] = Field(default_factory=dict)
    limits: dict[Literal["cpu", "memory"], Quantity] = Field(default_factory=dict)


class Toleration(Strict):
    """As in a Pod, and with the rules of the API server (Kubernetes, pkg/apis/core/validation)."""

    key: _Key | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: _LabelValue | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    seconds: Annotated[int | None, Field(alias="tolerationSeconds")] = None

    @model_validator(mode="after")
    def _accepted(self) -> Self:
        if self.key is None and self.operator != "Exists":
            raise ValueError("without `key` it tolerates everything, which takes `operator: Exists`")
        if self.value and self.operator == "Exists":
            raise ValueError("`value` has no meaning with `operator: Exists`")
        if self.seconds is not None and self.effect != "NoExecute":
            raise ValueError("`tolerationSeconds` needs `effect: NoExecute`")
        return self


Resources = Annotated[dict[str, ResourceAnswers], AfterValidator(_known_components)]
Replicas = Annotated[dict[str, Annotated[int, Field(ge=1, le=100)]], AfterValidator(_can_be_several)]
NodeLabels = dict[_Key, _LabelValue]
PodLabels = Annotated[dict[_Key, _LabelValue], AfterValidator(_is_free)]
PodAnnotations = dict[_Key, PlainText]
