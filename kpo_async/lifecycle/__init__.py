"""The life of one pod: `ensure_pod` -> `wait` -> `collect` -> `finish`, and `kill` from outside.

    ensure_pod     ownership    create the pod of this try, find it again, or adopt the one that an earlier try left
    wait           wait         stream its logs until its base container has ended or a limit has passed: an `Outcome`
    see_through    attempts     wait, and create the pod again when the cluster took it away or its memory ran out
    collect        finishing    the result that it left
    finish         disposal     keep or delete it, by `on_finish_action`
    end            disposal     the user ended the task: `kill` it, by `on_kill_action`, unless `finish` is due
    end_all        attempts     the same for the pods of later attempts, too
    abandon        ownership    the task fails before it knows its pod: `finish` whatever was created for it
    kill_all       ownership    the user ended it before that: `end` the pods of all its tries
    kill_own       ownership    the same for the pods of this try alone

Workers run these with `asyncio.run`, triggers await them. Nothing in here knows Airflow or keeps a connection: a client
and a `PodTask` come in, an `Outcome` goes out. Any await may be the last one (the worker dies, the triggerer dies, the
user kills the task), so each step can be repeated by another process and finds what the one before left: the pod has
the same name for the same try, is known by its uid from then on, and is deleted only under that uid.

The other modules are the steps' parts: `task_log` streams containers' logs into the task's log, `pod_status_log` writes
a line for each change of the pod, `deadlines` says when to stop waiting, `wait_result` how the wait ended, `xcom` reads
the result, `creation` keeps the answer to a create, and `record` is what a pod's annotation says of its task.
"""

from __future__ import annotations

from kpo_async.lifecycle.attempts import cause_of_next, end_all, manifest_of_attempt, next_attempt, see_through
from kpo_async.lifecycle.disposal import end, finish, kill
from kpo_async.lifecycle.finishing import collect, finishing
from kpo_async.lifecycle.ownership import (
    Owner,
    abandon,
    created_at,
    ensure_pod,
    kill_all,
    kill_own,
    last_pod,
    own_pod,
    pod_of,
)
from kpo_async.lifecycle.quota import ensure_pod_within_quota
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.lifecycle.task_log import emit_remaining_logs, emit_whole_log
from kpo_async.lifecycle.wait import wait

__all__ = [
    "Owner",
    "TaskRecord",
    "abandon",
    "cause_of_next",
    "collect",
    "created_at",
    "emit_remaining_logs",
    "emit_whole_log",
    "end",
    "end_all",
    "ensure_pod",
    "ensure_pod_within_quota",
    "finish",
    "finishing",
    "kill",
    "kill_all",
    "kill_own",
    "last_pod",
    "manifest_of_attempt",
    "next_attempt",
    "own_pod",
    "pod_of",
    "see_through",
    "wait",
]
