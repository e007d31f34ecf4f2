"""Whole Airflows for tests.

`deployment` is an Airflow as people run it: PostgreSQL, their executors, two triggerers, parts that a test may kill,
freeze and restart by name. `on_sqlite` is the demo's. `in_a_thread` lets tests that use them stay plain functions:

    with in_a_thread(deployment(dags, folder)) as whole:
        run = whole.start("patient")
        whole.wait(whole.airflow.kill("triggerer-1"))
        whole.airflow.program("triggerer-2").send_signal(signal.SIGSTOP)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy
import yaml

from kpo_async.compat import Self
from kpo_async.demo.airflow import Airflow, DagRun, TaskInstance
from kpo_async.demo.cluster import Cluster, open_cluster
from kpo_async.demo.processes import ProgramError
from kpo_async.kube.client import Client
from kpo_async.pod.rights import Component
from tests.deployments.place import Place
from tests.deployments.postgres import postgres
from tests.deployments.redis import redis

A = TypeVar("A", bound=Airflow)
T = TypeVar("T")
MANAGED = "kpo-async/managed=true"
"""Selects the operator's pods."""
TRIGGERERS = ("triggerer-1", "triggerer-2")
PROMPT = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1"}
"""Within how many seconds a worker notices that its task has ended. By default it may take 5."""
LOCAL_SETTINGS = """
import os
import uvicorn

def host():
    return os.environ["KPO_ASYNC_HOST"]

def run(*arguments, serve=uvicorn.run, **options):
    serve(*arguments, **{**options, "host": options["host"] or host()})

uvicorn.run = run
"""
"""Gives each component its host name and binds its log server to that address alone, so that all use one port."""


class Deployment(Airflow):
    """An Airflow as people run it. Each component has a loopback address as its host, as if on its own machine."""

    def __init__(
        self,
        dags: Path,
        *,
        executors: Sequence[str] = ("LocalExecutor",),
        triggerers: Sequence[str] = TRIGGERERS,
        shared_logs: bool = True,
        environments: Mapping[str, Mapping[str, str]] | None = None,
        place: Place | None = None,
        **options: Any,
    ) -> None:
        """`executors`: their names, the default one first. `triggerers`: names for that many.

        `shared_logs`: all components keep tasks' logs in one folder; else each has one. `environments`: more variables
        for one component each. `place`: where the pods of the KubernetesExecutor run. `options`: `Airflow`'s.
        """
        super().__init__(dags, **options)
        self.place = place
        self._environments = environments or {}
        self.executors = executors
        self._triggerers = triggerers
        self._shared_logs = shared_logs
        self.components = {
            **{name: name for name in ("api-server", "scheduler", "dag-processor")},
            **dict.fromkeys(triggerers, "triggerer"),
            **({"worker": "celery worker"} if "CeleryExecutor" in executors else {}),
        }

    def host(self, component: str) -> str:
        """Return a component's address, which is its host name in Airflow's tables."""
        return f"127.0.0.{2 + list(self.components).index(component)}"

    def triggerer_of(self, run: DagRun, task: TaskInstance) -> str | None:
        """Return the triggerer that a task's trigger is assigned to, or None."""
        hosts = self.query(
            "SELECT job.hostname FROM task_instance ti JOIN trigger ON trigger.id = ti.trigger_id"
            " JOIN job ON job.id = trigger.triggerer_id WHERE ti.dag_id = :dag_id AND ti.run_id = :run_id"
            " AND ti.task_id = :task_id AND ti.map_index = :map_index",
            **asdict(run),
            task_id=task.task_id,
            map_index=task.map_index,
        )
        return next((name for name in self._triggerers for (host,) in hosts if self.host(name) == host), None)

    def rewrite_trigger(self, run: DagRun, task: TaskInstance, old: str, new: str) -> None:
        """Replace a text in the row of a task's trigger, as if another version had written it."""
        statement = sqlalchemy.text(
            "UPDATE trigger SET kwargs = replace(kwargs, :old, :new) WHERE kwargs LIKE '%' || :old || '%' AND id ="
            " (SELECT trigger_id FROM task_instance WHERE dag_id = :dag_id AND run_id = :run_id"
            " AND task_id = :task_id AND map_index = :map_index)"
        )
        values = {**asdict(run), "task_id": task.task_id, "map_index": task.map_index, "old": old, "new": new}
        with self._engine.begin() as connection:
            assert connection.execute(statement, values).rowcount == 1

    def healthy(self) -> bool:
        """Return whether every component has reported a heartbeat."""
        alive = self.query("SELECT hostname FROM job WHERE state = 'running'")
        return super().healthy() and {self.host(name) for name in self._triggerers} <= {host for (host,) in alive}

    def local_settings(self) -> str:
        return super().local_settings() + LOCAL_SETTINGS

    def environment_of(self, component: str) -> Mapping[str, str]:
        return {
            **super().environment_of(component),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow_local_settings.host",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.log_folder(component)),
            "KPO_ASYNC_HOST": self.host(component),
            **self._environments.get(component, {}),
        }

    def _environment(self, worker_log_port: int, trigger_log_port: int) -> dict[str, str]:
        found = {
            **super()._environment(worker_log_port, trigger_log_port),
            "AIRFLOW__CORE__EXECUTOR": ",".join(self.executors),
            "KPO_EXECUTORS": ",".join(self.executors if len(self.executors) > 1 else ()),
        }
        if "KubernetesExecutor" not in self.executors or self.place is None:
            return found
        environment = {
            **found,
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "airflow_local_settings.host",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home / "logs"),
            "KPO_ASYNC_HOST": "127.0.0.1",
        }
        template = self.home / "worker.yaml"
        template.write_text(
            yaml.safe_dump(self.place.pod("worker", [], environment, [*self.folders, self.place.kubeconfig]))
        )
        return {**found, **self.place.executor_settings(template)}

    @property
    def folders(self) -> list[Path]:
        """The folders that components in pods share with those outside: a volume for logs, one for DAG files."""
        return [self.home, self._dags]

    def log_folder(self, component: str) -> Path:
        return super().log_folder(component) / ("" if self._shared_logs else component)


