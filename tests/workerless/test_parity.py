"""Random parameters give the same manifest in a triggerer, which is given them as JSON, as on a worker.

The default run is small and always the same. KPO_PARITY_EXAMPLES=20000 tries more, with new examples each time.
"""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest
from airflow.sdk import DAG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpo_async.decorators.kubernetes import kubernetes_task
from kpo_async.exceptions import KpoError
from kpo_async.kube.auth import ClusterSource
from kpo_async.operators.manifest import build_for
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.operators.start_from_trigger import reason_for_worker
from kpo_async.pod.build import ConnectionDefaults
from kpo_async.pod.names import TaskIdentity
from kpo_async.workerless.arguments import operator_of, template_environment
from tests.airflow_versions import starts_in_triggerer

sets = pytest.importorskip("tests.keyword_sets", reason="the incumbent is not installed", exc_type=ImportError)

pytestmark = starts_in_triggerer
EXAMPLES = int(os.environ.get("KPO_PARITY_EXAMPLES", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 200,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TASK = TaskIdentity("0190c6f2-7a5f-7c6e", "my.dag", "group.task", "manual__2026-01-02T03:04:05+00:00", 2, 7)
logging.getLogger("airflow.task").setLevel(logging.CRITICAL)


def context() -> dict[str, Any]:
    return {"word": "rendered", "params": {"n": 1}, "ds": "2026-01-02"}


def manifest(operator: KubernetesPodOperator, *, native: bool) -> Any:
    """The manifest after the templates are rendered; an error as its text."""
    fields, environment = operator.template_fields, template_environment(native=native)
    try:
        operator._do_render_template_fields(operator, fields, context(), environment, set())  # type: ignore[arg-type]
        return build_for(operator, TASK, ClusterSource(in_cluster=False), ConnectionDefaults())
    except KpoError as error:
        return str(error)


@PROFILE
@given(sets.keyword_sets(), st.booleans())
def test_the_manifest_is_the_same_in_both_places(pair: Any, native: bool) -> None:
    parameters = {**pair[1], "task_id": "task", "deferrable": True, "start_from_trigger": True}
    try:
        operator = KubernetesPodOperator(**parameters)
    except KpoError:
        return
    if reason_for_worker(operator):
        return
    sent = json.loads(json.dumps(operator.start_trigger_args.trigger_kwargs))["start"]
    received = operator_of(json.loads(sent), "task")
    assert manifest(received, native=native) == manifest(operator, native=native)


def greet(name: str, *, times: int = 1, ds: str | None = None) -> list[str]:
    """Runs in a pod."""
    return [f"hello {name}"] * times


@pytest.mark.parametrize("native", [False, True])
def test_the_payload_of_a_function_is_the_same_in_both_places(native: bool) -> None:
    decorator = kubernetes_task(
        image="python", env_vars={"A": "{{ ds }}"}, do_xcom_push=True, deferrable=True, start_from_trigger=True
    )
    with DAG("dag", schedule=None) as dag:
        decorator(greet)("{{ word }}", times=2)
    operator: Any = dag.get_task("greet")
    sent = json.loads(operator.start_trigger_args.trigger_kwargs["start"])
    found = manifest(operator_of(sent, "greet"), native=native)
    assert found == manifest(operator, native=native)
    [_, *payload] = [variable["name"] for variable in found["spec"]["containers"][0]["env"]]
    assert payload == ["KPO_ASYNC_PAYLOAD_PARTS", "KPO_ASYNC_PAYLOAD_0"]
