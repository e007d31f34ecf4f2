"""Which containers' logs are followed, and how a line looks."""

from __future__ import annotations

import logging

import pytest

from kpo_async.api_types import pod_from_dict
from kpo_async.logs.plan import LogPlan, level_of, line_format
from kpo_async.pod.status import assess
from kpo_async.pod.xcom_sidecar import attach

POD = attach(
    {
        "metadata": {"name": "p"},
        "spec": {
            "initContainers": [{"name": "fetch"}, {"name": "mesh", "restartPolicy": "Always"}],
            "containers": [{"name": "base"}, {"name": "companion"}],
        },
    }
)
STATE = assess(pod_from_dict(POD), "base")


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        pytest.param(LogPlan(), ["base"], id="the base container by default"),
        pytest.param(LogPlan(containers=True), ["base", "companion"], id="all"),
        pytest.param(LogPlan(containers=False), [], id="none"),
        pytest.param(LogPlan(containers=["companion"]), ["companion"], id="a name"),
        pytest.param(LogPlan(containers=["companion", "base"]), ["base", "companion"], id="order of the spec"),
        pytest.param(LogPlan(init_containers=True), ["fetch", "mesh", "base"], id="init containers first"),
        pytest.param(LogPlan(init_containers=["fetch"]), ["fetch", "base"], id="one init container"),
        pytest.param(LogPlan(containers=False, init_containers=True), ["fetch", "mesh"], id="only init containers"),
    ],
)
def test_the_wanted_containers_are_followed_but_never_the_xcom_sidecar(plan: LogPlan, names: list[str]) -> None:
    assert [container.name for container in plan.select(STATE)] == names


@pytest.mark.parametrize(
    ("plan", "mistakes"),
    [
        pytest.param(LogPlan(), [], id="the default"),
        pytest.param(LogPlan(containers=["companion", "base"], init_containers=["mesh"]), [], id="right names"),
        pytest.param(LogPlan(containers=True, init_containers=True), [], id="all"),
        pytest.param(
            LogPlan(containers=["sidekick"]),
            ["container_logs names 'sidekick', which is not among 'base', 'companion'"],
            id="a wrong name",
        ),
        pytest.param(
            LogPlan(containers=["mesh"], init_containers=["companion"]),
            [
                "container_logs names 'mesh', which is not among 'base', 'companion': put it in init_container_logs",
                "init_container_logs names 'companion', which is not among 'fetch', 'mesh': put it in container_logs",
            ],
            id="names of the other kind",
        ),
    ],
)
def test_a_name_that_the_pod_does_not_have_is_a_mistake(plan: LogPlan, mistakes: list[str]) -> None:
    assert list(plan.mistakes(STATE)) == mistakes


def test_a_pod_without_init_containers_has_none_to_name() -> None:
    state = assess(pod_from_dict({"spec": {"containers": [{"name": "base"}]}}), "base")
    (mistake,) = LogPlan(init_containers=["fetch"]).mistakes(state)
    assert mistake == "init_container_logs names 'fetch', which is not in the pod, which has none"


def test_a_line_carries_the_name_of_its_container() -> None:
    assert line_format()("base", "x") == "[base] x"


def test_the_prefix_can_be_left_out() -> None:
    assert line_format(prefix=False)("base", "x") == "x"


def test_a_formatter_replaces_the_prefix() -> None:
    assert line_format(formatter=lambda container, message: f"{container}> {message}")("base", "x") == "base> x"


def test_a_formatter_that_fails_does_not_cost_the_line() -> None:
    assert line_format(formatter=lambda container, message: str(1 / 0))("base", "x") == "[base] x"


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("plain", logging.INFO),
        ("", logging.INFO),
        ("DEBUG x", logging.INFO),
        ("INFO: x", logging.INFO),
        ("WARN x", logging.WARNING),
        ("WARNING - x", logging.WARNING),
        ("[warning] x", logging.WARNING),
        ("  ERROR: x", logging.ERROR),
        ("[ERROR] x", logging.ERROR),
        ("error", logging.ERROR),
        ("CRITICAL", logging.CRITICAL),
        ("FATAL: x", logging.CRITICAL),
        ("errors were found", logging.INFO),
        ("Information", logging.INFO),
        ("x ERROR", logging.INFO),
    ],
)
def test_a_line_has_the_level_it_begins_with(text: str, level: int) -> None:
    assert level_of(text) == level
