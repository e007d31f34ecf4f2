"""How a triggerer's triggers know that no other triggerer has taken them over: its lease, from its heartbeats.

A triggerer's main process sends heartbeats to the database, and says in each exchange with the process of its triggers
which of them have moved. They move when the last heartbeat is `triggerer_health_check_threshold` old, and the main
process may be late with heartbeats while it goes on with exchanges. So it notes the heartbeats in memory that both
processes share, and each exchange renews the lease from the last one on. Airflow has no hook for either.
"""

from __future__ import annotations

import math
import mmap
import struct
from datetime import datetime, timezone
from functools import wraps
from typing import Any

from airflow.configuration import conf

from kpo_async.hooks.airflow import in_triggerer
from kpo_async.hooks.triggerer import triggerer_module
from kpo_async.lease import boot_time, lease

_SECONDS = struct.Struct("d")
_shared = mmap.mmap(-1, _SECONDS.size)
"""The boot time of the last heartbeat, 0 where none was noted. Forks share it."""


def note_heartbeats() -> None:
    """Let this main process of a triggerer note its heartbeats for the process that it forks later."""
    supervisor = triggerer_module().TriggerRunnerSupervisor
    heartbeat = supervisor.heartbeat
    if hasattr(heartbeat, "notes"):
        return

    @wraps(heartbeat)
    def heartbeat_and_note(self: Any) -> None:
        heartbeat(self)
        note_heartbeat(self.job.latest_heartbeat)

    heartbeat_and_note.notes = True  # type: ignore[attr-defined]
    supervisor.heartbeat = heartbeat_and_note


def note_heartbeat(when: datetime) -> None:
    """Note that the last heartbeat was sent then."""
    _SECONDS.pack_into(_shared, 0, boot_time() - (datetime.now(timezone.utc) - when).total_seconds())


def last_heartbeat() -> float:
    """Return the boot time of the last heartbeat in seconds, infinity where the main process notes none."""
    (seconds,) = _SECONDS.unpack_from(_shared)
    return seconds or math.inf


def renew_lease_on_exchanges() -> None:
    """Let each exchange of this triggerer's processes renew the lease of the triggers' event loop.

    Heartbeats come every `job_heartbeat_sec`, so the lease lapses that much before triggers can move. Does nothing
    where triggers run without a supervisor (`dag.test()`).
    """
    module = triggerer_module()
    cancel_triggers = None if module is None else getattr(module.TriggerRunner, "cancel_triggers", None)
    if module is None or cancel_triggers is None or hasattr(cancel_triggers, "renews_lease"):
        return
    threshold = conf.getfloat("triggerer", "triggerer_health_check_threshold")
    duration = max(threshold - conf.getfloat("triggerer", "job_heartbeat_sec"), threshold / 2)
    if in_triggerer():
        lease().renew(duration, last_heartbeat())  # an exchange has just brought the trigger that calls this

    @wraps(cancel_triggers)
    async def cancel_triggers_and_renew(runner: Any) -> None:
        await cancel_triggers(runner)
        lease().renew(duration, last_heartbeat())

    cancel_triggers_and_renew.renews_lease = True  # type: ignore[attr-defined]
    module.TriggerRunner.cancel_triggers = cancel_triggers_and_renew
