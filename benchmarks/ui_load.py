"""What the page "Pods" costs Airflow's API server, and whether it stays smooth: 1,000 pods, 20 events/s, two pages.

    python benchmarks/ui_load.py --pods 1000 --events 20 --pages 2 --seconds 60

Airflow's API server runs alone on an embedded cluster. This program writes the status of simulated pods as kubelets
do; chromium shows the pages, each in a window of its own. Every second one event is about a pod in sight: the page's
own script notes when its row has changed. Writes benchmarks/results/ui_load.json and ui_load.md, prints the latter, and
exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from playwright.async_api import Page, async_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from kpo_async.demo.cluster import Cluster
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client
from tests.ui.api_server import ApiServer, api_server, pod_of

RESULTS = Path(__file__).parent / "results" / "ui_load"
SETTLE = 5.0
"""Seconds after a change before a measurement begins."""
RECORDER = """
window.frames_ = []; window.longest = 0; window.seen = {};
const request = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = (callback) => request((at) => {
  const begun = performance.now(); callback(at); window.frames_.push(performance.now() - begun);
});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
}).observe({ type: "longtask" });
addEventListener("DOMContentLoaded", () => {
  new MutationObserver(() => {
    for (const row of document.querySelectorAll(".row")) {
      const key = row.children[0].textContent + "/" + row.children[5].textContent;
      if (!(key in window.seen)) window.seen[key] = Date.now();
    }
  }).observe(document.getElementById("rows"), { subtree: true, childList: true, characterData: true });
});
"""


@dataclass
class Result:
    """What was measured. CPU is in percent of one core, memory in MiB, time in ms."""

    pods: int
    events_per_second: float
    pages: int
    seconds: float
    idle_cpu: float
    """Before the first page."""
    open_cpu: float
    """While the pages are open."""
    after_cpu: float
    """After the last page."""
    idle_memory: float
    open_memory: float
    longest_task: float
    """The longest time that a page's thread was blocked; 0 when it was never over 50 ms."""
    longest_frame: float
    """The longest of the page's own frame callbacks."""
    median_latency: float
    longest_latency: float
    events_seen: int
    events_in_sight: int
    watches_before: int
    watches_open: int
    watches_after: int
    load_before: float
    """The machine's load average of a minute when the measurement began: what else ran."""


@dataclass
class Row:
    """One line of the report. `most` is the target, None where there is none."""

    what: str
    value: float
    unit: str = ""
    most: float | None = None

    @property
    def met(self) -> bool:
        return self.most is None or self.value <= self.most

    def __str__(self) -> str:
        target = "" if self.most is None else f"at most {self.most:g}{self.unit}{'' if self.met else ', missed'}"
        return f"| {self.what} | {round(self.value, 1):g}{self.unit} | {target} |"


def rows(found: Result) -> list[Row]:
    """Return what was measured beside the targets."""
    return [
        Row("CPU of the API server before the first page", found.idle_cpu, " % of a core"),
        Row("more while the pages are open", found.open_cpu - found.idle_cpu, " % of a core", 10),
        Row("more after the last page", found.after_cpu - found.idle_cpu, " % of a core", 0.5),
        Row("memory of the API server before the first page", found.idle_memory, " MiB"),
        Row("more while the pages are open", found.open_memory - found.idle_memory, " MiB", 60),
        Row("longest time for which a page was blocked, if over 50 ms", found.longest_task, " ms", 50),
        Row("longest frame of a page's script", found.longest_frame, " ms", 50),
        Row("from an event to its row, median", found.median_latency, " ms"),
        Row("from an event to its row, longest", found.longest_latency, " ms", 1000),
        Row(f"events not shown, of {found.events_in_sight}", found.events_in_sight - found.events_seen, most=0),
        Row("watches before the first page", found.watches_before, most=0),
        Row("watches while the pages are open", found.watches_open, most=1),
        Row("watches after the last page", found.watches_after, most=0),
    ]  # fmt: skip


def report(found: Result) -> str:
    """Return the Markdown text."""
    lines = "\n".join(map(str, rows(found)))
    machine = f"{os.cpu_count()} cores, load average {found.load_before:.1f} before, Python {platform.python_version()}"
    return f"""# What the page "Pods" costs

Generated by `benchmarks/ui_load.py` ({machine}): {found.pods:,} living
pods, {found.events_per_second:g} events a second, {found.pages} pages open in chromium for {found.seconds:g} s, all on
one machine with the embedded cluster.

| | measured | target |
|---|---|---|
{lines}
"""


