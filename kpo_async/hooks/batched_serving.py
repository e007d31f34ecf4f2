"""Have a triggerer's main process serve in one turn what has arrived, instead of one message in each turn.

Airflow's triggerer answers one request of its triggers, and reads 4 KiB of their log lines, in each turn of its main
loop. A turn asks the database which triggers are new, which are gone, and which belong to nobody: 10 ms of CPU or more,
which a request takes besides its own work. Hundreds of tasks that start together wait for one another's turns. When
they start or end together, a turn prepares 50 triggers, or stores all events, and reads no line for seconds: the
triggers' event loop stands still as soon as the socket is full. So these steps are taken in parts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any

from kpo_async.hooks.triggerer import triggerer_module

TURN = 0.2
"""Seconds after which the main loop goes on, however much arrives."""
EVENTS_TURN = 0.5
"""Seconds after which it goes on, however many events are left. The rest of a turn takes up to 0.1 s."""
LINGER = 0.002
"""Seconds in which the next message may arrive: a trigger sends its next request when the last one is answered."""
MOST_PREPARED = 25
"""Triggers that are prepared in a turn: each takes Airflow some milliseconds."""


def install() -> None:
    """Do so in this process, a triggerer's."""
    supervisor: Any = getattr(triggerer_module(), "TriggerRunnerSupervisor", None)
    if supervisor is not None and not hasattr(supervisor.handle_events, "in_slices"):
        serve_once = supervisor._service_subprocess
        supervisor._service_subprocess = batched(serve_once)
        supervisor.handle_events = sliced(supervisor.handle_events, serve_once)
        if hasattr(supervisor, "build_trigger_workloads"):  # Airflow 3.3
            supervisor.build_trigger_workloads = in_parts(supervisor.build_trigger_workloads)


def batched(serve_once: Callable[..., int | None]) -> Callable[..., int | None]:
    """Return a method that calls `serve_once` again as long as messages arrive. It returns the exit code, if any."""

    @wraps(serve_once)
    def serve(self: Any, *args: Any, **kwargs: Any) -> int | None:
        exit_code = serve_once(self, *args, **kwargs)
        until = time.monotonic() + TURN
        while exit_code is None and time.monotonic() < until and self.selector.select(LINGER):
            exit_code = serve_once(self, 0)
        return exit_code

    return serve


def sliced(handle_events: Callable[[Any], None], serve_once: Callable[..., Any]) -> Callable[[Any], None]:
    """Return a method that handles one event after the other for some time, and leaves the others.

    After each it serves one message that has arrived: the triggers must not wait for hundreds of events.
    """

    @wraps(handle_events)
    def handle(self: Any) -> None:
        waiting, until = self.events, time.monotonic() + EVENTS_TURN
        try:
            while waiting and time.monotonic() < until:
                self.events = deque([waiting.popleft()])
                handle_events(self)
                self.events = waiting  # of which a message may bring more
                if self.selector.select(0):
                    serve_once(self, 0)
        finally:
            self.events = waiting

    handle.in_slices = True  # type: ignore[attr-defined]
    return handle


def in_parts(prepare: Callable[[Any, set[int]], list[Any]]) -> Callable[[Any, set[int]], list[Any]]:
    """Return a method that prepares some of the triggers. Airflow asks again for the others in its next turn."""
    offered: set[int] = set()

    @wraps(prepare)
    def prepare_some(self: Any, ids: set[int]) -> list[Any]:
        offered.intersection_update(ids)
        if not ids - offered:  # none of which could be prepared
            offered.clear()
        chosen = set(sorted(ids - offered)[:MOST_PREPARED])
        offered.update(chosen)
        return prepare(self, chosen)

    return prepare_some
