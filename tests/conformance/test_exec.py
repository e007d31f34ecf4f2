"""Exec over a websocket: its channels, the exit code, and its errors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import aiohttp
import pytest

from kpo_async.compat import timeout
from tests.conformance.api import Api, Object, is_running, pod

V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"


@dataclass
class Result:
    channels: dict[int, bytes] = field(default_factory=dict)
    protocol: str | None = None

    @property
    def status(self) -> Object:
        parsed: Object = json.loads(self.channels[3])
        return parsed


async def _exec(api: Api, name: str, *command: str, stdin: bytes | None = None, protocol: str = V4) -> Result:
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true"), ("container", "base")]
    if stdin is not None:
        query.append(("stdin", "true"))
    result = Result()
    async with (
        timeout(30),
        api.session.ws_connect(
            api.access.url + api.path("pods", name, "exec"),
            params=query,
            headers={"Authorization": f"Bearer {api.access.token}"} if api.access.token else {},
            ssl=api.access.tls or True,
            protocols=(protocol,),
        ) as websocket,
    ):
        result.protocol = websocket.protocol
        if stdin is not None:
            await websocket.send_bytes(b"\x00" + stdin)
            if protocol == V5:
                await websocket.send_bytes(b"\xff\x00")
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.BINARY:
                channel = message.data[0]
                result.channels[channel] = result.channels.get(channel, b"") + message.data[1:]
    return result


async def _running(api: Api) -> None:
    await api.run(pod("host", "sleep 600"))
    await api.wait("host", is_running)


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_output_errors_and_exit_code_arrive_on_their_channels(api: Api, protocol: str) -> None:
    await _running(api)
    result = await _exec(api, "host", "sh", "-c", "echo out; echo err >&2; exit 3", protocol=protocol)
    assert result.protocol == protocol
    assert (result.channels[1], result.channels[2]) == (b"out\n", b"err\n")
    assert result.status["status"] == "Failure"
    assert result.status["reason"] == "NonZeroExitCode"
    assert result.status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert "exit code 3" in result.status["message"]


async def test_success_is_a_status(api: Api) -> None:
    await _running(api)
    result = await _exec(api, "host", "true")
    assert result.status == {"metadata": {}, "status": "Success"}


async def test_the_command_gets_its_input_and_the_end_of_it(api: Api) -> None:
    await _running(api)
    result = await _exec(api, "host", "cat", stdin=b"hello", protocol=V5)
    assert result.channels[1] == b"hello"
    assert result.status["status"] == "Success"


async def test_a_command_that_reads_a_line_needs_no_end_of_input(api: Api) -> None:
    await _running(api)
    result = await _exec(api, "host", "sh", "-c", "read line; echo got $line", stdin=b"it\n")
    assert result.channels[1] == b"got it\n"


async def test_a_megabyte_of_output_arrives_whole(api: Api) -> None:
    await _running(api)
    result = await _exec(api, "host", "sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x")
    assert result.channels[1] == b"x" * 1_000_000


async def test_a_command_that_does_not_exist_is_reported_on_the_status_channel(api: Api) -> None:
    await _running(api)
    result = await _exec(api, "host", "no-such-command")
    assert result.status["status"] == "Failure"
    assert "no-such-command" in result.status["message"]


async def test_without_an_upgrade_exec_is_refused(api: Api) -> None:
    await _running(api)
    answer = await api.create("pods", None, "host", "exec", command="true")
    assert (answer.status, answer.message) == (400, "Upgrade request required")


async def test_exec_into_a_pod_that_has_ended_is_refused(api: Api) -> None:
    await api.finish(pod("over"))
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await _exec(api, "over", "true")
    assert refused.value.status == 500


async def test_exec_into_a_missing_pod_is_404(api: Api) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await _exec(api, "nobody", "true")
    assert refused.value.status == 404