def status(restarts: int, phase: str = "Running") -> dict[str, Any]:
    """What a kubelet writes."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    container = {"name": "base", "image": "busybox:1.36", "imageID": "", "ready": True, "restartCount": restarts}
    return {"status": {"phase": phase, "containerStatuses": [{**container, "state": {"running": {"startedAt": now}}}]}}


class Load:
    """The simulated pods."""

    def __init__(self, client: Client, namespace: str, count: int) -> None:
        self._client = client
        self._namespace = namespace
        self.names = [f"dag-{number % 20:02d}-task-{number:04d}" for number in range(count)]
        self._restarts = 0

    async def create(self) -> None:
        for name in self.names:
            pod = pod_of(name[:6], name[7:], resources={"requests": {"cpu": "100m", "memory": "64Mi"}})
            pod["spec"]["nodeName"] = "simulated"
            await self._client.create("pods", pod, self._namespace)
            await self._client.patch("pods/status", name, status(0), self._namespace)

    async def run(self, per_second: float, seconds: float) -> dict[str, float]:
        """Write statuses evenly; return when the visible row's statuses were written (s), by what the row shows."""
        written: dict[str, float] = {}
        clock = asyncio.get_running_loop().time
        begun = clock()
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, begun + number / per_second - clock()))
            in_sight = number % int(per_second) == 0
            name = self.names[0] if in_sight else random.choice(self.names[100:])
            self._restarts += 1
            if in_sight:
                written[f"{name[:6]}.{name[7:]}/{self._restarts}"] = time.time()
            await self._client.patch("pods/status", name, status(self._restarts), self._namespace)
        return written


def mib(server: ApiServer) -> float:
    """The memory of the API server's processes that they share with no other."""
    process = psutil.Process(server.program("api-server").pid)
    every = [process, *process.children(recursive=True)]
    return sum(one.memory_full_info().uss for one in every) / 2**20


async def watches(cluster: Cluster) -> int:
    """How many watches of pods are open."""
    traffic = await cluster.traffic()
    assert traffic is not None, "the embedded cluster shows its metrics"
    return traffic.watches


async def open_pages(stack: AsyncExitStack, server: ApiServer, count: int, pods: int) -> list[Page]:
    playwright = await stack.enter_async_context(async_playwright())
    chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
    stack.push_async_callback(chromium.close)
    pages = []
    for _ in range(count):
        context = await chromium.new_context(viewport={"width": 1360, "height": 800})
        await context.add_cookies([{"name": "_token", "value": server.token("root", "admin"), "url": server.url}])
        await context.add_init_script(RECORDER)
        page = await context.new_page()
        await page.goto(f"{server.url}/kpo-async/")
        await page.locator("#total", has_text=f"{pods} pods").wait_for(timeout=60_000)
        await page.locator("#head button", has_text="Task").click()
        pages.append(page)
    return pages


async def measure(options: argparse.Namespace) -> Result:
    load_before = os.getloadavg()[0]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, cluster = await stack.enter_async_context(api_server(folder))
        server.remember(cluster, "kubernetes_default")
        source = await load(ClusterSource(config_file=str(cluster.kubeconfig)))
        client = await stack.enter_async_context(Client(source, rate=1000, burst=1000))
        load_ = Load(client, cluster.namespace, options.pods)
        await load_.create()

        async def cpu(seconds: float) -> float:
            before = server.cpu_seconds()
            await asyncio.sleep(seconds)
            return (server.cpu_seconds() - before) / seconds * 100

        await cpu(SETTLE)
        before, idle_memory, idle_cpu = await watches(cluster), mib(server), await cpu(10)
        async with AsyncExitStack() as browser:
            pages = await open_pages(browser, server, options.pages, options.pods)
            await asyncio.sleep(SETTLE)
            for page in pages:  # loading is not what is measured
                await page.evaluate("() => { frames_ = []; longest = 0; seen = {}; }")
            running = asyncio.create_task(load_.run(options.events, options.seconds))
            open_cpu = await cpu(options.seconds)
            written = await running
            await asyncio.sleep(2)
            found = [await page.evaluate("() => ({ frames_, longest, seen })") for page in pages]
            during, open_memory = await watches(cluster), mib(server)
        await asyncio.sleep(15)
        after, after_cpu = await watches(cluster), await cpu(10)
        lags = [page["seen"][key] - at * 1000 for page in found for key, at in written.items() if key in page["seen"]]
        return Result(
            options.pods, options.events, options.pages, options.seconds, idle_cpu, open_cpu, after_cpu, idle_memory,
            open_memory, max(page["longest"] for page in found), max(max(page["frames_"]) for page in found),
            statistics.median(lags), max(lags), len(lags), len(written) * options.pages,
            before, during, after, load_before,
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--events", type=float, default=20)
    parser.add_argument("--pages", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    result = asyncio.run(measure(parser.parse_args()))
    text = report(result)
    RESULTS.with_suffix(".json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text(text)
    print(text)
    return 0 if all(row.met for row in rows(result)) else 1


if __name__ == "__main__":
    sys.exit(main())
