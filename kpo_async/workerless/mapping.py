"""What one instance of a mapped task is given: literals of the DAG, and XComs as far as a triggerer can read them.

A triggerer's supervisor answers requests for one XCom of one task instance, and for the number of instances. Of a
mapped task, whose XComs Airflow counts without those that are missing, it therefore knows them only if none is missing.
That is the case if as many instances follow from the numbers of instances as the scheduler has made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kpo_async.exceptions import ManifestError
from kpo_async.hooks.airflow import count_instances, get_xcom
from kpo_async.kube.shared import SingleFlight
from kpo_async.workerless.context import NeedsWorkerError

FRESH_FOR = 60.0
"""Seconds for which the instances of a task share what they are mapped over."""
_XCOMS: SingleFlight[tuple[str, str, str, str, int], Any] = SingleFlight("mapped XCom", fresh_for=FRESH_FOR)
_COUNTS: SingleFlight[tuple[str, str, str], int] = SingleFlight("number of instances", fresh_for=FRESH_FOR)


async def mapped_arguments(task: Any, task_instance: Any) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the arguments of this map index, and those among them that are data, not templates.

    Raises `ManifestError` for what nothing can be mapped over, and `NeedsWorkerError`.
    """
    value, index = task._get_specified_expand_input().value, task_instance.map_index
    if isinstance(value, Mapping):
        return await _of_product(value, index, task_instance)
    return await _of_list(value, index, task_instance)


class _Values(Protocol):
    """What an argument is mapped over."""

    @property
    def counted(self) -> bool:
        """Whether XComs are missing if there are fewer values than `len` says."""

    def __len__(self) -> int: ...

    async def at(self, index: int) -> Any:
        """Return one of the values."""


@dataclass(frozen=True)
class _Known:
    values: Sequence[Any]
    counted = False

    def __len__(self) -> int:
        return len(self.values)

    async def at(self, index: int) -> Any:
        return self.values[index]


@dataclass(frozen=True)
class _OfInstances:
    """The XComs of a mapped task's instances."""

    task_instance: Any
    task_id: str
    key: str
    count: int
    counted = True

    def __len__(self) -> int:
        return self.count

    async def at(self, index: int) -> Any:
        return await _xcom(self.task_instance, self.task_id, self.key, index)


@dataclass(frozen=True)
class _Combined:
    parts: Sequence[_Values]

    @property
    def counted(self) -> bool:
        return any(part.counted for part in self.parts)


class _Zipped(_Combined):
    def __len__(self) -> int:
        lengths = {len(part) for part in self.parts}
        if self.counted and len(lengths) > 1:
            raise NeedsWorkerError("it is mapped over zip() of a mapped task and something of another length")
        return min(lengths)

    async def at(self, index: int) -> Any:
        return tuple([await part.at(index) for part in self.parts])


class _Chained(_Combined):
    def __len__(self) -> int:
        return sum(map(len, self.parts))

    async def at(self, index: int) -> Any:
        for part in self.parts:
            if index < len(part):
                return await part.at(index)
            index -= len(part)
        raise IndexError(index)


async def _of_product(
    lists: Mapping[str, Any], index: int, task_instance: Any
) -> tuple[Mapping[str, Any], Sequence[Any]]:
    """Return the arguments at `index` of the cross product, in which the last list is the fastest."""
    opened = {name: await _open(name, value, task_instance) for name, value in lists.items()}
    await _check_count(opened.values(), task_instance)
    found: dict[str, Any] = {}
    for name, values in reversed(opened.items()):
        if not len(values):
            raise ManifestError(f"{name} is mapped over nothing")
        index, at = divmod(index, len(values))
        found[name] = await values.at(at)
    return found, [item for name, item in found.items() if not _is_literal(lists[name])]


async def _of_list(value: Any, index: int, task_instance: Any) -> tuple[Mapping[str, Any], Sequence[Any]]:
    values = await _open("expand_kwargs()", value, task_instance)
    await _check_count([values], task_instance)
    item = await values.at(index)
    found = item if _is_literal(item) else await _xcom(task_instance, item.operator.task_id, item.key)
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ManifestError(f"expand_kwargs() is given a {type(found).__name__} at map index {index}, not a dict")
    return found, [] if _is_literal(value) and _is_literal(item) else list(found.values())


async def _open(name: str, value: Any, task_instance: Any) -> _Values:
    """Return what the argument `name` is mapped over, with the XComs of tasks that are not mapped."""
    if _is_literal(value):
        return _known(name, value)
    if hasattr(value, "callables"):
        raise NeedsWorkerError("it is mapped over map(), whose functions only a worker has")
    if hasattr(value, "args"):
        parts = [await _open(name, part, task_instance) for part in value.args]
        return _Zipped(parts) if hasattr(value, "fillvalue") else _Chained(parts)
    task_id, key = value.operator.task_id, value.key
    if value.operator.is_mapped:
        return _OfInstances(task_instance, task_id, key, await _count(task_instance, task_id))
    return _known(name, await _xcom(task_instance, task_id, key))


def _known(name: str, value: Any) -> _Known:
    if isinstance(value, Mapping):
        return _Known(list(value.items()))
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise ManifestError(f"{name} is mapped over a {type(value).__name__}, a list or a dict is needed")
    return _Known(value)


def _is_literal(value: Any) -> bool:
    return not hasattr(value, "iter_references")


async def _check_count(values: Iterable[_Values], task_instance: Any) -> None:
    """Raise `NeedsWorkerError` if an instance of a mapped task has pushed no XCom: then the others move up."""
    given = list(values)
    if any(each.counted for each in given):
        expected = await _count(task_instance, task_instance.task_id)
        if math.prod(map(len, given)) != expected:
            raise NeedsWorkerError("it is mapped over a mapped task, and not each of its instances has pushed an XCom")


async def _count(task_instance: Any, task_id: str) -> int:
    address = (task_instance.dag_id, task_instance.run_id, task_id)
    return await _COUNTS.run(address, lambda: count_instances(*address))


async def _xcom(task_instance: Any, task_id: str, key: str, map_index: int = -1) -> Any:
    address = (task_instance.dag_id, task_instance.run_id, task_id, key, map_index)
    return await _XCOMS.run(address, lambda: get_xcom(*address))
