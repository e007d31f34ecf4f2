"""Workers and triggerers are upgraded in any order: each version reads what the other one stores.

The older version is the package of an earlier commit, which runs in a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kpo_async.pod_task import MINOR, VERSION, Outcome, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
from kpo_async.workerless.arguments import read
from kpo_async.workerless.context import NeedsWorkerError

ROOT = Path(__file__).parents[1]
OLDER = "695fa9f57"
"""The commit before 1.0.0 was prepared: version 1.5 of the format."""

PROGRAM = """
import json, sys
import kpo_async
from kpo_async.pod_task import Outcome, PodTask
from kpo_async.triggers.pod import KubernetesPodTrigger
stored = json.load(sys.stdin)
trigger = KubernetesPodTrigger(stored["PodTask"])
outcome = Outcome.from_dict(stored["Outcome"])
print(json.dumps({"trigger": trigger.serialize(), "PodTask": trigger.pod_task.to_dict(), "Outcome": outcome.to_dict()}))
print(kpo_async.__file__)
"""
"""Reads a row and an event, and writes them again."""
START_PROGRAM = """
import asyncio, json, sys
import kpo_async
from airflow.sdk import DAG
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.workerless.arguments import read

class Instance:
    task_id = "task"
    class task:
        is_mapped = False
        execution_timeout = None
        trigger_rule = "all_success"
        class dag:
            render_template_as_native_obj = False

given = json.load(sys.stdin)
with DAG("dag"):
    own = KubernetesPodOperator(task_id="task", **given["parameters"]).start_trigger_args.trigger_kwargs["start"]
