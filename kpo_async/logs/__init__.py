"""Containers' logs, live and each line once.

    plan.py     whose logs, and how a line looks
    pod.py      `follow_pod`: all wanted containers of a pod, told by an informer's views
    follow.py   one container, through every cut
    lines.py    bytes to lines; the cursor
    emit.py     lines to records, at the pace the process can bear
    channel.py  how records leave the process, and whether they have arrived
    slots.py    how many streams at once, and who waits

Nothing here judges the pod: its verdict comes from its status.
"""

from __future__ import annotations

from kpo_async.logs.emitter import Emitter, LogRecord, Sink
from kpo_async.logs.follow import Follower, Lifeline
from kpo_async.logs.lines import Cursor, LogLine
from kpo_async.logs.plan import LogPlan, level_of
from kpo_async.logs.pod import follow_pod

__all__ = [
    "Cursor",
    "Emitter",
    "Follower",
    "Lifeline",
    "LogLine",
    "LogPlan",
    "LogRecord",
    "Sink",
    "follow_pod",
    "level_of",
]
