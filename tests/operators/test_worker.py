"""A task on a worker, with an API server and pods in another process."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import pytest

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.hooks.airflow import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferred,
    get_connection,
)
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import Client, aclose_all, connect
from kpo_async.kube.retry import Backoff
from kpo_async.operators.manifest import identity
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.worker import ALARM_GRACE, DEFER_GRACE, TaskRun
from kpo_async.pod.names import name_of_attempt, suffix
from kpo_async.pod_task import Outcome, OutcomeStatus, PodTask
from tests.airflow_versions import TaskDeferralError
from tests.factories import eventually

T = TypeVar("T")


@pytest.fixture(scope="module")
def kubeconfig() -> Iterator[str]:
    command = [sys.executable, "-m", "kpo_async.localcluster"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as cluster:
        assert cluster.stdout is not None
        yield cluster.stdout.readline().strip()
        cluster.terminate()


@dataclass
class TaskInstance:
    """What a worker needs of a task instance."""

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    dag_id: str = "dag"
    task_id: str = "task"
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    try_number: int = 1
    map_index: int = -1
    max_tries: int = 0
    start_date: datetime | None = None
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def operator(kubeconfig: str, script: str, **parameters: Any) -> KubernetesPodOperator:
    defaults = {"task_id": "task", "image": "busybox:1.36", "cmds": ["sh", "-c"], "kubernetes_conn_id": None}
    values = {**defaults, "arguments": [script], "config_file": kubeconfig, "namespace": "default", **parameters}
    return KubernetesPodOperator(**values)


def run(operator: KubernetesPodOperator, ti: TaskInstance | None = None) -> Any:
    return TaskRun(operator, {"ti": ti or TaskInstance()}).run_to_completion()


async def _in_cluster(kubeconfig: str, work: Callable[[Client], Awaitable[T]]) -> T:
    async with connect(ClusterSource(config_file=kubeconfig)) as client:
        result = await work(client)
    await aclose_all()
    return result


def pods(kubeconfig: str) -> list[str]:
    """Return the names of the pods that are not being deleted."""

    async def listed(client: Client) -> list[str]:
        items = (await client.list("pods", "default"))["items"]
        return [item["metadata"]["name"] for item in items if "deletionTimestamp" not in item["metadata"]]

    return asyncio.run(_in_cluster(kubeconfig, listed))


def delete(kubeconfig: str, names: list[str]) -> None:
    async def deleted(client: Client) -> None:
        for name in names:
            await client.delete("pods", name, "default", grace_period_seconds=0)

    asyncio.run(_in_cluster(kubeconfig, deleted))


def wait_for_success(kubeconfig: str, name: str) -> None:
    async def waited(client: Client) -> None:
        async def succeeded() -> bool:
            return bool((await client.get("pods", name, "default"))["status"].get("phase") == "Succeeded")

        await eventually(succeeded)

    asyncio.run(_in_cluster(kubeconfig, waited))


def memory_of_pod(kubeconfig: str, name: str) -> str:
    """Return the memory limit of a pod's first container, and delete the pod."""

    async def get_and_delete(client: Client) -> str:
        pod = await client.get("pods", name, "default")
        await client.delete("pods", name, "default", grace_period_seconds=0)
        memory: str = pod["spec"]["containers"][0]["resources"]["limits"]["memory"]
        return memory

    return asyncio.run(_in_cluster(kubeconfig, get_and_delete))


def test_a_run_returns_the_result_and_deletes_the_pod(kubeconfig: str) -> None:
    ti = TaskInstance()
    assert run(operator(kubeconfig, "echo 5 > /airflow/xcom/return.json", do_xcom_push=True), ti) == 5
    assert ti.xcoms["pod_namespace"] == "default"
    assert ti.xcoms["pod_name"].startswith("task-")
    assert pods(kubeconfig) == []