class DeploymentInCluster(Deployment):
    """An Airflow whose components are pods, with the service accounts of `deploy/rbac.yaml`."""

    async def __aenter__(self) -> Self:
        try:
            return await super().__aenter__()
        except ProgramError as error:
            raise ProgramError(f"{error}\n{self._last_lines}") from error

    async def __aexit__(self, *error: object) -> None:
        self._last_lines = "\n".join(
            f"{log.name}: {line}" for log in self.home.glob("*.log") for line in log.read_text().splitlines()[-10:]
        )
        await self._place.delete_pods(*self.components, grace=5)
        await super().__aexit__(*error)

    async def start(self, component: str) -> None:
        command = self.components[component]
        accounts = {"scheduler": Component.WORKER, **{str(component): component for component in Component}}
        account = accounts.get(command)
        words = ["sh", "-c", f"exec airflow {command} >>{self.home}/{component}.log 2>&1"]
        environment = self.environment_of(component)
        await self._place.create("pods", self._place.pod(component, words, environment, self.folders, account))

    async def stop(self, component: str, grace: float) -> None:
        await self._place.delete_pods(component, grace=int(grace))

    async def kill(self, component: str) -> None:
        await self.stop(component, 0)

    @property
    def _place(self) -> Place:
        assert self.place is not None
        return self.place


