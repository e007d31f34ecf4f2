"""Commands in running containers."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.localcluster.node import BadExecRequest
from tests.localcluster.kubelet.kubelet_harness import KubeletHarness, container

WAITS = "echo up; while true; do sleep 1 & wait $!; done"


async def run(
    node: KubeletHarness, *command: str, stdin: bytes | None = None, tty: bool = False
) -> tuple[int, str, str]:
    session = await node.kubelet.exec(node.pod("pod"), "base", list(command), stdin=stdin is not None, tty=tty)

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
async def up(any_node: KubeletHarness) -> KubeletHarness:
    """A kubelet with a running pod."""
    any_node.create("pod", container(WAITS, env=[{"name": "OWN", "value": "1"}]))
    await any_node.logged("pod", "up")
    return any_node


async def test_exec_returns_the_exit_code_and_both_outputs(up: KubeletHarness) -> None:
    assert await run(up, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")


async def test_a_command_runs_with_the_containers_environment(up: KubeletHarness) -> None:
    assert await run(up, "sh", "-c", "echo $OWN") == (0, "1\n", "")


async def test_a_command_sees_the_containers_files(up: KubeletHarness) -> None:
    await run(up, "sh", "-c", "echo shared > /tmp/file")
    assert await run(up, "cat", "/tmp/file") == (0, "shared\n", "")


async def test_stdin_is_passed_to_the_command(up: KubeletHarness) -> None:
    data = b"x" * 300_000
    assert await run(up, "wc", "-c", stdin=data) == (0, "300000\n", "")


async def test_without_stdin_a_command_reads_nothing(up: KubeletHarness) -> None:
    assert await run(up, "cat") == (0, "", "")


async def test_a_tty_has_one_output_and_a_size(up: KubeletHarness) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sh", "-c", "read x; stty size"], stdin=True, tty=True)
    session.resize(100, 40)
    await session.write(b"\n")
    output = b"".join([chunk async for chunk in session.stdout()])
    assert output.split() == [b"40", b"100"]
    assert await session.wait() == 0
    await session.kill()


async def test_a_session_can_be_killed(up: KubeletHarness) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sleep", "60"], stdin=False, tty=False)
    await session.kill()
    assert await session.wait() == 137


async def test_a_command_that_does_not_exist_is_refused(up: KubeletHarness) -> None:
    with pytest.raises(BadExecRequest, match="executable file not found"):
        await run(up, "nosuch")


async def test_only_a_running_container_takes_commands(node: KubeletHarness) -> None:
    node.create("pod", container("exit 0"))
    await node.finished("pod")
    for name in ("base", "none"):
        with pytest.raises(BadExecRequest, match=f'container not found \\("{name}"\\)'):
            await node.kubelet.exec(node.pod("pod"), name, ["true"], stdin=False, tty=False)


async def test_a_command_ends_with_its_container(up: KubeletHarness) -> None:
    session = await up.kubelet.exec(up.pod("pod"), "base", ["sleep", "60"], stdin=False, tty=False)
    up.delete("pod", 0)
    await up.removed("pod")
    code = session.wait()
    if up.kubelet.runtime.isolation.value == "namespaces":
        assert await code == 137
    else:
        code.close()
    await session.kill()
