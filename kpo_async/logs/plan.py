"""Which containers' logs are wanted, and what a line of them looks like. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from kpo_async.pod.containers import Container, ContainerKind
from kpo_async.pod.status import PodState
from kpo_async.pod.xcom_sidecar import CONTAINER as XCOM_SIDECAR

LineFormat: TypeAlias = Callable[[str, str], str]
"""`(container, message) -> line`"""

_LEVEL = re.compile(r"\s*\[?(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?![A-Za-z0-9_])", re.IGNORECASE)
_LEVELS = {
    "DEBUG": logging.INFO,  # at its own level it would not be shown
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}


class LogPlan(msgspec.Struct, frozen=True):
    """Which containers' logs are wanted and how their lines look. Part of a trigger's row in Airflow's database.

    `containers` and `init_containers` are names, or True for all of them. `formatter` is the import path of a
    `(container, message) -> line` callable, which replaces the prefix.
    """

    containers: bool | list[str] = msgspec.field(default_factory=lambda: ["base"])
    init_containers: bool | list[str] = False
    prefix: bool = True
    """`[container] ` before each line."""
    formatter: str | None = None

    def select(self, state: PodState) -> tuple[Container, ...]:
        """Return the containers to follow, in the order of the spec, init containers first."""
        return tuple(container for container in state.containers if self._selects(container))

    def mistakes(self, state: PodState) -> Iterator[str]:
        """Yield a sentence for each name that the pod in `state` does not have among its containers of that kind."""
        main = [container.name for container in state.containers if container.kind is ContainerKind.MAIN]
        init = [container.name for container in state.containers if container.name not in (*main, XCOM_SIDECAR)]
        for parameter, wanted, names, others in (
            ("container_logs", self.containers, main, init),
            ("init_container_logs", self.init_containers, init, main),
        ):
            # Without its base container the pod fails, which says enough.
            for name in () if isinstance(wanted, bool) else {*wanted} - {*names, state.base}:
                where = f"among {', '.join(map(repr, names))}" if names else "in the pod, which has none"
                hint = ""
                if name in others:
                    hint = f": put it in {'init_container_logs' if others is init else 'container_logs'}"
                yield f"{parameter} names {name!r}, which is not {where}{hint}"

    def _selects(self, container: Container) -> bool:
        if container.name == XCOM_SIDECAR:
            return False  # its log is the result, packed
        wanted = self.containers if container.kind is ContainerKind.MAIN else self.init_containers
        return wanted if isinstance(wanted, bool) else container.name in wanted


def line_format(*, prefix: bool = True, formatter: LineFormat | None = None) -> LineFormat:
    """Return the function that makes a line of the task's log out of a container's name and its line.

    A `formatter` that raises is replaced by the prefix for that line: a log must not fail a task.
    """
    if formatter is None:
        return _with_prefix if prefix else _as_it_is

    def formatted(container: str, text: str) -> str:
        try:
            return str(formatter(container, text))
        except Exception:  # the user's code
            return _with_prefix(container, text)

    return formatted


def _with_prefix(container: str, text: str) -> str:
    return f"[{container}] {text}"


def _as_it_is(container: str, text: str) -> str:
    return text


def level_of(text: str) -> int:
    """Return the level that a line begins with: `ERROR: x`, `[warning] x`. INFO if it begins with none."""
    match = _LEVEL.match(text)
    return _LEVELS[match[1].upper()] if match else logging.INFO
