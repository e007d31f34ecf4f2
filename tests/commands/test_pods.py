"""`ps`, `logs` and `diagnose` on a cluster: what they print, for people and for programs, and their exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.localcluster.cluster import LocalCluster
from tests.commands.conftest import CommandLine, Run, interrupted
from tests.factories import create_pod, eventually

SLEEP = "echo started; exec sleep 600"


async def has_phase(client: Client, pod: Json, phase: str) -> None:
    async def look() -> bool:
        found = await PodHandle.of(client, pod).get()
        return found is not None and found["status"].get("phase") == phase

    await eventually(look)


async def test_ps_lists_living_pods_with_their_tasks(local_client: Client, on_cluster: Run) -> None:
    pod = await create_pod(local_client, SLEEP)
    await has_phase(local_client, pod, "Running")
    listed = await on_cluster("ps")
    assert (listed.code, listed.err) == (0, "")
    header, line = listed.out.splitlines()
    assert header.split() == ["POD", "TASK", "TRY", "PHASE", "AGE", "RESTARTS", "NODE", "EXPLANATION"]
    assert line.split()[:4] == [f"default/{pod['metadata']['name']}", "dag.task", "1", "Running"]
    assert "\x1b" not in listed.out
    (row,) = (await on_cluster("ps", "--output", "json")).json
    assert (row["name"], row["task"]["dag_id"], row["phase"]) == (pod["metadata"]["name"], "dag", "Running")


async def test_ps_says_what_a_pod_waits_for(local_client: Client, on_cluster: Run) -> None:
    await create_pod(local_client, SLEEP, node_selector={"disk": "none"})
    assert "is not scheduled yet (" in (await on_cluster("ps")).out


async def test_ps_of_an_empty_namespace_is_an_empty_list(on_cluster: Run) -> None:
    listed = await on_cluster("ps", "--namespace", "empty")
    assert (listed.code, listed.out) == (0, "")
    assert listed.sentence == "No pod of this Airflow is living there."
    assert (await on_cluster("ps", "--namespace", "empty", "-o", "json")).json == []


async def test_ps_watches_until_it_is_interrupted(
    local_client: Client, local_cluster: LocalCluster, command_line: CommandLine
) -> None:
    program = await command_line.start("ps", "--watch", "-o", "json", "--kubeconfig", local_cluster.kubeconfig)
    pod = await create_pod(local_client, "exit 0")
    changes: list[Any] = []
    assert program.stdout is not None
    while not changes or changes[-1]["pod"]["phase"] != "Succeeded":
        changes.append(json.loads(await program.stdout.readline()))
    assert changes[0]["type"] == "ADDED"
    assert {change["pod"]["name"] for change in changes} == {pod["metadata"]["name"]}
    ran = await interrupted(program)
    assert (ran.code, ran.err) == (130, "")


async def test_a_terminal_gets_a_live_table_that_ends_quietly(
    local_client: Client, local_cluster: LocalCluster, command_line: CommandLine
) -> None:
    pod = await create_pod(local_client, SLEEP)
    await has_phase(local_client, pod, "Running")
    with terminal() as (reader, screen):
        words = ("ps", "--watch", "--kubeconfig", local_cluster.kubeconfig)
        program = await command_line.start(*words, stdout=screen)
        shown = b""
        while b"Running" not in shown:
            shown += await asyncio.to_thread(os.read, reader, 4096)
        program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        assert (await program.stderr.read(), await program.wait()) == (b"", 130)
    assert pod["metadata"]["name"].encode() in shown
    assert b"\x1b[" in shown


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: what its user sees, and what a program writes to."""
    reader, screen = pty.openpty()
    try:
        yield reader, screen
    finally:
        os.close(reader)
        os.close(screen)


async def test_logs_follows_a_container_from_its_start_to_its_end(local_client: Client, on_cluster: Run) -> None:
    pod = await create_pod(local_client, "for i in 1 2 3; do echo line $i; sleep 0.3; done")
    followed = await on_cluster("logs", pod["metadata"]["name"], "--follow")
    assert (followed.code, followed.out) == (0, "line 1\nline 2\nline 3\n")
    again = await on_cluster("logs", "dag", "task", "run", "--tail", "1")
    assert (again.code, again.out) == (0, "line 3\n")


