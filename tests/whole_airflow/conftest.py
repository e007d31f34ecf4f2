"""One Airflow on an embedded cluster, shared by all tests of this folder, because it takes 15 s to start.

It runs in an event loop in a thread of its own, so that tests are plain functions that call `airflow.run(...)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kpo_async.demo.airflow import Airflow, DagRun, TaskInstance
from kpo_async.demo.cluster import Cluster, open_cluster

EXAMPLES = Path(__file__).parents[2] / "example_dags"
DAGS = Path(__file__).parent / "dags"
T = TypeVar("T")


class WholeAirflow:
    """A running Airflow, observed from outside."""

    def __init__(self, airflow: Airflow, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        self.airflow = airflow
        self._cluster = cluster
        self._loop = loop

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, timeout: float = 180) -> DagRun:
        """Run a DAG and wait for its end."""
        return self.wait(self._run(dag_id, conf, timeout))

    def start(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a DAG."""
        return self.wait(self.airflow.trigger(dag_id, conf))

    def until(self, what: str, condition: Callable[[], bool], timeout: float = 120) -> None:
        """Wait until `condition` holds; `what` describes it in the error after `timeout` seconds."""

        async def look() -> None:
            async for _ in self.airflow.ticks(what, timeout):
                if await asyncio.to_thread(condition):
                    return

        self.wait(look())

    def pods(self) -> set[str]:
        """The names of the pods that are not being deleted."""
        found = self.wait(self._cluster.client.list("pods", self._cluster.namespace))["items"]
        return {pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]}

    @property
    def connection(self) -> str:
        """The connection `kubernetes_default`, as JSON."""
        return self._cluster.connection

    def failures(self, run: DagRun) -> dict[str, str]:
        """The task instances that did not succeed, each with the error it logged."""
        failed = [task for task in self.airflow.task_instances(run) if task.state != "success"]
        return {str(task): self.airflow.error(run, task) for task in failed}

    def log(self, run: DagRun, task: TaskInstance) -> list[str]:
        """The lines of a task's logs."""
        return [str(record.get("event")) for record in self.airflow.logs(run, task)]

    async def _run(self, dag_id: str, conf: Mapping[str, Any] | None, timeout: float) -> DagRun:
        run = await self.airflow.trigger(dag_id, conf)
        await self.airflow.finished(run, timeout)
        return run

    def wait(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in Airflow's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()


@contextlib.contextmanager
def loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="whole Airflow")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def whole_airflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeAirflow]:
    dags = tmp_path_factory.mktemp("dags")
    for file in (*EXAMPLES.glob("*.py"), *DAGS.glob("*.py")):
        (dags / file.name).symlink_to(file)
    stack = contextlib.AsyncExitStack()

    async def start() -> tuple[Airflow, Cluster]:
        cluster = await stack.enter_async_context(open_cluster(None, tmp_path_factory.mktemp("cluster")))
        environment = {"AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection}
        return await stack.enter_async_context(Airflow(dags, environment=environment)), cluster

    with loop_in_a_thread() as loop:
        airflow, cluster = asyncio.run_coroutine_threadsafe(start(), loop).result()
        try:
            yield WholeAirflow(airflow, cluster, loop)
        finally:
            asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result()
