"""Convert Kubernetes objects as users write them to plain dicts with Kubernetes' camelCase keys, and back.

Users pass dicts, models of `kubernetes`, models of `kubernetes_asyncio`, or a mix; inside this library there are only
dicts, lists and scalars. Models are recognised by the attributes that every generated model has (`openapi_types`,
`attribute_map`), so nothing imports a client except `to_v1pod`, for user code that needs a `V1Pod`.
"""

from __future__ import annotations

import datetime
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kpo_async.exceptions import ManifestError

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

TEMPLATED: Mapping[str, tuple[str, ...]] = {
    "V1EnvVar": ("name", "value"),
    "V1ResourceRequirements": ("limits", "requests"),
    "V1Volume": ("name", "persistent_volume_claim", "config_map"),
    "V1VolumeMount": ("name", "sub_path"),
    "V1PersistentVolumeClaimVolumeSource": ("claim_name",),
    "V1ConfigMapVolumeSource": ("name",),
    "V1EnvFromSource": ("config_map_ref",),
    "V1ConfigMapEnvSource": ("name",),
}
"""The models' attributes in which Jinja is rendered, as in the incumbent. Others may hold a literal `{{`."""

_STRING = frozenset({str})
_SCALARS = frozenset({str, int, float, bool, type(None)})


class ModelDict(dict[str, Any]):
    """A dict made from a model. Even an empty one is truthy, as the model is, so it overrides a template."""

    def __bool__(self) -> bool:
        return True


def is_model(value: object) -> bool:
    """Whether `value` is a generated model of either client, e.g. `V1Volume`."""
    kind = type(value)
    return hasattr(kind, "openapi_types") and hasattr(kind, "attribute_map")


def is_unrendered(value: object) -> bool:
    """Whether Airflow fills in `value` later: a string with Jinja in it, an XComArg, a lazy parameter."""
    if isinstance(value, str):
        return "{" in value and ("{{" in value or "{%" in value or "{#" in value)
    return callable(getattr(value, "resolve", None))


def is_literal(value: object) -> bool:
    """Whether `value` is a string, or a flat list or dict of strings, so that it holds no XComArg."""
    if isinstance(value, dict):
        return _STRING.issuperset(map(type, value.values()))
    if isinstance(value, list):
        return _STRING.issuperset(map(type, value))
    return isinstance(value, str)


def to_dict(value: Any) -> Any:
    """Return a copy of `value` made of dicts, lists and scalars only, without models' fields that are None.

    Raise ManifestError for an object that cannot be in a manifest.
    """
    return _unmarked(_convert(value, _refuse))


def to_marked_dict(value: Any) -> Any:
    """Do as `to_dict`, with a `ModelDict` for each model. Raise ManifestError likewise."""
    return _convert(value, _refuse)


def plain(value: Any) -> Any:
    """Do as `to_marked_dict`, but keep unknown objects (an XComArg, for example), to be rendered later."""
    return _convert(value, _keep)


def render(model: Any, render_value: Callable[[Any], Any]) -> dict[str, Any]:
    """Return `model` as a plain dict, with `render_value` applied to its `TEMPLATED` attributes only.

    The model itself does not change: one object may serve many tasks.
    """
    templated = TEMPLATED.get(type(model).__name__, ())
    keys = type(model).attribute_map
    values = ((attr, getattr(model, attr)) for attr in type(model).openapi_types)
    return ModelDict(
        {
            keys[attr]: to_marked_dict(render_value(value)) if attr in templated else plain(value)
            for attr, value in values
            if value is not None
        }
    )


def to_v1pod(manifest: Mapping[str, Any]) -> V1Pod:
    """Return `manifest` as a `V1Pod`, for a `pod_mutation_hook` or a callback. Imports the client, which takes 0.8 s.

    The model is that of `kubernetes`; where that package is not installed, the same model of `kubernetes_asyncio`.
    Raise ManifestError when a field that the client requires is missing.
    """
    try:
        from kubernetes import client as package
    except ModuleNotFoundError:
        from kubernetes_asyncio import client as package

    try:
        if hasattr(package.V1Pod, "from_dict"):  # from kubernetes 37 on
            return package.V1Pod.from_dict(manifest)
        # Without its constructor, which opens connections.
        api = package.ApiClient.__new__(package.ApiClient)
        # A fresh Configuration: the process-wide default may hold a token and a closure that cannot be pickled.
        api.configuration = package.Configuration()
        pod: V1Pod = api.deserialize(_Response(json.dumps(manifest)), "V1Pod")
    except (ValueError, TypeError, AttributeError) as error:
        raise ManifestError(f"the manifest is not a valid V1Pod of the kubernetes client: {error}") from error
    return pod


class _Response:
    """The argument of the client's public `deserialize`: it reads the body from `data`."""

    def __init__(self, data: str) -> None:
        self.data = data


def _convert(value: Any, unknown: Callable[[Any], Any]) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key: _convert(item, unknown) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert(item, unknown) for item in value]
    if is_model(value):
        fields = ((key, getattr(value, attr)) for attr, key in kind.attribute_map.items())
        return ModelDict({key: _convert(item, unknown) for key, item in fields if item is not None})
    if isinstance(value, ModelDict):
        return ModelDict({key: _convert(item, unknown) for key, item in value.items()})
    if isinstance(value, Mapping):
        return {key: _convert(item, unknown) for key, item in value.items()}
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return _convert_leaf(value, unknown)


def _convert_leaf(value: Any, unknown: Callable[[Any], Any]) -> Any:
    if isinstance(value, enum.Enum):
        return _convert(value.value, unknown)
    for scalar in (str, int, float):
        if isinstance(value, scalar):  # a subclass, e.g. Markup, which encoders refuse
            return scalar(value)
    if callable(to_client := getattr(value, "to_k8s_client_obj", None)):
        return _convert(to_client(), unknown)
    # Airflow's lazy sequence of a mapped task's results.
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_convert(item, unknown) for item in value]
    return unknown(value)


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unmarked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    return value


def _keep(value: Any) -> Any:
    return value


def _refuse(value: Any) -> Any:
    kind = type(value)
    raise ManifestError(f"a {kind.__module__}.{kind.__qualname__} cannot be in a pod: give a dict or a client's model")
