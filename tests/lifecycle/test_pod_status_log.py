"""The lines about a pod's changes, without a cluster: views in, lines of the task's log out."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kpo_async.api_types import Pod
from kpo_async.exceptions import ServerError
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import Presence, View
from kpo_async.lifecycle.pod_status_log import PodStatusLogger
from kpo_async.pod.status import assess
from kpo_async.pod_task import PodTask
from tests.factories import NO_CALLBACKS
from tests.pod.samples import pod, running, waiting

PROBLEM = ServerError("the API server answered 500", verb="watch", resource="pods", code=500)


async def log_views(*views: View, **fields: Any) -> None:
    task = PodTask("p", "jobs", "uid", **fields)
    url = "http://127.0.0.1:9"
    async with Client(ClusterConfig(server=url, identity=url)) as client:
        status_log = PodStatusLogger(PodHandle(client, "jobs", "p", "uid"), task, NO_CALLBACKS)
        for view in views:
            await status_log(assess(view.pod, "base", gone=view.presence.final), view)


def present(seen: Pod, problem: ServerError | None = None) -> View:
    return View(Presence.PRESENT, seen, problem)


async def test_an_interrupted_watch_and_its_recovery_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    seen = pod(phase="Pending", node=None)
    await log_views(*[present(seen, PROBLEM)] * 2, *[present(seen)] * 2)
    assert caplog.messages == [
        "Pod jobs/p: watch interrupted, retrying: the API server answered 500",
        "Pod jobs/p: watch restored",
    ]


async def test_each_change_of_a_starting_pod_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pulling = pod(phase="Pending", statuses=[waiting(reason="ErrImagePull", message="no such tag")])
    await log_views(*[present(pulling)] * 2, *[present(pod(phase="Running", statuses=[running()]))] * 2)
    assert caplog.messages == [
        "Pod jobs/p is on node node-1",
        "Pod jobs/p: container 'base' is waiting: ErrImagePull: no such tag",
        "Pod jobs/p: container 'base' is running",
    ]


async def test_what_a_pod_waits_for_is_not_logged_without_events_on_startup(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pulling = pod(phase="Pending", statuses=[waiting(reason="ErrImagePull", message="no such tag")])
    await log_views(present(pulling), events_on_startup=False)
    assert caplog.messages == ["Pod jobs/p is on node node-1"]
