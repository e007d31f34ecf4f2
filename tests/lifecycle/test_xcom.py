"""The result of a task, out of real pods of the embedded cluster, and out of a server that cuts what it sends."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kpo_async.exceptions import XComError
from kpo_async.kube.auth import ClusterConfig
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch.subscription import PodEntry, Presence, Subscription
from kpo_async.lifecycle.xcom import Kind, XComResult, parse, read
from kpo_async.pod.names import SELECTOR
from kpo_async.pod.xcom_sidecar import CONTAINER, XComTransport, attach
from tests.pod.samples import ended, pod, running

WHERE = "XCom of pod jobs/p"
IMAGE = "python:3.11-slim"


@pytest.mark.parametrize(
    ("content", "result"),
    [
        pytest.param(b"", XComResult(Kind.EMPTY), id="no byte"),
        pytest.param(b" \n", XComResult(Kind.EMPTY), id="blanks"),
        pytest.param(b"null", XComResult(Kind.VALUE, "null", None), id="null"),
        pytest.param(b"0", XComResult(Kind.VALUE, "0", 0), id="zero"),
        pytest.param(b'{"a": [1]}\n', XComResult(Kind.VALUE, '{"a": [1]}\n', {"a": [1]}), id="object"),
        pytest.param('"gr\u00fcn"'.encode(), XComResult(Kind.VALUE, '"gr\u00fcn"', "gr\u00fcn"), id="UTF-8"),
    ],
)
def test_json_is_parsed_and_an_empty_file_has_no_value(content: bytes, result: XComResult) -> None:
    assert parse(content, WHERE) == result


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(
            b"{'a': 1}",
            "not valid JSON: Expecting property name enclosed in double quotes at line 1 column 2",
            id="quotes",
        ),
        pytest.param(b'{"a": 1}\n{"b": 2}', "Extra data at line 2 column 1", id="two values"),
        pytest.param(b'{"a": \n', "Expecting value at line 2 column 1", id="cut"),
        pytest.param(b'"\xff"', "not valid UTF-8: byte 0xff at offset 1", id="no UTF-8"),
        pytest.param(b"[" * 100_000, "nested too deeply", id="too deep"),
        pytest.param(b'{"a": [NaN]}', "has a value that Airflow cannot store: NaN at $.a[0]; write null", id="NaN"),
        pytest.param(b"9" * 5000, "has a value that Airflow cannot store: Exceeds the limit", id="5000 digits"),
    ],
)
def test_an_invalid_result_is_an_error_with_the_position_of_the_mistake(content: bytes, says: str) -> None:
    with pytest.raises(XComError) as caught:
        parse(content, WHERE)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{WHERE}: /airflow/xcom/return.json ")


@given(st.binary(max_size=40))
def test_any_bytes_are_a_result_or_an_error(content: bytes) -> None:
    try:
        parse(content, WHERE)
    except XComError:
        return


@asynccontextmanager
async def followed_pod(
    client: Client, script: str, *, transport: str = XComTransport.SIDECAR, **spec: Any
) -> AsyncIterator[tuple[PodHandle, Subscription]]:
    """A pod that runs a shell script, with the sidecar."""
    base = {"name": "base", "image": IMAGE, "command": ["sh", "-c", script]}
    spec["containers"] = [base, *spec.get("containers", [])]
    labels = dict([SELECTOR.split(",")[0].split("=")])
    manifest = {"metadata": {"name": "p", "labels": labels}, "spec": {"restartPolicy": "Never", **spec}}
    made = await client.create("pods", attach(manifest, transport=transport), "default")
    handle = PodHandle.of(client, made)
    async with handle.subscribe(selector=SELECTOR) as feed:
        yield handle, feed


def json_of(size: int) -> str:
    """A script whose result has exactly so many bytes and does not compress to nothing."""
    text = f"chr(34) + random.randbytes({size} // 2).hex()[:{size} - 2] + chr(34)"
    return f"python3 -c \"import random; random.seed(1); open('/airflow/xcom/return.json', 'w').write({text})\""


TRANSPORTS = pytest.mark.parametrize("transport", list(XComTransport))


@TRANSPORTS
@pytest.mark.parametrize(
    "size", [1024, 3900, 5000, 1 << 20, 10 << 20], ids=["1 KiB", "3.9 kB", "5 kB", "1 MiB", "10 MiB"]
)
async def test_a_result_arrives_byte_by_byte(local_client: Client, transport: str, size: int) -> None:
    async with followed_pod(local_client, json_of(size), transport=transport) as (pod, feed):
        result = await read(pod, feed, transport=transport)
    random.seed(1)
    assert result.text is not None
    assert len(result.text) == size
    assert result.value == random.randbytes(size // 2).hex()[: size - 2]


@TRANSPORTS
@pytest.mark.parametrize(
    ("script", "kind", "value"),
    [
        pytest.param("true", Kind.ABSENT, None, id="no file"),
        pytest.param(": > /airflow/xcom/return.json", Kind.EMPTY, None, id="empty file"),
        pytest.param("echo null > /airflow/xcom/return.json", Kind.VALUE, None, id="null"),
        pytest.param("echo '[1, 2]' > /airflow/xcom/return.json", Kind.VALUE, [1, 2], id="list"),
        pytest.param("echo 5 > /airflow/xcom/return.json; exit 3", Kind.VALUE, 5, id="of a failed program"),
        pytest.param("printf '\"gr\\303\\274n\"' > /airflow/xcom/return.json", Kind.VALUE, "gr\u00fcn", id="UTF-8"),
    ],
)
async def test_what_the_program_left_is_the_result(
    local_client: Client, transport: str, script: str, kind: Kind, value: Any
) -> None:
    async with followed_pod(local_client, script, transport=transport) as (pod, feed):
        result = await read(pod, feed, transport=transport)
    assert (result.kind, result.value) == (kind, value)


@TRANSPORTS
@pytest.mark.parametrize("make", ["mkdir", "mkfifo"])
async def test_a_result_that_is_not_a_file_is_an_error(local_client: Client, transport: str, make: str) -> None:
    async with followed_pod(local_client, f"{make} /airflow/xcom/return.json", transport=transport) as (pod, feed):
        with pytest.raises(XComError, match=r"return\.json is not a file but a directory or the like"):
            await read(pod, feed, transport=transport)


@TRANSPORTS
async def test_bytes_that_are_not_text_are_named_with_their_offset(local_client: Client, transport: str) -> None:
    script = "printf '\"ab\\377\"' > /airflow/xcom/return.json"
    async with followed_pod(local_client, script, transport=transport) as (pod, feed):
        with pytest.raises(XComError, match="byte 0xff at offset 3"):
            await read(pod, feed, transport=transport)


async def test_a_companion_that_never_ends_does_not_withhold_the_result(local_client: Client) -> None:
    companion = {"name": "other", "image": IMAGE, "command": ["sleep", "1000"]}
    script = "echo 5 > /airflow/xcom/return.json"
    spec = {"containers": [companion], "terminationGracePeriodSeconds": 1}
    async with followed_pod(local_client, script, **spec) as (pod, feed):
        result = await read(pod, feed)
        assert result.value == 5


async def test_a_pod_that_is_deleted_has_no_result(local_client: Client) -> None:
    async with followed_pod(local_client, "sleep 1000", terminationGracePeriodSeconds=0) as (pod, feed):
        while not ((seen := (await feed.next()).pod) and seen.status.phase == "Running"):
            pass
        reading = asyncio.create_task(read(pod, feed))
        await local_client.delete("pods", "p", "default", grace_period_seconds=0)
        with pytest.raises(XComError, match="XCom of pod default/p: "):
            await reading


def frame(content: bytes) -> bytes:
    head = f"{len(content)} {hashlib.sha256(content).hexdigest()}\n".encode()
    return b"kpo-async/1 begin gzip " + head + base64.b64encode(gzip.compress(content)) + b"\nkpo-async/1 end\n"


class Scripted:
    """Answers requests for the sidecar's log with what a test says, one after the other; the last one for good."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, int):
            return web.json_response({"kind": "Status", "code": found, "message": "scripted"}, status=found)
        return web.Response(body=found)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/log", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            async with Client(ClusterConfig(server=url, identity=url), retry_budget=2.0) as client:
                yield client
        finally:
            await runner.cleanup()


