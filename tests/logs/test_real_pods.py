"""End to end: processes that print, the embedded cluster's API server, the informer, followers."""

from __future__ import annotations

import asyncio
from typing import Any

from kpo_async.kube.client import Client
from kpo_async.kube.watch import follow
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LogPlan, line_format
from kpo_async.logs.pod import follow_pod
from kpo_async.logs.records import LogRecord
from kpo_async.pod.names import SELECTOR
from kpo_async.pod.xcom_sidecar import attach

IMAGE = "busybox:1.36"


async def create(client: Client, script: str, **spec: Any) -> str:
    """The uid of a pod that runs `script`, with the XCom sidecar, whose log must not be shown."""
    base = {"name": "base", "image": IMAGE, "command": ["sh", "-c", script]}
    labels = dict(item.split("=") for item in SELECTOR.split(",") if "!" not in item)
    manifest = {
        "metadata": {"name": "p", "labels": labels},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [base], **spec},
    }
    made = await client.create("pods", attach(manifest), "default")
    uid: str = made["metadata"]["uid"]
    return uid


async def show(client: Client, uid: str, plan: LogPlan, *, begun: asyncio.Event | None = None) -> list[str]:
    """The lines of a pod, to its end. Sets `begun` with the first."""
    records: list[LogRecord] = []

    def sink(record: LogRecord) -> None:
        records.append(record)
        if begun is not None:
            begun.set()

    async with follow(client, "default", "p", uid, selector=SELECTOR) as feed:
        assert await follow_pod(client, feed, plan, sink)
    shown = line_format(prefix=plan.prefix)
    return [shown(line.container, line.text) for record in records for line in record.lines]


async def test_init_containers_and_the_base_container_are_shown_once_and_the_xcom_sidecar_never(
    local_client: Client,
) -> None:
    prepare = {"name": "prepare", "image": IMAGE, "command": ["sh", "-c", "echo preparing"]}
    script = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; done; echo 1 > /airflow/xcom/return.json; printf end"
    uid = await create(local_client, script, initContainers=[prepare])
    shown = await show(local_client, uid, LogPlan(init_containers=True))
    assert shown == ["[prepare] preparing", *(f"[base] {n}" for n in range(1, 501)), "[base] end"]


async def test_what_is_printed_on_both_streams_is_shown_once(local_client: Client) -> None:
    uid = await create(local_client, "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo o$i; echo e$i >&2; done")
    shown = await show(local_client, uid, LogPlan(prefix=False))
    assert [line for line in shown if line[0] == "o"] == [f"o{n}" for n in range(1, 301)]
    assert [line for line in shown if line[0] == "e"] == [f"e{n}" for n in range(1, 301)]


async def test_a_log_that_is_cut_again_and_again_is_shown_once(
    local_client: Client, local_cluster: LocalCluster
) -> None:
    uid = await create(local_client, "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $i; sleep 0.005; done")
    with local_cluster.faults.cut(resource="pods/log", times=5) as fault:
        shown = await show(local_client, uid, LogPlan(prefix=False))
    assert fault.hits > 0
    assert shown == [str(n) for n in range(1, 301)]


async def test_an_api_server_that_restarts_does_not_lose_a_line(
    local_client: Client, local_cluster: LocalCluster
) -> None:
    uid = await create(local_client, "i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo $i; sleep 0.01; done")
    begun = asyncio.Event()
    showing = asyncio.create_task(show(local_client, uid, LogPlan(prefix=False), begun=begun))
    await begun.wait()
    await local_cluster.restart()
    assert await showing == [str(n) for n in range(1, 201)]


async def test_a_second_follower_resumes_where_the_first_stopped(local_client: Client) -> None:
    uid = await create(local_client, "echo one; echo two; sleep 1000")
    records: list[LogRecord] = []
    cursors: dict[str, Cursor] = {}
    both = asyncio.Event()

    def sink(record: LogRecord) -> None:
        records.append(record)
        if sum(len(record.lines) for record in records) == 2:
            both.set()

    async with follow(local_client, "default", "p", uid, selector=SELECTOR) as feed:
        first = asyncio.create_task(follow_pod(local_client, feed, LogPlan(), sink, cursors=cursors))
        await both.wait()
        first.cancel()
        await asyncio.wait([first])
    await local_client.delete("pods", "p", "default", uid=uid)
    async with follow(local_client, "default", "p", uid, selector=SELECTOR) as feed:
        await follow_pod(local_client, feed, LogPlan(), records.append, cursors=cursors)
    assert [line.text for record in records for line in record.lines][:2] == ["one", "two"]
    assert not any(line.text in ("one", "two") for record in records[2:] for line in record.lines)