def test_a_failed_pod_raises_one_sentence_and_its_result_is_pushed(kubeconfig: str) -> None:
    ti = TaskInstance()
    script = "echo '{\"a\": 1}' > /airflow/xcom/return.json; exit 2"
    with pytest.raises(AirflowException, match="container 'base' failed with exit code 2"):
        run(operator(kubeconfig, script, do_xcom_push=True, multiple_outputs=True), ti)
    assert (ti.xcoms["return_value"], ti.xcoms["a"]) == ({"a": 1}, 1)
    assert pods(kubeconfig) == []


def test_a_failed_pod_leaves_its_diagnosis_as_an_xcom(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in ("on", "off"):
        monkeypatch.setenv("AIRFLOW__KPO_ASYNC__PUSH_DIAGNOSIS", switch)
        ti = TaskInstance()
        with pytest.raises(AirflowException) as caught:
            run(operator(kubeconfig, "exit 2"), ti)
        found = ti.xcoms.get("pod_diagnosis")
        if switch == "off":
            assert found is None
        else:
            assert (found["category"], found["container"], found["exit_code"]) == ("ExitCode", "base", 2)
            assert found["message"] == str(caught.value)


@pytest.mark.parametrize("codes", [None, 99])
def test_a_task_that_succeeded_or_was_skipped_has_no_diagnosis(kubeconfig: str, codes: int | None) -> None:
    ti = TaskInstance()
    with suppress(AirflowSkipException):
        run(operator(kubeconfig, f"exit {codes or 0}", skip_on_exit_code=codes), ti)
    assert "pod_diagnosis" not in ti.xcoms


def with_companion(kubeconfig: str, script: str, companion: str, **parameters: Any) -> KubernetesPodOperator:
    uploader = {"name": "uploader", "image": "busybox:1.36", "command": ["sh", "-c", companion]}
    template = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "base"}, uploader]}}
    return operator(kubeconfig, script, pod_template_dict=template, **parameters)


def test_a_companion_that_fails_fails_the_task_unless_it_is_ignored(kubeconfig: str) -> None:
    ti = TaskInstance()
    with pytest.raises(AirflowException, match="container 'uploader' failed with exit code 9"):
        run(with_companion(kubeconfig, "true", "sleep 1; exit 9"), ti)
    assert ti.xcoms["pod_diagnosis"]["category"] == "CompanionFailed"
    run(with_companion(kubeconfig, "true", "exit 9", ignore_companions="uploader"))
    assert pods(kubeconfig) == []


def test_a_companion_that_does_not_end_is_stopped_after_its_grace(
    kubeconfig: str, caplog: pytest.LogCaptureFixture
) -> None:
    run(with_companion(kubeconfig, "true", "sleep 1000", companion_grace_seconds=1))
    assert "stopping container 'uploader', which still ran 1 s after container 'base' had ended" in caplog.text
    assert pods(kubeconfig) == []


def test_the_companions_of_the_manifest_go_to_the_triggerer(kubeconfig: str) -> None:
    context: Any = {"ti": TaskInstance()}
    task = with_companion(kubeconfig, "true", "true", companion_grace_seconds=None, ignore_companions=True)
    with pytest.raises(TaskDeferred) as deferred:
        TaskRun(task, context).start()
    sent = deferred.value.trigger.pod_task
    assert (sent.companions, sent.companion_grace, sent.ignore_companions) == (["uploader"], None, True)
    TaskRun(task, context).abandon()