start = asyncio.run(read(given["start"] or own, Instance))
read_back = {name: getattr(start.operator, name) for name in given["parameters"] if name not in given["flags"]}
print(json.dumps({"start": own, "operator": read_back, "may_end": start.may_end}))
print(kpo_async.__file__)
"""
"""Writes the row of a task that starts in the triggerer, and reads one."""
STARTED = {
    "image": "busybox:1.36",
    "cmds": ["sh", "-c"],
    "arguments": ["echo {{ ds }}"],
    "env_vars": {"A": "{{ params.a }}"},
    "labels": {"team": "data"},
    "do_xcom_push": True,
    "on_finish_action": "keep_pod",
    "skip_on_exit_code": [9],
    "deferrable": True,
    "start_from_trigger": True,
    "end_from_trigger": True,
}

FULL: dict[str, dict[str, Any]] = {
    "PodTask": {
        "name": "train-x2k4",
        "namespace": "jobs",
        "uid": "0b6e1a52-6d0c-4a7e-9d4e-6a3f1d2b7c55",
        "owner": "5a/2",
        "cluster": {"conn_id": "blue", "in_cluster": False, "config_file": "/kube/config", "context": "prod"},
        "base_container": "main",
        "logs": {"containers": True, "init_containers": ["init"], "prefix": False, "formatter": "team.logs:shout"},
        "xcom": "sidecar",
        "schedule_timeout": 1.0,
        "startup_timeout": 2.0,
        "deadline": 1760003600.25,
        "deferred_at": 1760000000.25,
        "poll_interval": 3.0,
        "on_finish_action": "keep_pod",
        "on_kill_action": "keep_pod",
        "grace_period": 7,
        "skip_on_exit_code": [99],
        "companions": ["uploader"],
        "companion_grace": None,
        "ignore_companions": ["proxy"],
        "callbacks": ["team.callbacks:Announce"],
        "mapped_over": True,
        "multiple_outputs": True,
        "end_here": True,
        "worker_ends_failure": True,
        "spec_on_failure": False,
        "events_on_failure": True,
        "events_on_startup": False,
        "cluster_hook": "kpo_async.hooks.clouds:EksCluster",
        "cluster_hook_kwargs": {"name": "prod"},
        "masked_connections": ["db"],
        "masked_variables": ["token"],
        "identity": {"id": "5a", "dag_id": "d", "task_id": "t", "run_id": "r", "try_number": 2, "map_index": 3},
        "attempt": 2,
        "disruptions": 1,
        "retry_on_disruption": 3,
        "on_oom": {"memory": 2.0, "max": "1Gi"},
        "worker_shows_log": True,
        "user_event": {"extra": [1, None]},
    },
    "Outcome": {
        "ending": "failed",
        "exit_code": 137,
        "category": "OOMKilled",
        "message": "it ran out of memory",
        "result": "42",
        "result_known": True,
        "cursors": {"main": ["2026-01-01T00:00:00Z", 3, "2026-01-01T00:00:01.5Z", 4]},
        "logs_complete": False,
        "diagnosis": {
            "category": "OOMKilled",
            "message": "it ran out of memory",
            "pod": "jobs/train-x2k4",
            "node": "n1",
            "container": "main",
            "exit_code": 137,
            "signal": "SIGKILL",
            "reason": "OOMKilled",
            "hints": ["raise the limit"],
        },
        "disrupted": True,
        "node": "n1",
    },
}
"""Each field with another value than its default. A new field belongs here too."""
KINDS: dict[str, type[PodTask | Outcome]] = {"PodTask": PodTask, "Outcome": Outcome}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package of the older commit."""
    archive = subprocess.run(["git", "archive", OLDER, "kpo_async"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {OLDER} is not in this checkout: {archive.stderr.decode().strip()}")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder


def rewritten(package: Path, stored: dict[str, Any], program: str = PROGRAM) -> dict[str, Any]:
    """Return what the version in the folder `package` writes after it has read this."""
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=json.dumps(stored),
        env={**os.environ, "PYTHONPATH": str(package)},
        cwd=package,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    *_, values, imported = answer.stdout.splitlines()
    assert Path(imported).is_relative_to(package)
    found: dict[str, Any] = json.loads(values)
    return found


def written() -> dict[str, Any]:
    """Return the full row and event as this version writes them."""
    return {name: json.loads(json.dumps(kind.from_dict(full(name)).to_dict())) for name, kind in KINDS.items()}


def full(name: str) -> dict[str, Any]:
    return {"version": VERSION, "minor": MINOR, **FULL[name]}


@pytest.mark.parametrize("name", KINDS)
def test_the_full_value_has_every_field_and_no_default(name: str) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(KINDS[name])}
    assert FULL[name].keys() == fields.keys()
    value = KINDS[name].from_dict(full(name))
    assert [n for n, field in fields.items() if getattr(value, field.name) == field.default] == []


@pytest.mark.slow
def test_the_older_version_reads_what_this_one_writes(older: Path) -> None:
    mine = written()
    theirs = rewritten(older, mine)
    for name in KINDS:
        known = theirs[name].keys() - {"minor"}
        assert {field: theirs[name][field] for field in known} == {field: mine[name][field] for field in known}


@pytest.mark.slow
def test_this_version_reads_what_the_older_one_writes(older: Path) -> None:
    theirs = rewritten(older, written())
    for name, kind in KINDS.items():
        again = json.loads(json.dumps(kind.from_dict(theirs[name]).to_dict()))
        known = theirs[name].keys() - {"minor"}
        assert {field: again[field] for field in known} == {field: theirs[name][field] for field in known}
    classpath, arguments = theirs["trigger"]
    assert classpath == f"{KubernetesPodTrigger.__module__}.{KubernetesPodTrigger.__qualname__}"
    assert KubernetesPodTrigger(**arguments).pod_task.uid == FULL["PodTask"]["uid"]


@pytest.mark.slow
@pytest.mark.parametrize("writer", ["this version", "the older version"])
def test_a_task_that_starts_in_the_triggerer_is_read_by_both(older: Path, writer: str) -> None:
    given = {"parameters": STARTED, "start": None, "flags": ["deferrable", "start_from_trigger"]}
    writes, reads = (ROOT, older) if writer == "this version" else (older, ROOT)
    row = rewritten(writes, given, START_PROGRAM)["start"]
    found = rewritten(reads, {**given, "start": row}, START_PROGRAM)
    assert found["may_end"] is True
    assert found["operator"] == {name: value for name, value in STARTED.items() if name not in given["flags"]}


class Task:
    """What `read` asks of a task."""

    is_mapped = False


class Instance:
    """What `read` asks of a task instance."""

    task_id = "task"
    task = Task


async def test_a_task_with_a_parameter_of_a_newer_version_is_left_to_a_worker() -> None:
    start = {"parameters": {"image": "busybox", "invented_later": 1}, "multiple_outputs": False, "may_end": True}
    with pytest.raises(NeedsWorkerError, match="too old for invented_later"):
        await read(json.dumps(start), Instance)
