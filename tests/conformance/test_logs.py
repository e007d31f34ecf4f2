"""Logs: their options, following, resuming, and the errors without a log."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async.compat import timeout
from tests.conformance.api import IMAGE, Api, asleep, has_ended, is_running, pod, state


async def _read_lines(response: Any, count: int) -> list[str]:
    async with timeout(30):
        return [(await response.content.readline()).decode().rstrip("\n") for _ in range(count)]


async def test_both_streams_are_in_the_log(api: Api) -> None:
    await api.finish(pod("talks", "echo out; echo err >&2"))
    assert sorted((await api.log("talks")).splitlines()) == ["err", "out"]


async def test_timestamps_have_nanoseconds_and_ascend(api: Api) -> None:
    await api.finish(pod("stamped", "for i in 1 2 3; do echo line $i; sleep 0.1; done"))
    lines = [line.split(" ", 1) for line in (await api.log("stamped", timestamps="true")).splitlines()]
    stamps = [stamp for stamp, _ in lines]
    assert [text for _, text in lines] == ["line 1", "line 2", "line 3"]
    assert stamps == sorted(set(stamps))
    assert all(len(stamp) == len("2026-01-02T03:04:05.000000000Z") and stamp.endswith("Z") for stamp in stamps)


async def test_a_followed_log_sends_lines_as_they_are_written_and_ends_with_the_container(api: Api) -> None:
    await api.run(pod("slow", "echo one; sleep 1; echo two"))
    await api.wait("slow", lambda obj: is_running(obj) or has_ended(obj))
    async with api.stream("pods", "slow", "log", follow="true") as response:
        assert response.headers["Content-Type"] == "text/plain"
        assert await _read_lines(response, 1) == ["one"]
        assert await _read_lines(response, 1) == ["two"]
        async with timeout(30):
            assert await response.content.read() == b""


async def test_the_headers_of_a_followed_log_come_before_its_first_line(api: Api) -> None:
    await api.run(pod("mute", "sleep 600"))
    await api.wait("mute", is_running)
    async with timeout(10), api.stream("pods", "mute", "log", follow="true") as response:
        assert response.status == 200


async def test_since_time_counts_whole_seconds_only(api: Api) -> None:
    await api.finish(pod("resumed", "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.3; done"))
    whole = (await api.log("resumed", timestamps="true")).splitlines()
    stamp = whole[4].split(" ")[0]
    second = stamp.split(".")[0]
    rest = (await api.log("resumed", timestamps="true", sinceTime=stamp)).splitlines()
    assert rest == [line for line in whole if line >= second]


async def test_tail_lines_and_limit_bytes_shorten_a_log(api: Api) -> None:
    await api.finish(pod("long", "for i in 1 2 3 4 5; do echo line $i; done"))
    assert (await api.log("long", tailLines="2")).splitlines() == ["line 4", "line 5"]
    assert await api.log("long", tailLines="0") == ""
    assert await api.log("long", limitBytes="9") == "line 1\nli"
    assert await api.log("long", tailLines="2", limitBytes="3") == "lin"


async def test_a_last_line_without_a_newline_is_in_the_log(api: Api) -> None:
    await api.finish(pod("endless", "printf 'whole\\npartial'"))
    assert await api.log("endless") == "whole\npartial"


async def test_a_line_of_more_than_16_kib_is_returned_whole(api: Api) -> None:
    await api.finish(pod("wide", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo next"))
    assert (await api.log("wide")).splitlines() == ["x" * 40000, "next"]


async def test_the_previous_log_is_that_of_the_run_before_the_restart(api: Api) -> None:
    counted = "echo run $(cat /count/n 2>/dev/null || echo 0); echo 1 > /count/n; test -e /count/again && sleep 600"
    line = f"{counted}; touch /count/again; exit 1"
    body = pod("again", line, restartPolicy="Always", volumes=[{"name": "count", "emptyDir": {}}])
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "count", "mountPath": "/count"}]
    await api.run(body)
    await api.wait("again", lambda obj: is_running(obj) and obj["status"]["containerStatuses"][0]["restartCount"] == 1)
    assert await api.log("again", previous="true") == "run 0\n"
    async with api.stream("pods", "again", "log", follow="true") as response:
        assert await _read_lines(response, 1) == ["run 1"]


async def test_without_a_previous_run_there_is_no_previous_log(api: Api) -> None:
    await api.run(pod("once", "sleep 600"))
    await api.wait("once", is_running)
    answer = await api.get("pods", "once", "log", previous="true")
    assert (answer.status, answer.message) == (400, 'previous terminated container "base" in pod "once" not found')


async def test_init_containers_have_their_own_logs(api: Api) -> None:
    init = [{"name": "first", "image": IMAGE, "command": ["echo", "from the first"]}]
    await api.finish(pod("many", "echo from the base", initContainers=init))
    assert await api.log("many", container="first") == "from the first\n"
    assert await api.log("many", container="base") == "from the base\n"


async def test_a_log_of_several_containers_needs_a_name(api: Api) -> None:
    containers = [{"name": name, "image": IMAGE, "command": ["true"]} for name in ("a", "b")]
    init = [{"name": "i", "image": IMAGE, "command": ["true"]}]
    await api.finish(pod("two", containers=containers, initContainers=init))
    answer = await api.get("pods", "two", "log")
    assert answer.status == 400
    assert answer.message == "a container name must be specified for pod two, choose one of: [i a b]"


async def test_a_waiting_container_has_no_log_yet(api: Api) -> None:
    body = pod("held", "true")
    body["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "no-such"}}]
    await api.run(body)
    await api.wait(
        "held",
        lambda obj: (
            bool(obj["status"].get("containerStatuses"))
            and state(obj).get("waiting", {}).get("reason") == "CreateContainerConfigError"
        ),
    )
    answer = await api.get("pods", "held", "log")
    assert answer.status == 400
    assert answer.body["reason"] == "BadRequest"
    assert answer.message == 'container "base" in pod "held" is waiting to start: CreateContainerConfigError'


async def test_a_pod_without_a_node_has_an_empty_log(api: Api) -> None:
    await api.run(asleep("nowhere"))
    answer = await api.get("pods", "nowhere", "log")
    assert (answer.status, answer.raw) == (204, b"")


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        pytest.param({"container": "zz"}, 400, "container zz is not valid for pod subject", id="unknown container"),
        pytest.param({"tailLines": "-1"}, 422, "must be greater than or equal to 0", id="negative tail"),
        pytest.param({"limitBytes": "0"}, 422, "must be greater than 0", id="no bytes"),
        pytest.param({"sinceSeconds": "0"}, 422, "must be greater than 0", id="no seconds"),
        pytest.param(
            {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}, 422, "at most one of", id="two beginnings"
        ),
        pytest.param({"sinceTime": "yesterday"}, 400, 'parsing time "yesterday"', id="no time"),
    ],
)
async def test_bad_log_options_are_refused(api: Api, query: dict[str, str], status: int, message: str) -> None:
    await api.run(asleep("subject"))
    answer = await api.get("pods", "subject", "log", **query)
    assert answer.status == status
    assert message in answer.message


async def test_the_log_of_a_missing_pod_is_404(api: Api) -> None:
    answer = await api.get("pods", "nobody", "log")
    assert (answer.status, answer.message) == (404, 'pods "nobody" not found')
