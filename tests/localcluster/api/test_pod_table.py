"""The tables of `kubectl get`, as on a real server."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async.localcluster.api.pod_table import summarize
from kpo_async.localcluster.api.tables import age, table
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

NOW = times.parse("2026-01-10T00:00:00Z")


def _pod(phase: str, *states: Object, init: list[Object] | None = None, **more: Any) -> Object:
    """A pod whose containers have these states; each of `init` is a dict with `state`, `sidecar` and `started`."""
    init = init or []
    names = [f"c{index}" for index in range(len(states))]
    spec = {
        "containers": [{"name": name} for name in names] or [{"name": "c0"}],
        "initContainers": [
            {"name": f"i{index}", **({"restartPolicy": "Always"} if found.get("sidecar") else {})}
            for index, found in enumerate(init)
        ],
    }
    status: Object = {
        "phase": phase,
        "containerStatuses": [
            {"name": name, "state": state, "ready": "running" in state, "restartCount": state.pop("restarts", 0)}
            for name, state in zip(names, states, strict=True)
        ],
        "initContainerStatuses": [
            {"name": f"i{index}", "state": found["state"], "started": found.get("started"), "ready": True}
            for index, found in enumerate(init)
        ],
        **more.pop("status", {}),
    }
    return {"metadata": {"name": "p", **more}, "spec": spec, "status": status}


def _ended(code: int, reason: str = "") -> Object:
    return {"terminated": {"exitCode": code, **({"reason": reason} if reason else {})}}


RUNNING: Object = {"running": {}}
INITIALIZED = {"conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("pod", "ready", "status"),
    [
        pytest.param(_pod("Pending"), "0/1", "Pending", id="nothing yet"),
        pytest.param(_pod("Running", {"running": {}}), "1/1", "Running", id="running"),
        pytest.param(
            _pod("Running", {"waiting": {"reason": "ImagePullBackOff"}}), "0/1", "ImagePullBackOff", id="waits"
        ),
        pytest.param(_pod("Succeeded", _ended(0, "Completed")), "0/1", "Completed", id="completed"),
        pytest.param(_pod("Failed", _ended(3, "Error")), "0/1", "Error", id="error"),
        pytest.param(_pod("Failed", _ended(3)), "0/1", "ExitCode:3", id="exit code"),
        pytest.param(_pod("Failed", {"terminated": {"signal": 9}}), "0/1", "Signal:9", id="signal"),
        pytest.param(_pod("Failed", status={"reason": "Evicted"}), "0/1", "Evicted", id="reason of the pod"),
        pytest.param(
            _pod("Running", _ended(0, "Completed"), {"running": {}}, status=INITIALIZED),
            "1/2",
            "Running",
            id="one left",
        ),
        pytest.param(
            _pod("Running", _ended(0, "Completed"), {"running": {}}), "1/2", "NotReady", id="one left and not ready"
        ),
        pytest.param(
            _pod("Running", {"running": {}}, deletionTimestamp="2026-01-01T00:00:00Z"), "1/1", "Terminating", id="dying"
        ),
        pytest.param(
            _pod("Succeeded", _ended(0, "Completed"), deletionTimestamp="2026-01-01T00:00:00Z"),
            "0/1",
            "Completed",
            id="ended and dying",
        ),
        pytest.param(
            _pod("Pending", status={"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            "0/1",
            "SchedulingGated",
            id="gated",
        ),
        pytest.param(_pod("Pending", init=[{"state": {"running": {}}}, {"state": {}}]), "0/1", "Init:0/2", id="init"),
        pytest.param(
            _pod("Pending", init=[{"state": _ended(0)}, {"state": {"running": {}}}]),
            "0/1",
            "Init:1/2",
            id="second init",
        ),
        pytest.param(_pod("Pending", init=[{"state": _ended(1, "Error")}]), "0/1", "Init:Error", id="init failed"),
        pytest.param(_pod("Pending", init=[{"state": _ended(2)}]), "0/1", "Init:ExitCode:2", id="init exit code"),
        pytest.param(
            _pod("Pending", init=[{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
            "0/1",
            "Init:CrashLoopBackOff",
            id="init waits",
        ),
        pytest.param(
            _pod("Running", {"running": {}}, init=[{"state": RUNNING, "sidecar": True, "started": True}]),
            "2/2",
            "Running",
            id="sidecar",
        ),
    ],
)
def test_the_row_of_a_pod(pod: Object, ready: str, status: str) -> None:
    summary = summarize(pod)
    assert (f"{summary.ready}/{summary.total}", summary.reason) == (ready, status)


def test_restarts_have_a_count_and_an_age() -> None:
    pod = _pod("Running", {"running": {}, "restarts": 2})
    pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"finishedAt": "2026-01-09T23:55:00Z"}}
    row = table("pods", [pod], {}, NOW)["rows"][0]
    assert row["cells"][3] == "2 (5m ago)"


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        (None, "<unknown>"),
        ("2026-01-10T00:00:05Z", "0s"),
        ("2026-01-09T23:58:01Z", "119s"),
        ("2026-01-09T23:57:30Z", "2m30s"),
        ("2026-01-09T23:30:00Z", "30m"),
        ("2026-01-09T20:30:00Z", "3h30m"),
        ("2026-01-09T04:00:00Z", "20h"),
        ("2026-01-07T12:00:00Z", "2d12h"),
        ("2025-12-20T00:00:00Z", "21d"),
        ("2020-01-10T00:00:00Z", "6y"),
    ],
)
def test_ages_have_the_format_of_kubectl(instant: str | None, shown: str) -> None:
    assert age(instant, NOW) == shown


EVENT = {
    "metadata": {"name": "e"},
    "involvedObject": {"kind": "Pod", "name": "p"},
    "type": "Normal",
    "reason": "Started",
    "message": "Started container base",
    "eventTime": "2026-01-09T23:59:00.000000Z",
}
BORN = {"name": "n", "creationTimestamp": "2026-01-09T23:59:00Z"}


@pytest.mark.parametrize(
    ("resource", "obj", "cells"),
    [
        ("events", EVENT, ["60s", "Normal", "Started", "pod/p", "Started container base", "e"]),
        ("configmaps", {"metadata": BORN, "data": {"a": ""}, "binaryData": {"b": ""}}, ["n", 2, "60s"]),
        ("secrets", {"metadata": BORN, "type": "Opaque", "data": {"a": ""}}, ["n", "Opaque", 1, "60s"]),
        ("namespaces", {"metadata": BORN, "status": {"phase": "Active"}}, ["n", "Active", "60s"]),
        ("serviceaccounts", {"metadata": BORN}, ["n", "60s"]),
        (
            "nodes",
            {"metadata": BORN, "spec": {"unschedulable": True}, "status": {"nodeInfo": {"kubeletVersion": "v1"}}},
            ["n", "NotReady,SchedulingDisabled", "<none>", "60s", "v1"],
        ),
    ],
)
def test_other_tables(resource: str, obj: Object, cells: list[Any]) -> None:
    shown = table(resource, [obj], {}, NOW)
    assert shown["rows"][0]["cells"] == cells
    assert len(shown["columnDefinitions"]) == len(cells)


@pytest.mark.parametrize(("include", "kind"), [("", "PartialObjectMetadata"), ("Object", None), ("None", None)])
def test_rows_contain_the_requested_part_of_the_object(include: str, kind: str | None) -> None:
    row = table("configmaps", [{"metadata": BORN}], {}, NOW, include=include)["rows"][0]["object"]
    assert (row or {}).get("kind") == kind
    assert (row is None) is (include == "None")
