"""`kpo-async diagnose`: why a pod failed, or what it waits for; the same words as in the task's log, for any pod.

Of a pod that is gone, it says what Airflow's database still knows. Exit code 1 when there is something wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from kpo_async.api_types import Event, pod_from_dict
from kpo_async.commands.command import (
    Exit,
    add_cluster_options,
    add_output_option,
    add_target,
    complain,
    run_command,
)
from kpo_async.commands.search import Found, search
from kpo_async.commands.table import age, print_facts, print_json, print_table, show
from kpo_async.commands.tasks import Story
from kpo_async.exceptions import ApiError
from kpo_async.pod.causes import Category
from kpo_async.pod.diagnose import Diagnosis, diagnose
from kpo_async.pod.start import start_problem
from kpo_async.pod.status import PodState, assess
from kpo_async.pod.timestamps import parse_time

GOOD = (Category.SUCCEEDED, Category.RUNNING)
EVENTS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    add_target(parser)
    add_cluster_options(parser)
    add_output_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis and return the exit code."""
    return run_command("diagnose", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        found = await search(stack, arguments)
        if isinstance(found, Story):
            return _tell(found, arguments.output)
        pod = pod_from_dict(found.pod)
        state = assess(pod, found.base)
        events = await _events(found)
        diagnosis = diagnose(pod, state, events, problem=start_problem(pod, state))
        if arguments.output == "json":
            print_json(_as_json(found, state, diagnosis, events))
        else:
            _print(found, state, diagnosis, events)
        return Exit.DONE if diagnosis.category in GOOD else Exit.PROBLEM


async def _events(found: Found) -> list[Event]:
    """Return the pod's events, the oldest first; none where they may not be listed."""
    selector = f"involvedObject.uid={found.pod['metadata']['uid']}"
    try:
        items = (await found.client.list("events", found.namespace, field_selector=selector))["items"]
    except ApiError as error:
        complain("diagnose", f"without the pod's events: {error}")
        return []
    return sorted(msgspec.convert(items, list[Event]), key=lambda event: event.happened_at)


def _print(found: Found, state: PodState, diagnosis: Diagnosis, events: Sequence[Event]) -> None:
    record = found.record
    task = f"{record.dag_id}.{record.task_id} of run {record.run_id}, try {record.try_number}" if record else ""
    print_facts(
        {
            "pod": f"{found.namespace}/{found.name}",
            "task": task,
            "diagnosis": diagnosis.category,
            "summary": diagnosis.summary,
            "detail": diagnosis.detail,
            "hint": diagnosis.hint,
            "node": state.node,
            "age": age(state.created_at),
        }
    )
    show()
    print_table(
        ("container", "kind", "state", "exit code", "reason", "restarts"), map(_container_row, state.containers)
    )
    if events:
        show()
        rows = [
            (age(parse_time(e.happened_at)), e.type or "", e.reason or "", e.message or "") for e in events[-EVENTS:]
        ]
        print_table(("age", "type", "event", "message"), rows)


def _container_row(container: Any) -> Sequence[str]:
    code = "" if container.exit_code is None else str(container.exit_code)
    stage = "ended" if container.ended else "running" if container.started else "waiting"
    return (container.name, str(container.kind), stage, code, container.reason, str(container.restarts))


def _as_json(found: Found, state: PodState, diagnosis: Diagnosis, events: Sequence[Event]) -> dict[str, Any]:
    return {
        "pod": f"{found.namespace}/{found.name}",
        "exists": True,
        "task": found.record,
        "verdict": state.verdict,
        "category": diagnosis.category,
        "summary": diagnosis.summary,
        "detail": diagnosis.detail,
        "hint": diagnosis.hint,
        "container": diagnosis.container,
        "exit_code": diagnosis.exit_code,
        "signal": diagnosis.signal_name,
        "reason": diagnosis.reason,
        "node": state.node,
        "containers": state.containers,
        "events": [{"time": e.happened_at, "type": e.type, "reason": e.reason, "message": e.message} for e in events],
    }


def _tell(story: Story, output: str) -> int:
    """Print what is known of a task whose pod is gone."""
    diagnosis = story.diagnosis or {}
    if output == "json":
        print_json({"pod": story.pod, "exists": False, **msgspec.to_builtins(story), "diagnosis": story.diagnosis})
    else:
        print_facts(
            {
                "task": f"{story.task}, try {story.try_number}",
                "state": story.state or "none",
                "ended": "" if story.ended_at is None else f"{age(story.ended_at)} ago",
                "pod": f"{story.pod}, which is gone" if story.pod else "none: this try has created no pod",
                "diagnosis": diagnosis.get("category")
                or "none is stored: the pod did not fail, or Airflow has no XCom",
                "summary": diagnosis.get("message"),
                "node": diagnosis.get("node"),
            }
        )
    return Exit.PROBLEM if story.diagnosis or story.state == "failed" else Exit.DONE
