"""Reading a container's log with each of the API's options, and following it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpo_async.localcluster.kubelet.logfile import PART, LogFile
from kpo_async.localcluster.node import BadLogRequest, LogOptions
from kpo_async.localcluster.store import times
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, container


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    """A log whose clock always shows 1970-01-01T00:00:01Z."""
    made = LogFile(tmp_path / "log", lambda: times.SECOND)
    yield made
    made.close()


def stamped(*lines: str) -> str:
    return "".join(f"1970-01-01T00:00:01.{number:09d}Z {line}" for number, line in enumerate(lines))


async def read(log: LogFile, **options: Any) -> str:
    return b"".join([chunk async for chunk in log.read(LogOptions("base", **options))]).decode()


async def test_every_line_has_a_later_timestamp_than_the_one_before(log: LogFile) -> None:
    log.write(b"one\ntwo\n\nfour\n")
    assert await read(log, timestamps=True) == stamped("one\n", "two\n", "\n", "four\n")
    assert await read(log) == "one\ntwo\n\nfour\n"


@pytest.mark.parametrize("size", [100, 101, 128, 200])
async def test_lines_are_whole_for_every_block_size(log: LogFile, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kpo_async.localcluster.kubelet.logfile._BLOCK", size)
    log.write(b"one\n\nthree and more\n1970-01-01T00:00:01.000000009Z F looks like an entry\n")
    log.close()
    assert await read(log) == "one\n\nthree and more\n1970-01-01T00:00:01.000000009Z F looks like an entry\n"


@pytest.mark.parametrize("block", [50, 64 * 1024])
@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, ""), (1, "three\n"), (2, "two\nthree\n"), (3, "one\ntwo\nthree\n"), (9, "one\ntwo\nthree\n")],
)
async def test_tail_lines_selects_the_last_lines(
    log: LogFile, count: int, expected: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpo_async.localcluster.kubelet.logfile._BLOCK", block)
    log.write(b"one\ntwo\nthree\n")
    assert await read(log, tail_lines=count) == expected


async def test_tail_lines_counts_a_last_line_without_a_newline(log: LogFile) -> None:
    log.write(b"one\ntwo")
    log.close()
    assert await read(log, tail_lines=1) == "two"


@pytest.mark.parametrize("count", [1, 2, 3, 100])
async def test_since_time_finds_the_first_line_at_or_after_it(log: LogFile, count: int) -> None:
    log.write(b"".join(b"x" * (number % 7) + b"line %d\n" % number for number in range(count)))
    everything = (await read(log)).splitlines(keepends=True)
    for number in range(-1, count + 1):
        since = times.SECOND + number
        assert await read(log, since_time=since) == "".join(everything[max(0, number) :])


async def test_since_seconds_counts_back_from_the_current_time(tmp_path: Path) -> None:
    clock = itertools.count(0, 10 * times.SECOND)
    log = LogFile(tmp_path / "log", lambda: next(clock))
    for line in (b"at 0\n", b"at 10\n", b"at 20\n"):
        log.write(line)  # The log is read at 30.
    assert await read(log, since_seconds=15) == "at 20\n"
    log.close()


async def test_since_time_and_tail_lines_select_the_shorter_log(log: LogFile) -> None:
    log.write(b"one\ntwo\nthree\n")
    assert await read(log, since_time=times.SECOND + 1, tail_lines=1) == "three\n"
    assert await read(log, since_time=times.SECOND + 2, tail_lines=2) == "three\n"


async def test_limit_bytes_ends_in_the_middle_of_a_line(log: LogFile) -> None:
    log.write(b"one\ntwo\n")
    assert await read(log, limit_bytes=6) == "one\ntw"
    assert await read(log, limit_bytes=32, timestamps=True) == stamped("one\n")[:32]


async def test_an_unfinished_line_is_logged_when_a_part_is_full(log: LogFile) -> None:
    log.write(b"start")
    assert await read(log) == ""
    log.write(b"x" * PART)
    assert await read(log) == ("start" + "x" * PART)[:PART]
    log.write(b"end\nnext\n")
    assert await read(log) == "start" + "x" * PART + "end\nnext\n"
    assert (await read(log, timestamps=True)).count("1970-") == 2


async def test_tail_lines_and_since_time_may_start_in_a_long_line(log: LogFile) -> None:
    log.write(b"a" * PART + b"b" * PART + b"c\nnext\n")
    first = (await read(log, timestamps=True)).index("a")
    assert await read(log, tail_lines=2, timestamps=True) == stamped("", "", "c\n", "next\n")[2 * first :]
    assert await read(log, since_time=times.SECOND + 1) == "b" * PART + "c\nnext\n"


async def test_an_unfinished_line_is_logged_at_the_end(log: LogFile) -> None:
    log.write(b"one\nno newline")
    log.close()
    assert await read(log, timestamps=True) == stamped("one\n", "no newline")


async def test_following_yields_every_byte_once_and_ends_with_the_container(log: LogFile) -> None:
    log.write(b"before\n")
    reader = asyncio.create_task(read(log, follow=True))
    for number in range(100):
        log.write(b"line %d\n" % number)
        if number % 10 == 0:
            await asyncio.sleep(0)
    log.close()
    assert await reader == "before\n" + "".join(f"line {number}\n" for number in range(100))


async def test_following_a_closed_log_ends_immediately(log: LogFile) -> None:
    log.write(b"x\n")
    log.close()
    assert await read(log, follow=True) == "x\n"


async def test_a_reader_can_stop_in_the_middle(log: LogFile) -> None:
    log.write(b"one\n")
    chunks = log.read(LogOptions("base", follow=True))
    assert await anext(chunks) == b"one\n"
    await chunks.aclose()
    log.write(b"two\n")
    assert await read(log) == "one\ntwo\n"


async def test_both_outputs_of_a_container_are_logged_in_order(any_node: KubeletHarness) -> None:
    any_node.create("pod", container("for i in 1 2 3; do echo out $i; echo err $i >&2; done"))
    assert await any_node.output("pod") == "".join(f"out {i}\nerr {i}\n" for i in (1, 2, 3))


async def test_a_log_can_be_followed_while_the_container_writes_it(node: KubeletHarness) -> None:
    node.create("pod", container("for i in 1 2 3; do echo $i; sleep 0.05; done"))
    await node.running("pod")
    assert await node.log("pod", follow=True) == "1\n2\n3\n"


async def test_a_big_log_is_complete(node: KubeletHarness) -> None:
    node.create("pod", container("python3 -c 'for i in range(200000): print(i)'"))
    assert await node.output("pod") == "".join(f"{number}\n" for number in range(200_000))


async def test_output_of_background_processes_is_logged(node: KubeletHarness) -> None:
    node.create("pod", container("(echo child; sleep 30) & sleep 0.1; echo parent"))
    assert await node.output("pod") == "child\nparent\n"


async def test_previous_selects_the_log_of_the_run_before(node: KubeletHarness) -> None:
    volumes = [{"name": "v", "emptyDir": {}}]
    script = "echo run >> /v/runs; echo run $(wc -l < /v/runs); test $(wc -l < /v/runs) -eq 2 || exit 1"
    body = container(script, volumeMounts=[{"name": "v", "mountPath": "/v"}])
    node.create("pod", body, restartPolicy="OnFailure", volumes=volumes)
    assert await node.output("pod") == "run 2\n"
    assert await node.log("pod", previous=True) == "run 1\n"


async def test_during_a_back_off_the_log_is_that_of_the_last_run(node: KubeletHarness) -> None:
    node.create("pod", container("echo $(date +%s%N); exit 1"), restartPolicy="Always")
    await node.waiting("pod", "CrashLoopBackOff")
    assert await node.log("pod") == await node.log("pod", previous=True) != ""


@pytest.mark.parametrize(
    ("image", "reason", "text"),
    [
        pytest.param("invalid.example/x", "ImagePullBackOff", "trying and failing to pull image", id="pulled"),
        pytest.param("In/valid", "InvalidImageName", "InvalidImageName", id="invalid"),
    ],
)
async def test_a_waiting_container_has_no_log(node: KubeletHarness, image: str, reason: str, text: str) -> None:
    node.create("pod", {"name": "base", "image": image})
    await node.waiting("pod", reason)
    with pytest.raises(BadLogRequest, match=f'^container "base" in pod "pod" is waiting to start: {text}$'):
        await node.log("pod")


async def test_without_a_previous_run_there_is_no_previous_log(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"))
    await node.finished("pod")
    with pytest.raises(BadLogRequest, match='previous terminated container "base" in pod "pod" not found'):
        await node.log("pod", previous=True)


async def test_following_ends_when_the_pod_is_deleted(node: KubeletHarness) -> None:
    node.create("pod", container("echo up; sleep 60"))
    await node.logged("pod", "up")
    follower = asyncio.create_task(node.log("pod", follow=True))
    await asyncio.sleep(0)
    node.delete("pod", 0)
    assert await follower == "up\n"
    await node.removed("pod")