SIDECAR: dict[str, Any] = {"init_containers": [{"name": CONTAINER, "restartPolicy": "Always", "image": "alpine"}]}


def feed_of(message: str | None, *, presence: Presence = Presence.PRESENT, **status: Any) -> Subscription:
    """A pod whose base container has ended, and whose sidecar left this message, or runs on if None."""
    sidecar = running(CONTAINER) if message is None else ended(CONTAINER, message=message)
    entry = PodEntry("p", "uid", 2.0)
    entry.show(presence, pod(**{"statuses": [ended()], "init_statuses": [sidecar], **SIDECAR, **status}))
    return Subscription(entry)


def never_seen() -> Subscription:
    entry = PodEntry("p", "uid", 2.0)
    entry.show(Presence.FINAL_STATE_UNKNOWN, None)
    return Subscription(entry)


CONTENT = json.dumps({"n": list(range(2000))}).encode()
IN_LOG = f"kpo-async/1 log {len(CONTENT)} {hashlib.sha256(CONTENT).hexdigest()}\n"


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([frame(CONTENT)], id="whole"),
        pytest.param([frame(CONTENT)[:50], frame(CONTENT)[:-2], b"", frame(CONTENT)], id="cut before"),
        pytest.param([500, 503, frame(CONTENT)], id="errors before"),
        pytest.param([frame(b'{"other": 1}')[:-1], b"noise\n" + frame(CONTENT)], id="noise around it"),
        pytest.param([frame(CONTENT).replace(b"gzip 1", b"gzip 2"), frame(CONTENT)], id="wrong length"),
    ],
)
async def test_a_result_in_the_log_is_read_until_it_is_whole(answers: list[bytes | int]) -> None:
    async with Scripted(*answers).client() as client:
        result = await read(PodHandle(client, "jobs", "p", "uid"), feed_of(IN_LOG))
    assert result.value == {"n": list(range(2000))}


