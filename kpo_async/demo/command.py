"""`kpo-async demo`: start a cluster and an Airflow, run the fan-out, watch it, add it up, stop everything."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kpo_async.demo.airflow import Airflow, DagRun
from kpo_async.demo.cluster import Cluster, open_cluster
from kpo_async.demo.observe import Observer, Sample
from kpo_async.demo.picture import draw
from kpo_async.demo.processes import ProgramError
from kpo_async.demo.view import LiveView, PlainView, View, requests_text, summary
from kpo_async.exceptions import KpoError

INTERRUPTED = 130
SHOWN_FAILURES = 10
PRELOADED = ("airflow.sdk.execution_time.task_runner", "kpo_async.operators.pod", "kpo_async.operators.worker")
"""Halves the CPU that a task takes on a worker."""


@dataclass(frozen=True)
class Options:
    """The command line's options."""

    pods: int
    pod_seconds: int
    slots: int
    kubeconfig: Path | None
    dags: Path
    picture: Path
    plain: bool
    faults: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `run` reads."""
    parser.add_argument("--pods", type=int, default=200, help="how many pods (%(default)s)")
    parser.add_argument("--pod-seconds", type=int, default=30, help="how long each runs (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="worker slots of the Airflow (%(default)s)")
    parser.add_argument("--kubeconfig", type=Path, help="run the pods on this cluster, not on an embedded one")
    parser.add_argument("--dags", type=Path, default=_examples(), help="folder with fan_out.py (%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("kpo-async-demo.png"), help="PNG to write (%(default)s)")
    parser.add_argument("--faults", action="store_true", help="the embedded API server misbehaves all the time")
    parser.add_argument("--plain", action="store_true", help="lines instead of a live picture")


def _examples() -> Path:
    """Return the folder of example DAGs: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "example_dags"
    return installed if installed.exists() else package.parent / "example_dags"


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and return the exit code."""
    if arguments.faults and arguments.kubeconfig:
        print("kpo-async demo: --faults breaks the embedded cluster only; leave out --kubeconfig", file=sys.stderr)
        return 2
    names = Options.__dataclass_fields__
    return asyncio.run(_interruptible(Options(**{name: getattr(arguments, name) for name in names})))


async def _interruptible(options: Options) -> int:
    """Run the demo. Ctrl-C, SIGTERM and a closed terminal cancel it once; it then stops everything it started."""
    demo = asyncio.create_task(_demo(options), name="demo")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _Once(demo))
    try:
        return await demo
    except asyncio.CancelledError:
        print("Interrupted; everything that was started has been stopped.", file=sys.stderr)
        return INTERRUPTED
    except (ProgramError, KpoError) as error:
        print(f"kpo-async demo: {error}", file=sys.stderr)
        return 1


class _Once:
    """Cancels a task on the first call: cancelling its clean-up as well would leave processes behind."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task = task
        self._called = False

    def __call__(self) -> None:
        if not self._called:
            self._called = True
            self._task.cancel()


async def _demo(options: Options) -> int:
    console = Console()
    live = console.is_terminal and not options.plain
    view: View = LiveView(console, options.pods, options.slots) if live else PlainView(console)
    steps = _Steps(view)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-async-cluster-")))
        with steps.timed("cluster", "Starting the embedded cluster" if not options.kubeconfig else "Connecting"):
            cluster = await stack.enter_async_context(open_cluster(options.kubeconfig, folder, faults=options.faults))
        airflow = Airflow(
            options.dags,
            parallelism=options.slots,
            environment={"AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection},
            preload=PRELOADED,
        )
        with steps.timed("Airflow", "Starting Airflow: api-server, scheduler, dag-processor, triggerer"):
            await stack.enter_async_context(airflow)
        view.step(
            f"Airflow is at {airflow.url}; triggering fan_out with {options.pods} pods of {options.pod_seconds} s"
        )
        run = await airflow.trigger("fan_out", {"pods": options.pods, "seconds": options.pod_seconds})
        with steps.timed("run", ""):
            samples = await _watch(options, view, airflow, cluster, run)
        ok = _judge(options, console, airflow, run)
        draw(samples, options.slots, options.picture)
        console.print(summary(_rows(options, cluster, samples, steps)))
        console.print(f"Picture: {options.picture.resolve()}", soft_wrap=True)
        return 0 if ok else 1


async def _watch(options: Options, view: View, airflow: Airflow, cluster: Cluster, run: DagRun) -> list[Sample]:
    """Show the run until it ends, and return all samples."""
    samples = []
    timeout = 300 + options.pod_seconds + 3.0 * options.pods
    try:
        async for sample in Observer(airflow, cluster, run, faults=options.faults).samples(timeout):
            samples.append(sample)
            view.show(sample)
    finally:
        view.close()
    return samples


def _judge(options: Options, console: Console, airflow: Airflow, run: DagRun) -> bool:
    """Print what went wrong, and return whether everything went well."""
    failed = [task for task in airflow.task_instances(run) if task.state != "success"]
    for task in failed[:SHOWN_FAILURES]:
        console.print(f"{task} is {task.state}: {airflow.error(run, task)}", markup=False, style="red")
    if len(failed) > SHOWN_FAILURES:
        console.print(f"... and {len(failed) - SHOWN_FAILURES} more", style="red")
    expected = sum(n * n for n in range(1, options.pods + 1))
    with contextlib.suppress(LookupError):
        found = airflow.xcom(run, "add_up")
        console.print(f"The pods' numbers add up to {found}; expected {expected}", style="green bold")
        return found == expected and not failed
    console.print("There is no sum, because add_up did not run", style="red")
    return False


def _rows(options: Options, cluster: Cluster, samples: list[Sample], steps: _Steps) -> dict[str, str]:
    last = samples[-1]
    rows = {
        "pods": f"{options.pods} of {options.pod_seconds} s",
        "most pods running at once": str(max(sample.pods["Running"] for sample in samples)),
        "most tasks deferred at once": str(max(sample.tasks["deferred"] for sample in samples)),
        "most worker slots held at once": f"{max(sample.slots for sample in samples)} of {options.slots}",
        "log lines": str(last.log_lines),
        "time": ", ".join(f"{name} {seconds:.1f} s" for name, seconds in steps.seconds.items()),
    }
    if options.faults:
        counts = Counter(last.faults)
        rows["faults"] = "\n".join(f"{count} x {fault}" for fault, count in counts.most_common())
    if last.traffic is not None:
        by = "" if cluster.embedded else " (all clients of this cluster)"
        rows["API requests about pods"] = requests_text(last.traffic.requests) + by
        rows["most watches open at once"] = str(max(sample.traffic.watches for sample in samples if sample.traffic))
    return rows


class _Steps:
    """Announces each step and records how long it took."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, name: str, text: str) -> Iterator[None]:
        if text:
            self._view.step(text)
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
