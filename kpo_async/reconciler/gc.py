"""`kpo-async gc`: list the pods of this Airflow and what the reconciler would do with each, or do it with `--yes`.

It needs Airflow's database, so run it where a scheduler or a triggerer runs. Exit codes: 0 when it is done, 1 when a
pod could not be dealt with, 2 when it could not look at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import datetime, timezone

from sqlalchemy.exc import SQLAlchemyError

from kpo_async.api_types import pod_from_dict
from kpo_async.exceptions import ApiError, KpoError
from kpo_async.hooks.kubernetes import resolve
from kpo_async.kube.client import aclose_all, connect
from kpo_async.pod.names import INSTALLATION_LABEL
from kpo_async.pod.status import assess
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import ClusterRef
from kpo_async.reconciler.places import Place, Places
from kpo_async.reconciler.runner import OwnedPod, carry_out, judge, selector
from kpo_async.reconciler.thread import stored_installation_id
from kpo_async.reconciler.verdict import Action, Decision

DONE, FAILED, UNABLE = 0, 1, 2
COLUMNS = ("pod", "task", "state", "age", "verdict")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    parser.add_argument("--yes", action="store_true", help="delete the pods; without it they are only listed")
    parser.add_argument("--namespace", help="look in this namespace only")
    parser.add_argument("--conn-id", help="look in the cluster of this connection (default: all that tasks have used)")
    parser.add_argument("--kubeconfig", help="look in the cluster of this kubeconfig")
    parser.add_argument("--context", help="a context of the kubeconfig, instead of its current one")
    parser.add_argument("--output", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """List pods and verdicts, carry them out with `--yes`, and return the exit code."""
    try:
        return asyncio.run(_run(arguments))
    except (KpoError, SQLAlchemyError, ValueError) as error:
        print(f"kpo-async gc: {_first_line(error)}. Nothing was deleted", file=sys.stderr)
        return UNABLE


async def _run(arguments: argparse.Namespace) -> int:
    try:
        installation = await asyncio.to_thread(stored_installation_id)
        places = await asyncio.to_thread(_places, arguments)
        async with AsyncExitStack() as stack:
            pods = [pod for place in places for pod in await _pods(stack, place, installation)]
            decisions = await judge(pods)
            _show(decisions, arguments.output)
            if not arguments.yes:
                return DONE
            return await _carry_out(decisions)
    finally:
        await aclose_all()


def _places(arguments: argparse.Namespace) -> list[Place]:
    """Return where to look. Blocks; raises `ValueError` when there is no such place."""
    cluster = ClusterRef(conn_id=arguments.conn_id, config_file=arguments.kubeconfig, context=arguments.context)
    known = Places().read()
    if cluster != ClusterRef():
        namespaces = {arguments.namespace} if arguments.namespace else {place.namespace for place in known}
        found = {Place(namespace, cluster) for namespace in namespaces}
    else:
        found = {place for place in known if arguments.namespace in (None, place.namespace)}
    if not found:
        raise ValueError(
            "no task of this Airflow has created a pod there, as far as its database knows: "
            "give --namespace and --conn-id or --kubeconfig"
        )
    return sorted(found, key=str)


async def _pods(stack: AsyncExitStack, place: Place, installation: str) -> list[OwnedPod]:
    source, _ = await resolve(place.cluster)
    client = await stack.enter_async_context(connect(source))
    items = (await client.list("pods", place.namespace, label_selector=selector(installation)))["items"]
    pods = (OwnedPod(client, pod_from_dict(item)) for item in items)
    # A server that ignores a selector must not make us touch another Airflow's pods.
    return [pod for pod in pods if (pod.pod.metadata.labels or {}).get(INSTALLATION_LABEL) == installation]


async def _carry_out(decisions: Iterable[tuple[OwnedPod, Decision]]) -> int:
    code = DONE
    for pod, decision in decisions:
        try:
            await carry_out(pod, decision)
        except ApiError as error:
            print(f"kpo-async gc: pod {pod.handle} is left: {_first_line(error)}", file=sys.stderr)
            code = FAILED
    return code


def _show(decisions: Iterable[tuple[OwnedPod, Decision]], output: str) -> None:
    rows = [dict(zip(COLUMNS, _row(pod, decision), strict=True)) for pod, decision in decisions]
    if output == "json":
        print(json.dumps(rows, indent=2))
    elif rows:
        from rich.console import Console
        from rich.table import Table

        table = Table(*COLUMNS)
        for row in rows:
            table.add_row(*row.values())
        Console().print(table, markup=False)
    else:
        print("No pod of this Airflow is left that is not done.")


def _row(pod: OwnedPod, decision: Decision) -> tuple[str, ...]:
    record = pod.record
    state = assess(pod.pod, record.base_container if record else "base")
    task = f"{record.dag_id}.{record.task_id}[{record.map_index}] try {record.try_number}" if record else "?"
    created = parse_time(pod.pod.metadata.creation_timestamp)
    age = "?" if created is None else f"{(datetime.now(timezone.utc) - created).total_seconds():.0f} s"
    verdict = "leave" if decision.action is Action.LEAVE else str(decision.action)
    return str(pod.handle), task, str(state.verdict), age, f"{verdict}: {decision.reason}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:900]
