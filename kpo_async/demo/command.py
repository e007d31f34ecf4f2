"""`kpo-async demo`: start a cluster and an Airflow, run the fan-out, watch it, add it up, stop everything.

With `--mode all` it does that three times, and shows side by side what the ways to run the same DAG cost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from kpo_async.demo.airflow import Airflow, DagRun
from kpo_async.demo.cluster import Cluster, open_cluster
from kpo_async.demo.observe import Observer, Sample, duration
from kpo_async.demo.picture import draw
from kpo_async.demo.processes import ProgramError
from kpo_async.demo.view import LiveView, PlainView, View, requests_text, summary
from kpo_async.exceptions import KpoError
from kpo_async.hooks.airflow import AIRFLOW_VERSION, FAILING_IN_TRIGGERER_RETRIES

INTERRUPTED = 130
SHOWN_FAILURES = 10
MODES: dict[str, dict[str, bool]] = {
    "deferrable": {},
    "end_from_trigger": {"end_from_trigger": True},
    "workerless": {"start_from_trigger": True, "end_from_trigger": True},
}
"""The options of `[kpo_async]` that are on, by the name of the mode."""
ALL = "all"


@dataclass(frozen=True)
class Options:
    """The command line's options."""

    pods: int
    pod_seconds: int
    slots: int
    kubeconfig: Path | None
    dags: Path
    picture: Path
    mode: str
    keep: bool
    plain: bool
    faults: bool

    @property
    def modes(self) -> list[str]:
        """The modes to run, one after the other."""
        return list(MODES) if self.mode == ALL else [self.mode]


