"""The measured process of `watch_load.py`: N triggers in one event loop, and what they cost.

Reads from stdin whose triggers it shall run, says `ready` when everything is imported, starts with the next line, which
names the pods, and writes what it measured as JSON to stdout. What the triggers log there is thrown away.
Counts what leaves the process where any asyncio program must pass: aiohttp's requests, the event loop's connections.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import importlib
import io
import json
import logging
import os
import pstats
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import aiohttp

from kpo_async.compat import timeout

Json = dict[str, Any]
TICK = 0.02
"""Seconds between two looks at whether the loop still turns."""
Trigger = Callable[[str, str], Awaitable[None]]
"""Waits for the end of the pod (name, uid)."""


class Traffic:
    """Counts requests by verb, and connections."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.connections = 0
        request = aiohttp.ClientSession._request

        async def counting_request(session: Any, method: str, url: Any, **options: Any) -> Any:
            self.requests[_verb(method, str(url), options.get("params"))] += 1
            return await request(session, method, url, **options)

        aiohttp.ClientSession._request = counting_request  # type: ignore[method-assign,assignment]

    def count_connections(self, loop: Any) -> None:
        connect = loop.create_connection

        async def counting_connect(*args: Any, **options: Any) -> Any:
            self.connections += 1
            return await connect(*args, **options)

        loop.create_connection = counting_connect


def _verb(method: str, url: str, params: Any) -> str:
    query = dict(params or ())
    if query.get("watch") or "watch=" in url:
        return "WATCH"
    if method != "GET":
        return method
    return "LIST" if url.partition("?")[0].endswith("/pods") else "GET"


class Stalls:
    """How long the event loop did not turn, and how much of that it worked: the rest it waited for a free CPU."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.longest = 0.0
        self.working = 0.0
        self.over_100ms = 0
        self.cpu = time.thread_time()
        self.due = loop.time() + TICK
        self.handle = loop.call_at(self.due, self.look)

    def look(self) -> None:
        late = self.loop.time() - self.due
        cpu = time.thread_time()
        self.longest = max(self.longest, late)
        self.working = max(self.working, min(late, cpu - self.cpu))
        self.over_100ms += late > 0.1
        self.cpu = cpu
        self.due = self.loop.time() + TICK
        self.handle = self.loop.call_at(self.due, self.look)


def memory(field: str) -> int:
    """Bytes, from /proc/self/status: VmRSS now, VmHWM at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak() -> None:
    """Have the peak of memory count from here."""
    Path("/proc/self/clear_refs").write_text("5")


async def ours(stack: AsyncExitStack, orders: Json) -> Trigger:
    """One `follow` per pod: the informer alone, without Airflow."""
    from kpo_async.kube.auth import ClusterSource
    from kpo_async.kube.client import connect
    from kpo_async.kube.watch import follow
    from kpo_async.pod.status import assess

    client = await stack.enter_async_context(connect(ClusterSource(config_file=orders["kubeconfig"])))

    async def wait(name: str, uid: str) -> None:
        async with follow(client, orders["namespace"], name, uid, selector="bench=watch-load") as subscription:
            while True:
                view = await subscription.next()
                if view.presence.final or (view.pod and assess(view.pod, "base").exit_code is not None):
                    return

    return wait


async def trigger(stack: AsyncExitStack, orders: Json) -> Trigger:
    """Our `KubernetesPodTrigger`, as the triggerer runs it."""
    from kpo_async.pod_task import ClusterRef, PodTask
    from kpo_async.triggers.pod import KubernetesPodTrigger

    cluster = ClusterRef(config_file=orders["kubeconfig"], in_cluster=False)

    async def wait(name: str, uid: str) -> None:
        task = PodTask(
            name,
            orders["namespace"],
            uid,
            cluster=cluster,
            logs=None,
            on_finish_action="keep_pod",
            events_on_startup=False,
        )
        async for _ in KubernetesPodTrigger(task.to_dict()).run():
            return

    return wait


async def incumbent(stack: AsyncExitStack, orders: Json) -> Trigger:
    """The `KubernetesPodTrigger` of apache-airflow-providers-cncf-kubernetes."""
    import yaml
    from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger

    # The operator reads the file and ships its content.
    config = yaml.safe_load(await asyncio.to_thread(Path(orders["kubeconfig"]).read_text))

    async def wait(name: str, uid: str) -> None:
        waiting = KubernetesPodTrigger(
            pod_name=name,
            pod_namespace=orders["namespace"],
            trigger_start_time=datetime.now(timezone.utc),
            base_container_name="base",
            config_dict=config,
            in_cluster=False,
            get_logs=False,
            on_finish_action="keep_pod",
            log_events_on_startup=False,
        )
        async for _ in waiting.run():
            return

    return wait


WHO = {"ours": ours, "trigger": trigger, "incumbent": incumbent}
IMPORTS = {
    "ours": ["kpo_async.kube.watch.informer", "kpo_async.pod.status"],
    "trigger": ["kpo_async.triggers.pod"],
    "incumbent": ["airflow.providers.cncf.kubernetes.triggers.pod"],
}
"""What is imported before the measuring begins."""


async def measure(who: str, orders: Json, traffic: Traffic) -> Json:
    """Run all triggers to their end."""
    loop = asyncio.get_running_loop()
    traffic.count_connections(loop)
    fired: dict[str, float] = {}
    failures: Counter[str] = Counter()

    async def run(wait: Trigger, name: str, uid: str) -> None:
        try:
            await wait(name, uid)
        except Exception as error:  # any failure of a trigger is a result
            failures[repr(error)[:200]] += 1
        else:
            fired[name] = time.time()

    async with AsyncExitStack() as stack:
        gc.collect()
        idle, began, cpu = memory("VmRSS"), time.time(), time.process_time()
        forget_peak()
        wait = await WHO[who](stack, orders)
        stalls = Stalls(loop)
        async with timeout(orders["seconds"]):
            tasks = []
            for name, uid in orders["pods"].items():
                tasks.append(asyncio.create_task(run(wait, name, uid)))
                await asyncio.sleep(0)  # as the triggerer does
            await asyncio.gather(*tasks)
        stalls.handle.cancel()
        return {
            "fired": fired,
            "failures": dict(failures),
            "began": began,
            "seconds": time.time() - began,
            "cpu": time.process_time() - cpu,
            "memory": memory("VmHWM") - idle,
            "idle_memory": idle,
            "longest_stall": stalls.longest,
            "longest_working_stall": stalls.working,
            "stalls_over_100ms": stalls.over_100ms,
            "requests": dict(traffic.requests),
            "connections": traffic.connections,
            "context_switches": resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw,
        }


def own_stdout() -> TextIO:
    """The stdout that our parent reads; what anybody else writes there goes nowhere from now on."""
    ours = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return ours


def main() -> None:
    """Obey the orders on stdin."""
    who, profiled = json.loads(sys.stdin.readline())
    out = own_stdout()
    logging.disable(logging.INFO)
    for module in IMPORTS[who]:
        importlib.import_module(module)
    traffic = Traffic()
    print("ready", file=out, flush=True)
    orders = json.loads(sys.stdin.readline())
    profile = cProfile.Profile() if profiled else None
    if profile:
        profile.enable()
    result = asyncio.run(measure(who, orders, traffic))
    if profile:
        profile.disable()
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(30)
        result["profile"] = text.getvalue()
    print(json.dumps(result), file=out, flush=True)


if __name__ == "__main__":
    main()
