"""`kpo-async logs`: the log of a pod's container, or of a task's; with `-f` as it is written.

Where the pod is gone, the task's log in Airflow is printed, which has what was shown of the pod's.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack, aclosing

from kpo_async.commands.command import Exit, UnableError, add_cluster_options, add_target, complain, run_command
from kpo_async.commands.search import Found, search
from kpo_async.commands.table import results, show
from kpo_async.commands.tasks import Story, log_lines
from kpo_async.exceptions import NotStartedError
from kpo_async.kube.watch import Delete, Init, InitDone, watch_pods
from kpo_async.pod.status import assess


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    add_target(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container has ended")
    parser.add_argument("-c", "--container", help="another container than the one that decides how the task ends")
    parser.add_argument("--previous", action="store_true", help="of the container before its last restart")
    parser.add_argument("--tail", type=int, help="only so many of the last lines")
    parser.add_argument("--timestamps", action="store_true", help="with the time of each line")
    add_cluster_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the log and return the exit code."""
    return run_command("logs", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        found = await search(stack, arguments)
        if isinstance(found, Story):
            return await asyncio.to_thread(_print_airflows, found, arguments.try_number)
        container = arguments.container or found.base
        names = [c["name"] for kind in ("initContainers", "containers") for c in found.pod["spec"].get(kind) or ()]
        if container not in names:
            raise UnableError(
                f"pod {found.namespace}/{found.name} has no container {container!r}, but: {', '.join(names)}"
            )
        if arguments.follow:
            await _wait_for_start(found, container)
        await _print(found, container, arguments)
    return Exit.DONE


async def _wait_for_start(found: Found, container: str) -> None:
    """Wait until the container has a log, or never will."""
    selector = f"metadata.name={found.name}"
    waiting = False
    async with aclosing(watch_pods(found.client, found.namespace, field_selector=selector)) as events:
        async for event in events:
            if isinstance(event, Init | InitDone):
                continue
            gone = isinstance(event, Delete) or event.pod.metadata.uid != found.pod["metadata"]["uid"]
            state = assess(event.pod, found.base, gone=gone)
            current = state.container(container)
            if gone or state.verdict.ended or (current is not None and current.started):
                return
            if not waiting:
                waiting = True
                complain("logs", f"waiting for container {container!r} of pod {found.namespace}/{found.name} to start")


async def _print(found: Found, container: str, arguments: argparse.Namespace) -> None:
    try:
        async with found.client.log(
            found.name,
            found.namespace,
            container=container,
            follow=arguments.follow,
            timestamps=arguments.timestamps,
            tail_lines=arguments.tail,
            previous=arguments.previous,
        ) as chunks:
            async for chunk in chunks:
                results().buffer.write(chunk)
                results().buffer.flush()
    except NotStartedError as error:
        raise UnableError(f"{error}. `kpo-async diagnose` says what it waits for, -f waits for its start") from error


def _print_airflows(story: Story, try_number: int | None) -> int:
    where = f"pod {story.pod} is gone" if story.pod else "the task has no pod"
    complain("logs", f"{where}: this is the log of {story.task} in Airflow")
    for line in log_lines(story, try_number):
        show(line)
    return Exit.DONE