@pytest.mark.virtual_time
async def test_a_truncated_message_is_replaced_by_the_log() -> None:
    message = IN_LOG.replace("log", "text", 1) + CONTENT[:2500].decode()
    async with Scripted(frame(CONTENT)).client() as client:
        assert (await read(PodHandle(client, "jobs", "p", "uid"), feed_of(message))).value == {"n": list(range(2000))}


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("feed", "answer", "says"),
    [
        pytest.param(feed_of(IN_LOG), b"", "did not arrive whole from the log", id="never whole"),
        pytest.param(feed_of(None), b"", "did not hand the result over within 60 s", id="sidecar does not end"),
        pytest.param(feed_of("Killed"), 500, "did not hand the result over", id="sidecar crashed, may come back"),
        pytest.param(
            feed_of("Killed", phase="Failed"), b"", "ended with exit code 0 () and left no result", id="sidecar crashed"
        ),
        pytest.param(
            feed_of("kpo-async/1 unreadable\n"), b"", "may not read /airflow/xcom/return.json", id="unreadable"
        ),
        pytest.param(feed_of("kpo-async/1 text 5 -\nabc"), b"", "arrived damaged", id="a short message, cut"),
        pytest.param(feed_of("kpo-async/1 what is this"), b"", "which kpo-async does not write", id="another protocol"),
        pytest.param(feed_of(f"kpo-async/1 log {1 << 40} -"), b"", "the limit is", id="too large"),
        pytest.param(feed_of(None, presence=Presence.GONE), b"", "the pod was gone (", id="gone"),
        pytest.param(never_seen(), b"", "the pod was gone (Deleted) before", id="gone before it was seen"),
        pytest.param(
            feed_of(None, init_statuses=None, init_containers=None, phase="Succeeded"),
            b"",
            "the pod has no container airflow-xcom-sidecar",
            id="no sidecar",
        ),
    ],
)
async def test_a_missing_result_is_an_error_within_a_minute_and_not_an_empty_result(
    feed: Subscription, answer: bytes | int, says: str
) -> None:
    async with Scripted(answer).client() as client:
        with pytest.raises(XComError) as caught:
            await read(PodHandle(client, "jobs", "p", "uid"), feed)
    assert says in str(caught.value)
    assert "jobs/p" in str(caught.value)
    assert asyncio.get_running_loop().time() <= 60.1
