"""Commands in running containers."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.localcluster.node import BadExecRequest
from tests.localcluster.kubelet.kubelet_harness import Lab, container

WAITS = "echo up; while true; do sleep 1 & wait $!; done"


async def run(lab: Lab, *command: str, stdin: bytes | None = None, tty: bool = False) -> tuple[int, str, str]:
    session = await lab.kubelet.exec(lab.pod("pod"), "base", list(command), stdin=stdin is not None, tty=tty)

    async def collect(stream: object) -> str:
        return b"".join([chunk async for chunk in stream]).decode()  # type: ignore[attr-defined]

    try:
        if stdin is not None:
            await session.write(stdin)
            await session.close_stdin()
        out, err = await asyncio.gather(collect(session.stdout()), collect(session.stderr()))
        return await session.wait(), out, err
    finally:
        await session.kill()


@pytest.fixture
async def up(any_lab: Lab) -> Lab:
    """A lab with a pod that runs."""
    any_lab.create("pod", container(WAITS, env=[{"name": "OWN", "value": "1"}]))
    await any_lab.logged("pod", "up")
    return any_lab


async def test_the_exit_code_and_both_outputs_come_back(up: Lab) -> None:
    assert await run(up, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


async def test_it_runs_with_the_containers_environment(up: Lab) -> None:
    assert await run(up, "sh", "-c", "echo $OWN") == (0, "1\n", "")


async def test_it_sees_the_containers_files(up: Lab) -> None:
    await run(up, "sh", "-c", "echo shared > /tmp/file")
    assert await run(up, "cat", "/tmp/file") == (0, "shared\n", "")


async def test_stdin_is_passed_through(up: Lab) -> None:
    data = b"x" * 300_000
    assert await run(up, "wc", "-c", stdin=data) == (0, "300000\n", "")


async def test_without_stdin_there_is_nothing_to_read(up: Lab) -> None:
    assert await run(up, "cat") == (0, "", "")


async def test_a_tty_has_one_output_and_a_size(up: Lab) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sh", "-c", "read x; stty size"], stdin=True, tty=True)
    session.resize(100, 40)
    await session.write(b"\n")
    output = b"".join([chunk async for chunk in session.stdout()])
    assert output.split() == [b"40", b"100"]
    assert await session.wait() == 0
    await session.kill()


async def test_a_session_can_be_killed(up: Lab) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sleep", "60"], stdin=False, tty=False)
    await session.kill()
    assert await session.wait() == 137


async def test_a_command_that_is_not_there_is_refused(up: Lab) -> None:
    with pytest.raises(BadExecRequest, match="executable file not found"):
        await run(up, "nosuch")


async def test_only_a_running_container_takes_commands(lab: Lab) -> None:
    lab.create("pod", container("exit 0"))
    await lab.finished("pod")
    for name in ("base", "none"):
        with pytest.raises(BadExecRequest, match=f'container not found \\("{name}"\\)'):
            await lab.kubelet.exec(lab.pod("pod"), name, ["true"], stdin=False, tty=False)


async def test_a_command_ends_with_its_container(up: Lab) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sleep", "60"], stdin=False, tty=False)
    up.delete("pod", 0)
    await up.removed("pod")
    code = session.wait()
    if up.kubelet.runtime.isolation.value == "namespaces":
        assert await code == 137
    else:
        code.close()
    await session.kill()
