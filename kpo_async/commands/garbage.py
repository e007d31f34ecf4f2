"""The work of `kpo-async gc`. Imports Airflow's models, which takes seconds."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

from kpo_async.api_types import pod_from_dict
from kpo_async.commands.command import (
    Exit,
    UnableError,
    complain,
)
from kpo_async.commands.sites import Site, cluster_of, open_places
from kpo_async.commands.table import age, print_json, print_table
from kpo_async.commands.tasks import reading_database
from kpo_async.exceptions import ApiError, KpoError
from kpo_async.pod.names import INSTALLATION_LABEL
from kpo_async.pod.status import assess
from kpo_async.pod.timestamps import parse_time
from kpo_async.pod_task import ClusterRef
from kpo_async.reconciler.places import Places
from kpo_async.reconciler.runner import OwnedPod, carry_out, judge, selector
from kpo_async.reconciler.thread import stored_installation_id
from kpo_async.reconciler.verdict import Action, Decision

COLUMNS = ("pod", "task", "state", "age", "verdict")


async def collect(arguments: argparse.Namespace) -> int:
    """List the pods, carry out the verdicts if that is wanted, and return the exit code. Raises `UnableError`."""
    try:
        return await _collect(arguments)
    except (KpoError, UnableError) as error:
        raise UnableError(f"{_first_line(error)}. Nothing was deleted") from error


async def _collect(arguments: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        installation, places = await asyncio.to_thread(_read, arguments)
        sites = await open_places(stack, places, selector(installation))
        if sites.problems:
            raise UnableError("; ".join(sites.problems))
        pods = [pod for site in sites.sites for pod in await _pods(site, installation)]
        with reading_database():
            decisions = await judge(pods)
        _show(decisions, arguments.output)
        return await _carry_out(decisions) if arguments.yes else Exit.DONE


def _read(arguments: argparse.Namespace) -> tuple[str, list[tuple[str | None, ClusterRef]]]:
    """Return the installation's id, and where to look.

    The database is read whatever the options say: one that may be a copy of another Airflow's is refused there.
    """
    cluster = cluster_of(arguments)
    with reading_database():
        known, installation = Places().read(), stored_installation_id()
    if cluster == ClusterRef():
        found = {(place.namespace, place.cluster) for place in known if arguments.namespace in (None, place.namespace)}
    else:
        namespaces = {arguments.namespace} if arguments.namespace else {place.namespace for place in known}
        found = {(namespace, cluster) for namespace in namespaces}
    if not found:
        raise UnableError(
            "no task of this Airflow has created a pod there, as far as its database knows: "
            "give --namespace and --conn-id or --kubeconfig"
        )
    return installation, sorted(found, key=str)


async def _pods(site: Site, installation: str) -> list[OwnedPod]:
    items = (await site.client.list("pods", site.namespace, label_selector=site.selector))["items"]
    pods = (OwnedPod(site.client, pod_from_dict(item)) for item in items)
    # A server that ignores a selector must not make us touch another Airflow's pods.
    return [pod for pod in pods if (pod.pod.metadata.labels or {}).get(INSTALLATION_LABEL) == installation]


async def _carry_out(decisions: Iterable[tuple[OwnedPod, Decision]]) -> int:
    code = Exit.DONE
    for pod, decision in decisions:
        try:
            await carry_out(pod, decision)
        except ApiError as error:
            complain("gc", f"pod {pod.handle} is left: {error}")
            code = Exit.PROBLEM
    return code


def _show(decisions: Iterable[tuple[OwnedPod, Decision]], output: str) -> None:
    rows = [_row(pod, decision) for pod, decision in decisions]
    if output == "json":
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    else:
        print_table(COLUMNS, rows, empty="No pod of this Airflow is left that is not done.")


def _row(pod: OwnedPod, decision: Decision) -> tuple[str, ...]:
    record = pod.record
    state = assess(pod.pod, record.base_container if record else "base")
    task = f"{record.dag_id}.{record.task_id}[{record.map_index}] try {record.try_number}" if record else "?"
    created = age(parse_time(pod.pod.metadata.creation_timestamp))
    verdict = "leave" if decision.action is Action.LEAVE else str(decision.action)
    return str(pod.handle), task, str(state.verdict), created, f"{verdict}: {decision.reason}"


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:900]
