"""Parameters as JSON and back, for a process that does not parse the DAG file.

What JSON lacks is an object with the key `KIND`: a model (a plain dict that overrides as the model does), a reference
to another task's XCom, or the import path of a callable. Jinja stays as it is, to be rendered where it is read.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import attrs

from kpo_async import models
from kpo_async.exceptions import ImportPathError
from kpo_async.import_path import from_import_path, to_import_path
from kpo_async.json_types import Json
from kpo_async.secret import Secret

KIND = "kpo_async"
MODEL, XCOM, CALLABLE = "model", "xcom", "callable"


class NotPlainError(Exception):
    """A value has no plain form. The message says which, in words that follow the parameter's name."""


@dataclass(frozen=True)
class XComReference:
    """The XCom of a task that is not mapped. Airflow calls `resolve` when it renders templates."""

    task_id: str
    key: str
    required: bool = False
    """Whether a worker would refuse to go on without it: a task without `multiple_outputs` need not push it."""

    def resolve(self, context: Mapping[str, Any]) -> Any:
        """Return the XCom; None when the task has pushed none. Raises `LookupError` for one that is required."""
        found = context["ti"].xcom_pull(task_ids=self.task_id, key=self.key, map_indexes=None)
        if found is None and self.required:
            raise LookupError(f"task {self.task_id!r} has pushed no XCom {self.key!r}")
        return found


def encode(value: Any) -> Any:
    """Return `value` as JSON types. Raises `NotPlainError`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Mapping):
        return _encode_mapping(value)
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if models.is_model(value):
        return _encode_model(value)
    if hasattr(value, "deploy_type"):
        return encode(Secret.of(value).as_dict())
    if callable(getattr(value, "resolve", None)):
        return _encode_reference(value)
    if callable(value):
        try:
            return {KIND: CALLABLE, "path": to_import_path(value)}
        except ImportPathError as error:
            raise NotPlainError(f"cannot be imported in the triggerer: {error}") from error
    raise NotPlainError(f"holds a {type(value).__qualname__}")


def encode_exactly(value: Any) -> Any:
    """Do as `encode` for data whose types matter, such as a function's arguments. Raises `NotPlainError`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encode_exactly(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value) and KIND not in value:
        return {key: encode_exactly(item) for key, item in value.items()}
    if callable(getattr(value, "resolve", None)):
        return _encode_reference(value)
    raise NotPlainError(f"holds a {type(value).__qualname__}")


def decode(value: Any) -> Any:
    """Return what `encode` was given, with a `ModelDict` for a model. Raises `ImportPathError`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(KIND)
    if kind is None:
        return {key: decode(item) for key, item in value.items()}
    if kind == CALLABLE:
        return from_import_path(value["path"])
    if kind == XCOM:
        return XComReference(value["task_id"], value["key"], value.get("required", False))
    return models.ModelDict(decode(value["fields"]))


def is_json(value: Any) -> bool:
    """Whether `value` consists of JSON's types only."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_json, value))
    return value is None or isinstance(value, (bool, int, float, str))


def reference(value: Any) -> XComReference | None:
    """Return the reference of an XComArg, Airflow's or its deserialized form, to one XCom; None for any other value."""
    operator, key = getattr(value, "operator", None), getattr(value, "key", None)
    if operator is None or not isinstance(key, str):  # a derived one: map(), zip(), concat()
        return None
    if operator.is_mapped or operator.get_closest_mapped_task_group() is not None:
        return None
    required = key != "return_value" and not getattr(operator, "multiple_outputs", False)
    return XComReference(operator.task_id, key, required)


def can_be_read(value: Any) -> bool:
    """Whether a triggerer can read what a task is mapped over: literals, XComs, and XComs that are zipped or chained.

    Of an XComArg with functions, `map()`, the serialized DAG has only the source. One with a `fillvalue` does not say
    how many instances of a mapped task have pushed an XCom.
    """
    if callable(getattr(value, "resolve", None)):
        if hasattr(value, "args"):
            return not _has_fillvalue(value) and all(map(can_be_read, value.args))
        operator = getattr(value, "operator", None)
        return operator is not None and operator.get_closest_mapped_task_group() is None
    return is_json(value)


def _has_fillvalue(zipped: Any) -> bool:
    return hasattr(zipped, "fillvalue") and zipped.fillvalue is not attrs.fields(type(zipped)).fillvalue.default


def _encode_mapping(value: Mapping[Any, Any]) -> Json:
    if not all(isinstance(key, str) for key in value) or KIND in value:
        raise NotPlainError("has keys that are not strings")
    plain = {key: encode(item) for key, item in value.items()}
    return {KIND: MODEL, "fields": plain} if isinstance(value, models.ModelDict) else plain


def _encode_model(model: Any) -> Json:
    # Jinja is rendered in few attributes of a model, but in all of a dict.
    if any(models.is_unrendered(text) for text in _texts(models.render(model, lambda _: None))):
        raise NotPlainError(f"has a {type(model).__qualname__} with a literal `{{{{` in it")
    plain: Json = encode(models.plain(model))
    return plain


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def _encode_reference(value: Any) -> Json:
    found = reference(value)
    if found is None:
        raise NotPlainError(f"holds {type(value).__qualname__}, which only a worker can resolve")
    return {KIND: XCOM, "task_id": found.task_id, "key": found.key, **({"required": True} if found.required else {})}