class WholeAirflow(Generic[A]):
    """A running Airflow and its cluster, observed from outside."""

    def __init__(self, airflow: A, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
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
        """Return the names of the pods that are not being deleted."""
        found = self.wait(self._cluster.client.list("pods", self._cluster.namespace, label_selector=MANAGED))["items"]
        return {pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def create_pod(self, name: str, *, installation: str, owner: str) -> str:
        """Create a pod as another Airflow would, and return its name."""
        pod = {
            "metadata": {
                "name": name,
                "labels": {"kpo-async/managed": "true", "kpo-async/installation": installation},
                "annotations": {"kpo-async/owner": owner},
            },
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "base", "image": "busybox:1.36", "command": ["sleep", "600"]}],
            },
        }
        self.create(pod)
        return name

    def create(self, pod: Mapping[str, Any]) -> None:
        """Create a pod from its manifest."""
        self.wait(self._cluster.client.create("pods", dict(pod), self._cluster.namespace))

    def delete_pod(self, name: str) -> None:
        """Delete a pod at once, as an administrator does."""
        self.wait(self._cluster.client.delete("pods", name, self._cluster.namespace, grace_period_seconds=0))

    @property
    def client(self) -> Client:
        """An administrator's, for `wait`."""
        return self._cluster.client

    @property
    def namespace(self) -> str:
        """The namespace of the pods."""
        return self._cluster.namespace

    @property
    def connection(self) -> str:
        """The connection `kubernetes_default`, as JSON."""
        return self._cluster.connection

    def failures(self, run: DagRun) -> dict[str, str]:
        """Return the task instances that did not succeed, each with the error it logged."""
        failed = [task for task in self.airflow.task_instances(run) if task.state != "success"]
        return {str(task): self.airflow.error(run, task) for task in failed}

    def log(self, run: DagRun, task: TaskInstance) -> list[str]:
        """Return the lines of a task's logs."""
        return [str(record.get("event")) for record in self.airflow.logs(run, task)]

    async def _run(self, dag_id: str, conf: Mapping[str, Any] | None, timeout: float) -> DagRun:
        run = await self.airflow.trigger(dag_id, conf)
        await self.airflow.finished(run, timeout)
        return run

    def wait(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in Airflow's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()


@contextlib.asynccontextmanager
async def deployment(
    dags: Path,
    folder: Path,
    kubeconfig: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    faults: bool = False,
    image: str = "",
    in_cluster: bool = False,
    environments: Callable[[str], Mapping[str, Mapping[str, str]]] = lambda connection: {},
    **options: Any,
) -> AsyncIterator[tuple[Deployment, Cluster]]:
    """Start a `Deployment` on PostgreSQL and its cluster: an embedded one with its files in `folder` by default.

    `faults`: the embedded cluster's API server misbehaves all the time. `image`: of Airflow, for what runs in the
    cluster; `in_cluster`: that is every component. `environments` returns what `Deployment` takes for a connection to
    the cluster. `options` are as for `Deployment`.
    """
    async with open_cluster(kubeconfig, folder, faults=faults) as cluster, postgres() as database:
        settings = {**_settings(cluster, database), **(environment or {})}
        async with contextlib.AsyncExitStack() as stack:
            place = Place(cluster.kubeconfig, cluster.namespace, image)
            if in_cluster:
                await place.grant_rights()
                settings = _in_cluster(settings)
            kind = DeploymentInCluster if in_cluster else Deployment
            if "CeleryExecutor" in options.get("executors", ()):
                settings["AIRFLOW__CELERY__BROKER_URL"] = await stack.enter_async_context(redis(folder))
            more = environments(cluster.connection)
            airflow = kind(dags, place=place, environment=settings, environments=more, database=database, **options)
            yield await stack.enter_async_context(airflow), cluster


def _in_cluster(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for components that find the cluster by their pods' service accounts."""
    extra = {"in_cluster": True, "namespace": settings["KPO_NAMESPACE"]}
    connection = json.dumps({"conn_type": "kubernetes", "extra": extra})
    names = ("AIRFLOW_CONN_KUBERNETES_DEFAULT", "AIRFLOW_CONN_INLINE")
    kept = {name: value for name, value in settings.items() if name not in ("KPO_KUBECONFIG", "KPO_CONTEXT")}
    return {**kept, **dict.fromkeys(names, connection)}


def _settings(cluster: Cluster, database: str) -> dict[str, str]:
    """Return the variables by which components and `dags/everywhere.py` find the cluster."""
    kubeconfig = yaml.safe_load(cluster.kubeconfig.read_text())
    inline = {"kube_config": json.dumps(kubeconfig), "namespace": cluster.namespace}
    return {
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
        "AIRFLOW_CONN_INLINE": json.dumps({"conn_type": "kubernetes", "extra": inline}),
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "4",
        "KPO_NAMESPACE": cluster.namespace,
        "KPO_KUBECONFIG": str(cluster.kubeconfig),
        "KPO_CONTEXT": kubeconfig["current-context"],
    }


@contextlib.asynccontextmanager
async def on_sqlite(
    dags: Path, folder: Path, *others: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Airflow, Cluster]]:
    """Start the demo's Airflow on an embedded cluster with its files in `folder`.

    Each of the `others` is the id of a connection to another embedded cluster.
    """
    async with contextlib.AsyncExitStack() as stack:
        connections = {}
        for conn_id in (*others, "kubernetes_default"):
            (folder / conn_id).mkdir()
            cluster = await stack.enter_async_context(open_cluster(None, folder / conn_id))
            connections[f"AIRFLOW_CONN_{conn_id.upper()}"] = cluster.connection
        airflow = Airflow(dags, environment={**connections, **(environment or {})})
        yield await stack.enter_async_context(airflow), cluster


@contextlib.contextmanager
def in_a_thread(opening: AbstractAsyncContextManager[tuple[A, Cluster]]) -> Iterator[WholeAirflow[A]]:
    """Start an Airflow in an event loop in a thread of its own."""
    with _loop_in_a_thread() as loop:
        airflow, cluster = asyncio.run_coroutine_threadsafe(opening.__aenter__(), loop).result()
        try:
            yield WholeAirflow(airflow, cluster, loop)
        finally:
            asyncio.run_coroutine_threadsafe(opening.__aexit__(None, None, None), loop).result()


@contextlib.contextmanager
def _loop_in_a_thread() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="whole Airflow")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
