"""Store an operator's parameters as attributes, and read them.

DAG files are parsed all day, so the parameters go straight into the instance's `__dict__`: Airflow's `__setattr__`
would take a third of the time of parsing a task. A class that overrides one of them with a property, or has a
`__setattr__` or `__getattr__` of its own, gets and is asked for them in Python's ordinary way instead. This is decided
once per class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from inspect import getattr_static
from typing import Any
from weakref import WeakKeyDictionary

from airflow.sdk import BaseOperator

_ACCESS = ("__getattr__", "__getattribute__", "__setattr__")
_PLAIN: WeakKeyDictionary[type, bool] = WeakKeyDictionary()
_OVERRIDDEN: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


class DefaultsTo:
    """An attribute that reads as another one, until the instance has a value for it."""

    def __init__(self, other: str) -> None:
        self._other = other

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else getattr(instance, self._other)


class GivenFields:
    """The attribute `template_fields`: all of them for a class, and for an operator those that have a value.

    For each of a task's fields Airflow builds a validator in each of its processes, which takes 1 ms of CPU, and each
    is in the serialized DAG. An operator whose class overrides access to parameters has all of them.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __set_name__(self, owner: type[BaseOperator], name: str) -> None:
        self._base = owner

    def __get__(self, operator: BaseOperator | None, owner: type[BaseOperator]) -> tuple[str, ...]:
        if operator is None or not are_plain(owner, self._base):
            return self._names
        get = vars(operator).get
        return tuple([name for name in self._names if (value := get(name)) or not _is_empty(value)])


def are_plain(kind: type[BaseOperator], base: type[BaseOperator]) -> bool:
    """Whether attributes of `kind` may be stored in `__dict__`: it overrides no access to what `base` annotates."""
    plain = _PLAIN.get(kind)
    if plain is None:
        overrides_access = any(_differs(kind, base, name) for name in _ACCESS)
        plain = _PLAIN[kind] = not (overrides_access or overridden(kind, base))
    return plain


def overridden(kind: type[BaseOperator], base: type[BaseOperator]) -> Collection[str]:
    """Return the names that `base` annotates and for which `kind` has a property or another data descriptor."""
    found = _OVERRIDDEN.get(kind)
    if found is None:
        names = (name for name in _names(base) if _differs(kind, base, name) and _is_data_descriptor(kind, name))
        found = _OVERRIDDEN[kind] = frozenset(names)
    return found


def is_users_own(kind: type[BaseOperator], method: str) -> bool:
    """Whether a user's class overrides the method, which Airflow or this package defines."""
    owner = next((cls for cls in kind.__mro__ if method in vars(cls)), BaseOperator)
    return not owner.__module__.startswith(("airflow.sdk.", "kpo_async."))


def store(operator: BaseOperator, values: Mapping[str, Any], base: type[BaseOperator]) -> dict[str, Any]:
    """Set `values` as attributes. Return them as they read now, None for those of a property.

    A property may need what only a running task has, so it is not asked for its value before.
    """
    for name, value in values.items():
        setattr(operator, name, value)
    properties = overridden(type(operator), base)
    return {name: None if name in properties else getattr(operator, name) for name in ("task_id", *values)}


def read(operator: BaseOperator, base: type[BaseOperator]) -> Mapping[str, Any]:
    """Return the operator's attributes by name, among them all that `base` annotates."""
    if are_plain(type(operator), base):
        return vars(operator)
    return {**vars(operator), **{name: getattr(operator, name) for name in _names(base)}}


def _is_empty(value: object) -> bool:
    """Whether a value that is false is none."""
    return value is None or type(value) in (str, list, tuple, dict)


def _names(base: type[BaseOperator]) -> Collection[str]:
    return base.__annotations__.keys()


def _differs(kind: type, base: type, name: str) -> bool:
    return getattr_static(kind, name, None) is not getattr_static(base, name, None)


def _is_data_descriptor(kind: type, name: str) -> bool:
    found = type(getattr_static(kind, name))
    return hasattr(found, "__set__") or hasattr(found, "__delete__")