async def test_logs_whose_reader_leaves_ends_quietly(
    local_client: Client, local_cluster: LocalCluster, command_line: CommandLine
) -> None:
    pod = await create_pod(local_client, "i=0; while [ $i -lt 20000 ]; do echo a line of some length; i=$((i+1)); done")
    await has_phase(local_client, pod, "Succeeded")
    program = await command_line.start("logs", pod["metadata"]["name"], "--kubeconfig", local_cluster.kubeconfig)
    assert program.stdout is not None
    assert program.stderr is not None
    await program.stdout.readline()
    program._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
    assert await program.stderr.read() == b""
    assert await program.wait() == 0


async def test_logs_of_an_unknown_container_names_those_that_there_are(local_client: Client, on_cluster: Run) -> None:
    pod = await create_pod(local_client, SLEEP)
    refused = await on_cluster("logs", f"default/{pod['metadata']['name']}", "-c", "other")
    assert refused.code == 2
    assert refused.sentence.endswith("has no container 'other', but: base")


async def test_diagnose_says_why_a_pod_failed(local_client: Client, on_cluster: Run) -> None:
    pod = await create_pod(local_client, "echo no; exit 3", env_vars={"PASSWORD": "secret-value"})
    await has_phase(local_client, pod, "Failed")
    told = await on_cluster("diagnose", "dag", "task", "run")
    assert told.code == 1
    assert "ExitCode" in told.out
    assert "container 'base' failed with exit code 3" in told.out
    found = await on_cluster("diagnose", pod["metadata"]["name"], "--output", "json")
    assert found.code == 1
    assert (found.json["category"], found.json["exit_code"], found.json["exists"]) == ("ExitCode", 3, True)
    assert "secret-value" not in told.out + found.out


async def test_diagnose_works_for_pods_of_others(local_client: Client, on_cluster: Run) -> None:
    container = {"name": "web", "image": "busybox:1.36", "command": ["sleep", "600"]}
    body = {"metadata": {"name": "foreign"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 0}}
    pod = await local_client.create("pods", body, "default")
    await has_phase(local_client, pod, "Running")
    told = await on_cluster("diagnose", "foreign", "-o", "json")
    assert (told.code, told.json["category"], told.json["task"]) == (0, "Running", None)


async def test_what_is_unknown_is_one_sentence_and_exit_code_2(on_cluster: Run) -> None:
    for words in (("logs", "none"), ("diagnose", "none"), ("diagnose", "dag", "task", "run"), ("logs", "a", "b")):
        refused = await on_cluster(*words)
        assert (refused.code, refused.out) == (2, ""), words
        assert refused.sentence.startswith(f"kpo-async {words[0]}: ")


async def test_text_of_a_pod_cannot_steer_the_terminal(local_client: Client, on_cluster: Run) -> None:
    pod = await create_pod(local_client, r"printf '\033[2J[bold]x' > /dev/termination-log; exit 1")
    await has_phase(local_client, pod, "Failed")
    told = await on_cluster("diagnose", pod["metadata"]["name"])
    assert "[bold]x" in told.out
    assert "\x1b" not in told.out


async def test_a_cluster_that_does_not_answer_is_one_sentence(command_line: CommandLine, tmp_path: Any) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"name": "gone", "cluster": {"server": "http://127.0.0.1:1"}}
    context = {"name": "gone", "context": {"cluster": "gone", "user": "gone"}}
    users = [{"name": "gone", "user": {}}]
    kubeconfig.write_text(
        json.dumps({"clusters": [cluster], "contexts": [context], "users": users, "current-context": "gone"})
    )
    for words in (("ps",), ("logs", "pod"), ("diagnose", "pod"), ("rbac", "--check")):
        refused = await command_line(*words, "--kubeconfig", kubeconfig)
        assert (refused.code, refused.out) == (2, ""), words
        assert "127.0.0.1:1" in refused.sentence


async def test_a_kubeconfig_that_is_not_there_is_one_sentence(command_line: CommandLine) -> None:
    refused = await command_line("ps", "--kubeconfig", "/none/such")
    assert (refused.code, refused.out) == (2, "")
    assert "/none/such" in refused.sentence


async def test_without_airflows_database_commands_say_what_to_do(command_line: CommandLine) -> None:
    programs = [await command_line.start(*words) for words in (("ps",), ("gc",), ("logs", "a", "b", "c"))]
    for program in programs:
        out, err = await asyncio.wait_for(program.communicate(), 60)
        assert (program.returncode, out) == (2, b"")
        (sentence,) = err.decode().splitlines()
        assert "database cannot be read" in sentence
        assert "--kubeconfig" in sentence