def test_the_log_names_the_pod_before_the_task_defers(kubeconfig: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    ti = TaskInstance()
    with pytest.raises(TaskDeferred):
        TaskRun(operator(kubeconfig, "true"), {"ti": ti}).start()
    assert caplog.messages[-1] == (
        f"Deferring the task: a triggerer waits for pod default/{ti.xcoms['pod_name']} and continues the log"
    )
    TaskRun(operator(kubeconfig, "true"), {"ti": ti}).abandon()


@pytest.mark.parametrize("codes", [99, [98, 99], range(90, 100)])
def test_an_exit_code_can_skip_the_task(kubeconfig: str, codes: Any) -> None:
    with pytest.raises(AirflowSkipException, match="exited with 99"):
        run(operator(kubeconfig, "exit 99", skip_on_exit_code=codes))


def test_a_container_that_the_pod_does_not_have_is_named_in_the_log(
    kubeconfig: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = operator(kubeconfig, "true", container_logs=["base", "sidekick"])
    task._cached_logger = logging.getLogger("tests.task")
    run(task)
    assert "container_logs names 'sidekick', which is not among 'base'" in caplog.messages


def test_exit_code_0_can_skip_the_task_as_any_other(kubeconfig: str) -> None:
    with pytest.raises(AirflowSkipException, match="exited with 0"):
        run(operator(kubeconfig, "true", skip_on_exit_code=0))
    assert pods(kubeconfig) == []


def test_the_execution_timeout_deletes_the_pod(kubeconfig: str) -> None:
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout has passed"):
        run(operator(kubeconfig, "sleep 1000", execution_timeout=timedelta(seconds=1)))
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert pods(kubeconfig) == []


ATTEMPT = {"name": "ATTEMPT", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['kpo-async/attempt']"}}}
DISRUPTED_ONCE = '[ "$ATTEMPT" ] || sleep 1000; echo "$ATTEMPT" > /airflow/xcom/return.json'


class DeletedWhenItStarts(KubernetesPodOperatorCallback):
    """Something outside that deletes the task's first pod as soon as it runs."""

    @staticmethod
    def on_pod_starting(*, pod: Any, client: Any, **kwargs: Any) -> None:
        if "kpo-async/attempt" not in pod.metadata.labels:
            client.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_async.lifecycle.attempts.BACKOFF", Backoff(first=0.1, cap=0.1))


@pytest.mark.usefixtures("short_pauses")
def test_a_worker_creates_a_pod_again_that_was_deleted_from_outside(kubeconfig: str) -> None:
    ti = TaskInstance()
    task = operator(
        kubeconfig,
        DISRUPTED_ONCE,
        pod_runtime_info_envs=[ATTEMPT],
        callbacks=DeletedWhenItStarts,
        retry_on_disruption=1,
        do_xcom_push=True,
    )
    assert run(task, ti) == 2
    assert ti.xcoms["pod_name"].endswith(suffix(identity({"ti": ti}), attempt=2))
    assert pods(kubeconfig) == []


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize(
    ("outcome", "attempt", "memory"),
    [
        pytest.param(Outcome(OutcomeStatus.LOST, category="Evicted", disrupted=True), (1, 0), "64Mi", id="disrupted"),
        pytest.param(Outcome(OutcomeStatus.FAILED, 137, "OOMKilled"), (1, 0), "128Mi", id="out of memory"),
        pytest.param(Outcome(OutcomeStatus.FAILED, 137, "OOMKilled"), (3, 1), "256Mi", id="out of memory again"),
    ],
)
def test_a_resumed_worker_creates_the_pod_that_the_triggerer_could_not_and_defers_again(
    kubeconfig: str, outcome: Outcome, attempt: tuple[int, int], memory: str
) -> None:
    ti = TaskInstance(start_date=datetime.now(timezone.utc) - timedelta(seconds=100))
    task = operator(
        kubeconfig,
        "sleep 1000",
        retry_on_disruption=3,
        on_oom={"memory": 2.0},
        container_resources={"limits": {"memory": "64Mi"}},
        execution_timeout=timedelta(seconds=300),
    )
    event = {
        "name": "gone",
        "namespace": "default",
        "uid": "gone",
        "outcome": outcome.to_dict(),
        "pod_attempt": attempt[0],
        "pod_disruptions": attempt[1],
    }
    with pytest.raises(TaskDeferred) as deferred:
        TaskRun(task, {"ti": ti}).resume(event)
    followed = PodTask.from_dict(deferred.value.trigger.serialize()[1]["pod_task"])
    assert followed.name == ti.xcoms["pod_name"] == name_of_attempt("gone", identity({"ti": ti}), attempt[0] + 1)
    assert followed.attempt == attempt[0] + 1
    assert followed.disruptions == attempt[1] + outcome.disrupted
    assert followed.deadline == pytest.approx(time.time() + 200, abs=10)
    timeout = deferred.value.timeout
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout  # a timedelta before Airflow 3.2
    assert seconds == pytest.approx(200 + DEFER_GRACE, abs=10)
    assert memory_of_pod(kubeconfig, followed.name) == memory


def test_a_resumed_worker_fails_a_task_whose_attempts_are_used_up(kubeconfig: str) -> None:
    outcome = Outcome(OutcomeStatus.LOST, category="Evicted", message="it was evicted", disrupted=True)
    event = {"name": "gone", "namespace": "default", "uid": "gone", "outcome": outcome.to_dict()}
    used_up = {"pod_attempt": 2, "pod_disruptions": 1}
    with pytest.raises(AirflowException, match="it was evicted"):
        TaskRun(operator(kubeconfig, "true", retry_on_disruption=1), {"ti": TaskInstance()}).resume(event | used_up)


class KilledWhenItStarts(KubernetesPodOperatorCallback):
    """A user who ends the task as soon as its container runs."""

    @staticmethod
    def on_pod_starting(**kwargs: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)


@pytest.fixture
def no_alarm() -> Iterator[None]:
    """Put the alarm of pytest-timeout aside, so that the test's is the only one."""
    timer, handler = signal.setitimer(signal.ITIMER_REAL, 0), signal.signal(signal.SIGALRM, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


@pytest.mark.usefixtures("no_alarm")
def test_airflows_alarm_for_the_execution_timeout_rings_after_the_pod_is_deleted(kubeconfig: str) -> None:
    signal.setitimer(signal.ITIMER_REAL, 5)
    run(operator(kubeconfig, "true", execution_timeout=timedelta(seconds=5)))
    remaining, _ = signal.getitimer(signal.ITIMER_REAL)
    assert 5 < remaining < 5 + ALARM_GRACE


@pytest.mark.usefixtures("no_alarm")
def test_no_alarm_is_set_where_airflow_has_set_none(kubeconfig: str) -> None:
    run(operator(kubeconfig, "true", execution_timeout=timedelta(seconds=5)))
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_kill_from_a_signal_handler_deletes_the_pod(kubeconfig: str) -> None:
    task = operator(kubeconfig, "sleep 1000", callbacks=KilledWhenItStarts)
    signal.signal(signal.SIGUSR1, lambda *_: task.on_kill())
    with pytest.raises(AirflowException, match="was killed"):
        run(task)
    assert pods(kubeconfig) == []


def test_a_kill_while_the_manifest_is_built_leaves_no_pod(kubeconfig: str) -> None:
    class Operator(KubernetesPodOperator):
        def build_pod_request_obj(self, context: Any = None, **kwargs: Any) -> Any:
            manifest = super().build_pod_request_obj(context, **kwargs)
            self.on_kill()
            return manifest

    task = Operator(task_id="task", image="busybox:1.36", config_file=kubeconfig, kubernetes_conn_id=None)
    with pytest.raises(AirflowException, match="was killed"):
        run(task)
    assert pods(kubeconfig) == []


def test_a_start_uses_one_event_loop_and_fetches_the_connection_once(
    kubeconfig: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"kube_config_path": kubeconfig, "namespace": "default"}
    monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    fetched: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def fetch(conn_id: str) -> Any:
        fetched.append(conn_id)
        return await get_connection(conn_id)

    def new_event_loop() -> asyncio.AbstractEventLoop:
        loops.append(make_loop())
        return loops[-1]

    make_loop = asyncio.events.new_event_loop
    monkeypatch.setattr(asyncio.events, "new_event_loop", new_event_loop)
    monkeypatch.setattr("kpo_async.hooks.connection.get_connection", fetch)
    task = operator(kubeconfig, "true", kubernetes_conn_id="cluster", config_file=None, namespace=None)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(TaskDeferred):
        TaskRun(task, context).start()
    assert (fetched, len(loops)) == (["cluster"], 1)
    TaskRun(task, context).abandon()
    assert pods(kubeconfig) == []


def test_a_user_may_call_the_operator_in_a_running_event_loop(kubeconfig: str) -> None:
    async def in_a_notebook() -> Any:
        task = operator(kubeconfig, "echo 5 > /airflow/xcom/return.json", do_xcom_push=True, deferrable=True)
        context: Any = {"ti": TaskInstance()}
        task.dry_run()
        assert task.build_pod_request_obj(context)["metadata"]["namespace"] == "default"
        with pytest.raises(TaskDeferred):
            task.execute(context)
        task.deferrable = False
        return task.execute(context)

    assert asyncio.run(in_a_notebook()) == 5
    assert pods(kubeconfig) == []


def never_returns(event: str) -> type:
    """A callback class whose plain function for this event sleeps."""
    return type("Sleeping", (KubernetesPodOperatorCallback,), {event: staticmethod(lambda **_: time.sleep(8))})


@pytest.mark.parametrize(
    ("event", "deferrable"),
    [
        ("on_sync_client_creation", True),
        ("on_pod_manifest_created", True),
        ("on_pod_creation", True),
        ("on_pod_creation", False),
        ("on_pod_starting", False),
        ("on_pod_completion", False),
    ],
)
def test_execution_timeout_ends_a_callback_and_leaves_no_pod(kubeconfig: str, event: str, deferrable: bool) -> None:
    task = operator(
        kubeconfig,
        "sleep 1",
        callbacks=never_returns(event),
        execution_timeout=timedelta(seconds=4),
        deferrable=deferrable,
        log_pod_spec_on_failure=False,
    )
    before = time.monotonic()
    with pytest.raises(AirflowTaskTimeout, match="execution_timeout"):
        TaskRun(task, {"ti": TaskInstance()}).start() if deferrable else run(task)
    assert time.monotonic() - before < 7.5
    assert pods(kubeconfig) == []


class BuildsTheManifestAgain(KubernetesPodOperatorCallback):
    """A user who builds the manifest while the operator runs, in its event loop and in another thread."""

    @staticmethod
    async def on_pod_creation(*, operator: Any, context: Any, **kwargs: Any) -> None:
        operator.build_pod_request_obj(context)

    @staticmethod
    def on_pod_starting(*, operator: Any, context: Any, **kwargs: Any) -> None:
        operator.build_pod_request_obj(context)


def test_a_callback_may_build_the_manifest_while_the_operator_runs(kubeconfig: str) -> None:
    run(operator(kubeconfig, "true", callbacks=BuildsTheManifestAgain))
    assert pods(kubeconfig) == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        pytest.param({"namespace": "nowhere"}, "namespaces? .?nowhere", id="a namespace that does not exist"),
        pytest.param({"config_file": "/no/such/file"}, "/no/such/file", id="a kubeconfig that does not exist"),
        pytest.param({"kubernetes_conn_id": "missing"}, "missing", id="a connection that does not exist"),
        pytest.param({"image": "invalid.example/x:1"}, "invalid.example/x:1", id="an image that cannot be pulled"),
    ],
)
def test_bad_input_is_one_sentence_that_names_it(kubeconfig: str, parameters: dict[str, Any], words: str) -> None:
    before = time.monotonic()
    with pytest.raises(AirflowException, match=words) as caught:
        run(operator(kubeconfig, "true", **parameters))
    assert time.monotonic() - before < 30
    assert len(str(caught.value).encode()) <= 1024
    assert pods(kubeconfig) == []


def test_a_resumed_task_ends_with_the_triggers_outcome(kubeconfig: str) -> None:
    event = {
        "name": "gone",
        "namespace": "default",
        "uid": "u",
        "outcome": Outcome("lost", message="it went").to_dict(),
    }
    with pytest.raises(AirflowException, match="it went"):
        TaskRun(operator(kubeconfig, "true"), {"ti": TaskInstance()}).resume(event)


@pytest.mark.parametrize("raised", [AirflowSkipException, AirflowFailException])
def test_a_resumed_task_ends_as_a_callback_in_the_triggerer_told_airflow(
    kubeconfig: str, raised: type[Exception]
) -> None:
    outcome = Outcome("error", category=raised.__name__, message="not today").to_dict()
    event = {"name": "gone", "namespace": "default", "uid": "u", "outcome": outcome}
    with pytest.raises(raised, match="not today"):
        TaskRun(operator(kubeconfig, "true"), {"ti": TaskInstance()}).resume(event)


def test_the_resumed_worker_calls_all_callbacks_that_the_triggerer_cannot_import(kubeconfig: str) -> None:
    calls: list[str] = []

    class Local(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_starting(*, pod: Any, **kwargs: Any) -> None:
            calls.append("starting " + pod.metadata.name)

        @staticmethod
        def progress_callback(*, line: str, **kwargs: Any) -> None:
            calls.append(line)

        @staticmethod
        def on_pod_completion(*, pod: Any, **kwargs: Any) -> None:
            calls.append("completion " + pod.status.phase)

    task = operator(kubeconfig, "echo hello", callbacks=[Local])
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(TaskDeferred) as deferred:
        TaskRun(task, context).start()
    pod = deferred.value.trigger.pod_task
    outcome = Outcome("succeeded", exit_code=0, logs_complete=False).to_dict()
    TaskRun(task, context).resume({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "outcome": outcome})
    assert calls == [f"starting {pod.name}", "hello", "completion Succeeded"]


class TakesTheContext(KubernetesPodOperatorCallback):
    """A callback that any process can import and only a worker can call."""

    calls: list[str] = []  # noqa: RUF012 - shared on purpose, as in a user's module

    @staticmethod
    def on_pod_starting(*, context: Any, operator: Any, **kwargs: Any) -> None:
        TakesTheContext.calls.append(f"{context['ti'].task_id} of {type(operator).__name__}")


def test_the_resumed_worker_calls_importable_callbacks_that_take_the_context(kubeconfig: str) -> None:
    TakesTheContext.calls.clear()
    task = operator(kubeconfig, "true", callbacks=[TakesTheContext], end_from_trigger=True)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(TaskDeferred) as deferred:
        TaskRun(task, context).start()
    pod = deferred.value.trigger.pod_task
    assert pod.logs is not None, "its log is live"
    assert not pod.end_from_trigger
    outcome = Outcome("succeeded", exit_code=0).to_dict()
    TaskRun(task, context).resume({"name": pod.name, "namespace": pod.namespace, "uid": pod.uid, "outcome": outcome})
    assert TakesTheContext.calls == ["task of KubernetesPodOperator"]


def deferred(task: KubernetesPodOperator, ti: TaskInstance) -> dict[str, Any]:
    """Start the task, and return the event that its trigger fires when the pod has succeeded."""
    with pytest.raises(TaskDeferred) as caught:
        task.execute({"ti": ti})
    pod = caught.value.trigger.pod_task
    outcome = Outcome("succeeded", exit_code=0, result="1", result_known=True).to_dict()
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "outcome": outcome,
        "pod_owner": pod.owner,
    }


def try_after(ti: TaskInstance, **fields: Any) -> TaskInstance:
    """Return the next try of a task instance, which Airflow gives another id."""
    return replace(ti, id=uuid.uuid4(), try_number=ti.try_number + 1, xcoms={}, **fields)


def test_a_task_that_is_cleared_while_it_resumes_starts_anew(kubeconfig: str) -> None:
    """Airflow gives the new try the event of the old one."""
    task = operator(kubeconfig, "sleep 1000", deferrable=True, termination_grace_period=0)
    first = TaskInstance(max_tries=0)
    event = deferred(task, first)
    old = pods(kubeconfig)
    second = try_after(first, max_tries=1)
    with pytest.raises(TaskDeferred):
        task.trigger_reentry({"ti": second}, event)
    new = pods(kubeconfig)
    assert len(old) == len(new) == 1
    assert old != new
    delete(kubeconfig, new)


def test_the_event_of_an_older_version_is_resumed_with(kubeconfig: str) -> None:
    task = operator(kubeconfig, "true", deferrable=True, do_xcom_push=True)
    ti = TaskInstance()
    event = deferred(task, ti)
    del event["pod_owner"]
    assert task.trigger_reentry({"ti": ti}, event) == 1
    assert pods(kubeconfig) == []


def test_a_worker_that_is_lost_while_it_resumes_leaves_no_pod_behind(kubeconfig: str) -> None:
    task = operator(kubeconfig, "true", deferrable=True)
    first = TaskInstance()
    event = deferred(task, first)
    wait_for_success(kubeconfig, event["name"])
    second = try_after(first)
    task.deferrable = False
    run(task, second)
    assert second.xcoms["pod_name"] != event["name"]
    assert pods(kubeconfig) == []


@pytest.mark.parametrize(("action", "left"), [("keep_pod", 2), ("delete_pod", 0)])
def test_two_runs_of_one_try_have_a_pod_each(kubeconfig: str, action: str, left: int) -> None:
    """A @task may run operators in a loop."""
    ti, results = TaskInstance(), []
    for number in (1, 2):
        script = f"echo {number} > /airflow/xcom/return.json"
        results.append(run(operator(kubeconfig, script, do_xcom_push=True, on_finish_action=action), ti))
    assert results == [1, 2]
    kept = pods(kubeconfig)
    assert len(kept) == left
    delete(kubeconfig, kept)


class KilledWhenItResumes(KubernetesPodOperatorCallback):
    """A user who ends the task while its worker resumes."""

    @staticmethod
    def on_operator_resuming(**kwargs: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize(
    ("script", "actions", "left"),
    [
        pytest.param("true", {}, 0, id="the pod has ended"),
        pytest.param("true", {"on_finish_action": "keep_pod"}, 1, id="the pod has ended and is to be kept"),
        pytest.param("sleep 1000", {"on_finish_action": "keep_pod"}, 0, id="the pod runs"),
        pytest.param("sleep 1000", {"on_kill_action": "keep_pod"}, 1, id="the pod runs and is to be kept"),
    ],
)
def test_a_kill_while_the_worker_resumes_leaves_an_ended_pod_to_on_finish_action(
    kubeconfig: str, script: str, actions: dict[str, str], left: int
) -> None:
    task = operator(kubeconfig, script, deferrable=True, callbacks=KilledWhenItResumes, **actions)
    ti = TaskInstance()
    event = deferred(task, ti)
    if script == "true":
        wait_for_success(kubeconfig, event["name"])
    signal.signal(signal.SIGUSR1, lambda *_: task.on_kill())
    with pytest.raises(AirflowException, match="was killed"):
        task.trigger_reentry({"ti": ti}, event)
    kept = pods(kubeconfig)
    assert len(kept) == left
    delete(kubeconfig, kept)


@pytest.mark.parametrize("event", ["on_pod_creation", "on_pod_starting"])
def test_a_callback_that_raises_leaves_no_pod(kubeconfig: str, event: str) -> None:
    def oops(**kwargs: Any) -> None:
        raise ZeroDivisionError

    failing = type("Failing", (KubernetesPodOperatorCallback,), {event: staticmethod(oops)})
    with pytest.raises(ZeroDivisionError):
        run(operator(kubeconfig, "sleep 1000", callbacks=failing))
    assert pods(kubeconfig) == []


def test_a_triggerer_without_this_package_is_named(caplog: pytest.LogCaptureFixture) -> None:
    task = operator("/no/such/kubeconfig", "true", deferrable=True)
    failure = {"error": "Trigger failure", "traceback": ["ModuleNotFoundError: No module named 'kpo_async'\n"]}
    with pytest.raises(TaskDeferralError):
        task.resume_execution("__fail__", failure, {"ti": TaskInstance()})
    assert "A triggerer lacks this package: install kpo-async" in caplog.text


def test_a_broken_trigger_fails_the_task_for_that_when_there_is_no_cluster_either() -> None:
    task = operator("/no/such/kubeconfig", "true", deferrable=True)
    with pytest.raises(TaskDeferralError, match="Trigger failure"):
        task.resume_execution("__fail__", {"error": "Trigger failure"}, {"ti": TaskInstance()})