@dataclass(frozen=True)
class Run:
    """How the fan-out went in one mode."""

    samples: list[Sample]
    rows: dict[str, str]
    """What is printed about it."""
    ok: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `run` reads."""
    parser.add_argument("--pods", type=int, default=200, help="how many pods (%(default)s)")
    parser.add_argument("--pod-seconds", type=int, default=30, help="how long each runs (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="worker slots of the Airflow (%(default)s)")
    parser.add_argument("--kubeconfig", type=Path, help="run the pods on this cluster, not on an embedded one")
    parser.add_argument("--dags", type=Path, default=_examples(), help="folder with fan_out.py (%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("kpo-async-demo.png"), help="PNG to write (%(default)s)")
    parser.add_argument(
        "--mode", choices=[*MODES, ALL], default="workerless", help="which processes start and end a task (%(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="leave Airflow up after the run, until Ctrl-C")
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
    runs: dict[str, Run] = {}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kpo-async-cluster-")))
        console.print("Connecting to the cluster" if options.kubeconfig else "Starting the embedded cluster")
        cluster = await stack.enter_async_context(open_cluster(options.kubeconfig, folder, faults=options.faults))
        for mode in options.modes:
            view: View = LiveView(console, options.pods, options.slots) if live else PlainView(console)
            is_last = mode == options.modes[-1]
            async with _airflow(options, mode, cluster, view) as (airflow, steps):
                runs[mode] = await _run(options, mode, airflow, cluster, view, steps)
                if is_last:
                    _show(options, console, runs)
                if is_last and options.keep:
                    view.step(
                        f"Airflow is still at {airflow.url}, and {options.dags} has its DAG files. Ctrl-C ends it"
                    )
                    await asyncio.Event().wait()
    return 0 if all(run.ok for run in runs.values()) else 1


@contextlib.asynccontextmanager
async def _airflow(
    options: Options, mode: str, cluster: Cluster, view: View
) -> AsyncIterator[tuple[Airflow, dict[str, float]]]:
    """Start an Airflow for a mode; yield it, and the seconds that its start took."""
    switches = {f"AIRFLOW__KPO_ASYNC__{name.upper()}": str(value) for name, value in MODES[mode].items()}
    airflow = Airflow(
        options.dags,
        parallelism=options.slots,
        environment={"AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection, **switches},
    )
    view.step(f"Starting Airflow, {mode}: api-server, scheduler, dag-processor, triggerer")
    start = time.monotonic()
    async with airflow:
        yield airflow, {"Airflow": time.monotonic() - start}


async def _run(
    options: Options, mode: str, airflow: Airflow, cluster: Cluster, view: View, seconds: dict[str, float]
) -> Run:
    """Run the fan-out once, and print whether it added up."""
    view.step(f"Airflow is at {airflow.url}; triggering fan_out with {options.pods} pods of {options.pod_seconds} s")
    if mode == "workerless" and not FAILING_IN_TRIGGERER_RETRIES:
        view.step(f"Workers start and end the tasks: Airflow {AIRFLOW_VERSION} cannot do without, from 3.3.1 on it can")
    run = await airflow.trigger("fan_out", {"pods": options.pods, "seconds": options.pod_seconds})
    samples = await _watch(options, view, airflow, cluster, run)
    ok = _judge(options, airflow, run, view)
    return Run(samples, _rows(options, cluster, samples, {**seconds, "run": duration(samples)}), ok)


def _show(options: Options, console: Console, runs: Mapping[str, Run]) -> None:
    """Print the table of all runs and draw the picture."""
    draw({mode: run.samples for mode, run in runs.items()}, options.slots, options.picture)
    console.print(summary({mode: run.rows for mode, run in runs.items()}))
    console.print(f"Picture: {options.picture.resolve()}", soft_wrap=True)


async def _watch(options: Options, view: View, airflow: Airflow, cluster: Cluster, run: DagRun) -> list[Sample]:
    """Show the run until it ends and its pods are gone, and return all samples."""
    samples = []
    timeout = 300 + options.pod_seconds + 3.0 * options.pods
    try:
        async for sample in Observer(airflow, cluster, run, faults=options.faults).samples(timeout):
            samples.append(sample)
            view.show(sample)
    finally:
        view.close()
    return samples


def _judge(options: Options, airflow: Airflow, run: DagRun, view: View) -> bool:
    """Print what went wrong, and return whether everything went well."""
    failed = [task for task in airflow.task_instances(run) if task.state != "success"]
    for task in failed[:SHOWN_FAILURES]:
        view.step(f"{task} is {task.state}: {airflow.error(run, task)}", style="red")
    if len(failed) > SHOWN_FAILURES:
        view.step(f"... and {len(failed) - SHOWN_FAILURES} more", style="red")
    expected = sum(n * n for n in range(1, options.pods + 1))
    with contextlib.suppress(LookupError):
        found = airflow.xcom(run, "add_up")
        view.step(f"The pods' numbers add up to {found}; expected {expected}", style="green bold")
        return found == expected and not failed
    view.step("There is no sum, because add_up did not run", style="red")
    return False


def _rows(options: Options, cluster: Cluster, samples: list[Sample], seconds: Mapping[str, float]) -> dict[str, str]:
    last = samples[-1]
    rows = {
        "pods": f"{options.pods} of {options.pod_seconds} s",
        "from the trigger of the DAG to its end": f"{duration(samples):.0f} s",
        "most pods running at once": str(max(sample.pods["Running"] for sample in samples)),
        "most tasks deferred at once": str(max(sample.tasks["deferred"] for sample in samples)),
        "most worker slots held at once": f"{max(sample.slots for sample in samples)} of {options.slots}",
        "log lines": str(last.log_lines),
        "time": ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items()),
    }
    if options.faults:
        counts = Counter(last.faults)
        rows["faults"] = "\n".join(f"{count} x {fault}" for fault, count in counts.most_common())
    if last.traffic is not None:
        by = "" if cluster.embedded else " (all clients of this cluster)"
        rows["API requests about pods"] = requests_text(last.traffic.requests) + by
        rows["most watches open at once"] = str(max(sample.traffic.watches for sample in samples if sample.traffic))
    return rows
