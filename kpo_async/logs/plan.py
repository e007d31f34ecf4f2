"""Whose logs are wanted, and what a line of them looks like. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kpo_async.pod.containers import Container, ContainerKind
from kpo_async.pod.status import PodState
from kpo_async.pod.xcom_sidecar import CONTAINER as XCOM_SIDECAR

Selection = bool | str | Iterable[str] | None
"""As users write it: True for all, a name, names, None or False for none."""

_LEVEL = re.compile(r"\s*\[?(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?![A-Za-z0-9_])", re.IGNORECASE)
_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.CRITICAL,
}


@dataclass(frozen=True)
class LogPlan:
    """The operator's log parameters as one value."""

    base: str = "base"
    get_logs: bool = True
    container_logs: Selection = None
    """Main containers; None means the base container."""
    init_container_logs: Selection = None
    prefix: bool = True
    """`[container] ` before each line."""
    formatter: Callable[[str, str], str] | None = None
    """`(container, message) -> line`, instead of the prefix."""

    def select(self, state: PodState) -> tuple[Container, ...]:
        """The containers to follow, in the order of the spec, init containers first."""
        return tuple(container for container in state.containers if self._wants(container))

    def _wants(self, container: Container) -> bool:
        if container.name == XCOM_SIDECAR:
            return False  # its log is the result, packed
        if container.kind is not ContainerKind.MAIN:
            return _selects(self.init_container_logs, container.name)
        if not self.get_logs:
            return False
        wanted = self.base if self.container_logs is None else self.container_logs
        return _selects(wanted, container.name)

    def unknown(self, state: PodState) -> tuple[str, ...]:
        """Names that were asked for and that no container has."""
        have = {container.name for container in state.containers}
        asked = {*_names(self.container_logs), *_names(self.init_container_logs)}
        return tuple(sorted(asked - have))

    def format(self, container: str, text: str) -> str:
        """The line as it is shown. A formatter that fails is replaced by the prefix: a log must not fail a task."""
        if self.formatter is not None:
            try:
                return self.formatter(container, text)
            except Exception:  # the user's code, on every line
                return f"[{container}] {text}"
        return f"[{container}] {text}" if self.prefix else text


def level_of(text: str) -> int:
    """The level a line claims by how it begins: `ERROR: x`, `[warning] x`. INFO if it claims none."""
    match = _LEVEL.match(text)
    return _LEVELS[match[1].upper()] if match else logging.INFO


def _names(selection: Selection) -> tuple[str, ...]:
    if selection is None or isinstance(selection, bool):
        return ()
    return (selection,) if isinstance(selection, str) else tuple(selection)


def _selects(selection: Selection, name: str) -> bool:
    return selection if isinstance(selection, bool) else name in _names(selection)
