"""Functions that start in the triggerer and run in pods of the embedded cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk import task as python_task
from airflow.triggers.base import TaskFailedEvent, TaskSuccessEvent

from kpo_async.decorators.kubernetes import kubernetes_task
from kpo_async.decorators.kubernetes_cmd import kubernetes_cmd_task
from kpo_async.kube.client import Client
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.operators.start_from_trigger import UNSTARTED
from tests.airflow_versions import starts_in_triggerer
from tests.decorators.commands import listing
from tests.workerless.triggerer import Deferred, Supervisor, are_gone_once_stored, fired

pytestmark = starts_in_triggerer


def greet(name: str, *, times: int = 1, ds: str | None = None) -> list[str]:
    """Runs in a pod."""
    print("greeting", name)
    return [f"hello {name}"] * times


def fail() -> None:
    """Fails in a pod."""
    nothing: dict[str, str] = {}
    nothing["missing"]


@python_task
def names() -> list[str]:
    return ["a", "{{ not_a_template }}"]


@pytest.fixture
def pod(local_cluster: LocalCluster) -> dict[str, Any]:
    """Parameters of a pod on the embedded cluster."""
    return {
        "image": "python:3.11-slim",
        "namespace": "default",
        "kubernetes_conn_id": None,
        "config_file": str(local_cluster.kubeconfig),
        "do_xcom_push": True,
        "deferrable": True,
        "start_from_trigger": True,
        "end_from_trigger": True,
    }


async def deferred(define: Callable[[], object], task_id: str) -> Deferred:
    """The task of a DAG that `define` defines, in a thread: parsing a DAG reads the sources of its functions."""

    def parse() -> Deferred:
        with DAG("dag", schedule=None) as dag:
            define()
        return Deferred.of(dag, task_id)

    return await asyncio.to_thread(parse)


async def test_a_function_gets_its_rendered_arguments_and_its_result_is_an_xcom(
    pod: dict[str, Any], local_client: Client, supervisor: Supervisor
) -> None:
    task = await deferred(lambda: kubernetes_task(**pod)(greet)("{{ run_id }}", times=names()["times"]), "greet")
    supervisor.xcoms["names", "times"] = 2
    assert isinstance(await fired(task.trigger()), TaskSuccessEvent)
    assert supervisor.xcoms["greet", "return_value"] == ["hello run", "hello run"]
    await are_gone_once_stored(local_client, supervisor)


async def test_each_instance_of_a_mapped_function_gets_its_own_argument(
    pod: dict[str, Any], supervisor: Supervisor
) -> None:
    task = await deferred(lambda: kubernetes_task(**pod)(greet).partial(times=1).expand(name=names()), "greet")
    supervisor.xcoms["names", "return_value"] = ["a", "{{ not_a_template }}"]
    for index in range(2):
        assert isinstance(await fired(task.trigger(map_index=index)), TaskSuccessEvent)
    found = [supervisor.mapped_xcoms["greet return_value", index] for index in range(2)]
    assert found == [["hello a"], ["hello {{ not_a_template }}"]]


async def test_the_traceback_of_a_function_has_the_lines_of_the_dag_file(
    pod: dict[str, Any], supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    task = await deferred(lambda: kubernetes_task(**pod)(fail)(), "fail")
    assert isinstance(await fired(task.trigger()), TaskFailedEvent)
    line = fail.__code__.co_firstlineno + 3
    assert f'test_functions.py", line {line}, in fail' in caplog.text


async def test_a_command_is_made_by_its_function_in_the_triggerer(
    pod: dict[str, Any], supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kpo_async")
    command = kubernetes_cmd_task(**{**pod, "do_xcom_push": False})(listing)
    task = await deferred(lambda: command("/tmp"), "listing")
    assert isinstance(await fired(task.trigger()), TaskSuccessEvent)
    assert "[base] run" in caplog.text


async def test_an_argument_that_is_missing_or_given_twice_leaves_the_task_to_a_worker_which_shows_the_error(
    pod: dict[str, Any], supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    decorated = kubernetes_task(**pod)(greet).partial(times=1)
    task = await deferred(lambda: decorated.expand_kwargs([{"times": 2, "name": "a"}, {}]), "greet")
    for index, reason in enumerate(["times, which partial() has given as well", "missing a required argument: 'name'"]):
        assert (await fired(task.trigger(map_index=index))).payload["status"] == UNSTARTED
        assert reason in caplog.text
