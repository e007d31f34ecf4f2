"""`kpo-async ps`: living pods and their tasks, and what they wait for. With `--watch`, live.

Without a terminal, `--watch` prints a line for each change; as JSON, `{"type": ..., "pod": ...}` on one line each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import msgspec

from kpo_async.api_types import Pod, pod_from_dict
from kpo_async.commands.command import Exit, add_cluster_options, add_output_option, complain, run_command
from kpo_async.commands.sites import Site, ask, open_sites
from kpo_async.commands.table import age, plain, print_json, print_table, results, rich_table, show
from kpo_async.compat import TaskGroup
from kpo_async.exceptions import ApiError
from kpo_async.kube.watch import Apply, Delete, Init, InitApply, InitDone, watch_pods
from kpo_async.lifecycle.summary import PodSummary, summarize

COLUMNS = ("pod", "task", "try", "phase", "age", "restarts", "node", "explanation")
REDRAW = 0.5
"""Seconds between two pictures of the live table: ages go on, and bursts of changes become one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    parser.add_argument("-w", "--watch", action="store_true", help="go on, and show changes as they come")
    add_cluster_options(parser)
    add_output_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the pods and return the exit code."""
    return run_command("ps", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        sites = await open_sites(stack, arguments)
        if arguments.watch:
            for problem in sites.problems:
                complain("ps", problem)
            await _watch(sites.sites, arguments.output)
        answers, problems = await ask(sites, _pods)
        for problem in problems:
            complain("ps", problem)
        summaries = sorted((s for _, pods in answers for s in pods), key=_order)
        if arguments.output == "json":
            print_json(summaries)
        else:
            print_table(COLUMNS, map(row, summaries), empty="No pod of this Airflow is living there.")
        return Exit.PROBLEM if problems else Exit.DONE


async def _pods(site: Site) -> list[PodSummary]:
    items = (await site.client.list("pods", site.namespace, label_selector=site.selector))["items"]
    return [summarize(pod_from_dict(item)) for item in items]


def row(pod: PodSummary) -> Sequence[str]:
    """Return the cells of a pod's row."""
    task, number = "?", "?"
    if pod.task is not None:
        index = f"[{pod.task.map_index}]" if pod.task.map_index >= 0 else ""
        task = f"{pod.task.dag_id}.{pod.task.task_id}{index}"
        number = str(pod.task.try_number) + (f".{pod.attempt}" if pod.attempt > 1 else "")
    phase = "Terminating" if pod.terminating else pod.phase
    return (
        f"{pod.namespace}/{pod.name}",
        task,
        number,
        phase,
        age(pod.created_at),
        str(pod.restarts),
        pod.node or "-",
        pod.explanation,
    )


def _order(pod: PodSummary) -> tuple[str, str]:
    return (str(pod.created_at), pod.name)


async def _watch(sites: Iterable[Site], output: str) -> None:
    """Show all sites until the user ends it."""
    pods: dict[str, PodSummary] = {}
    async with _display(pods, output) as on_change, TaskGroup() as group:
        for site in sites:
            group.create_task(_follow(site, pods, on_change), name=f"kpo-async ps: {site}")


async def _follow(site: Site, pods: dict[str, PodSummary], on_change: Callable[[str, PodSummary], None]) -> None:
    """Keep `pods` up to date with one site, and show each change."""
    listed: dict[str, PodSummary] = {}

    def on_problem(problem: ApiError | None) -> None:
        complain("ps", f"{site}: {'served again' if problem is None else problem}")

    def apply(pod: Pod) -> None:
        uid, summary = pod.metadata.uid, summarize(pod)
        if pods.get(uid) != summary:
            change = "MODIFIED" if uid in pods else "ADDED"
            pods[uid] = summary
            on_change(change, summary)

    def forget(uid: str) -> None:
        if (gone := pods.pop(uid, None)) is not None:
            on_change("DELETED", gone)

    events = watch_pods(site.client, site.namespace, label_selector=site.selector, on_problem=on_problem)
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Init):
                listed = {}
            elif isinstance(event, InitApply):
                listed[event.pod.metadata.uid] = summarize(event.pod)
                apply(event.pod)
            elif isinstance(event, Apply):
                apply(event.pod)
            elif isinstance(event, Delete):
                forget(event.pod.metadata.uid)
            elif isinstance(event, InitDone):
                for uid in [uid for uid, pod in pods.items() if pod.namespace == site.namespace and uid not in listed]:
                    forget(uid)


@asynccontextmanager
async def _display(pods: dict[str, PodSummary], output: str) -> AsyncIterator[Callable[[str, PodSummary], None]]:
    """Yield the function that is called with each change."""
    if output == "json":
        yield lambda change, pod: show(json.dumps({"type": change, "pod": msgspec.to_builtins(pod)}))
    elif not results().isatty() or rich_table((), ()) is None:
        yield lambda change, pod: show("   ".join((change, *map(plain, row(pod)))))
    else:
        async with _live_table(pods):
            yield lambda change, pod: None


@asynccontextmanager
async def _live_table(pods: dict[str, PodSummary]) -> AsyncIterator[None]:
    from rich.console import Console
    from rich.live import Live

    def picture() -> Any:
        return rich_table(COLUMNS, [row(pod) for pod in sorted(pods.values(), key=_order)])

    async def redraw(live: Live) -> None:
        async for _ in _every(REDRAW):
            live.update(picture(), refresh=True)

    console = Console(file=results(), highlight=False)
    with Live(picture(), console=console, auto_refresh=False, vertical_overflow="crop", redirect_stdout=False) as live:
        drawing = asyncio.create_task(redraw(live), name="kpo-async ps: live table")
        try:
            yield
        finally:
            drawing.cancel()
            await asyncio.wait([drawing])


async def _every(period: float) -> AsyncIterator[None]:
    """Yield now and then every `period` seconds."""
    while True:
        yield
        await asyncio.sleep(period)
