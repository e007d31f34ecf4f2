"""The sidecar's manifest, and its script run for real by the shells that images have."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kpo_async.pod.xcom_sidecar import (
    CONTAINER,
    HEADER_ROOM,
    IMAGE,
    MESSAGE_LIMIT,
    MOUNT_PATH,
    XComTransport,
    attach,
    native_script,
)

SHELLS = [
    pytest.param(
        command, id=" ".join(command), marks=pytest.mark.skipif(not shutil.which(command[0]), reason="not installed")
    )
    for command in (["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"])
]
ROOM = MESSAGE_LIMIT - HEADER_ROOM


@dataclass
class HandedOver:
    message: bytes
    log: bytes
    exit_code: int


def hand_over(shell: list[str], directory: Path, content: bytes | None, *, early: bool = False) -> HandedOver:
    """The sidecar's message and log after SIGTERM, which comes while it waits, or `early`, after its first command."""
    file, message = directory / "return.json", directory / "termination-log"
    if content is not None:
        file.write_bytes(content)
    message.touch()
    script = native_script(containers=2, file=str(file), message=str(message))
    # The shell prints a line once its trap is set: a signal before that would kill it.
    if early:
        script = script.replace("\n", "\necho ready >&2; sleep 0.2\n", 1)
    else:
        script = script.replace("while :", "echo ready >&2\nwhile :")
    process = subprocess.Popen([*shell, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    log, errors = process.communicate(timeout=30)
    assert errors == b""
    return HandedOver(message.read_bytes(), log, process.returncode)


def header(kind: str, content: bytes) -> bytes:
    return f"kpo-async/1 {kind} {len(content)} {hashlib.sha256(content).hexdigest()}\n".encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_a_result_is_handed_over_by_a_shell_that_gets_its_signal_while_it_starts(
    shell: list[str], tmp_path: Path
) -> None:
    handed_over = hand_over(shell, tmp_path, b"42", early=True)
    assert (handed_over.message.startswith(b"kpo-async/1 text 2 "), handed_over.exit_code) == (True, 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, b"kpo-async/1 absent\n", id="no file"),
        pytest.param(b"", b"kpo-async/1 empty\n", id="empty file"),
    ],
)
def test_an_absent_or_empty_result_is_one_header_line(
    shell: list[str], tmp_path: Path, content: bytes | None, message: bytes
) -> None:
    assert hand_over(shell, tmp_path, content) == HandedOver(message, b"", 0)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"1", id="one byte"),
        pytest.param(b'{"a": 1}\n', id="with a line end"),
        pytest.param(b"\n\n", id="line ends only"),
        pytest.param(b"-n \\n %s $HOME `id`", id="what a shell might read something into"),
        pytest.param(b'"' + b"x" * (ROOM - 2) + b'"', id="as much as fits"),
    ],
)
def test_ascii_that_fits_is_in_the_message_as_it_is(shell: list[str], tmp_path: Path, content: bytes) -> None:
    handed_over = hand_over(shell, tmp_path, content)
    assert handed_over.message == header("text", content) + content
    assert len(handed_over.message) <= MESSAGE_LIMIT


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param('"gr\u00fc\u00dfe"'.encode(), id="UTF-8"),
        pytest.param(b"\xff\xfe\x00\x01", id="no text"),
        pytest.param(b"\0" * 2900, id="as much as fits"),
    ],
)
def test_other_bytes_that_fit_are_in_the_message_as_base64(shell: list[str], tmp_path: Path, content: bytes) -> None:
    handed_over = hand_over(shell, tmp_path, content)
    assert handed_over.message == header("base64", content) + base64.b64encode(content)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_result_that_does_not_fit_is_framed_in_the_log(shell: list[str], tmp_path: Path) -> None:
    content = b'"' + bytes(range(32, 127)) * 20_000 + b'"'
    handed_over = hand_over(shell, tmp_path, content)
    assert handed_over.message == header("log", content)
    begin, body, end, rest = handed_over.log.split(b"\n")
    assert begin + b"\n" == header("begin gzip", content)
    assert gzip.decompress(base64.b64decode(body)) == content
    assert (end, rest) == (b"kpo-async/1 end", b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_message_that_the_kubelet_may_cut_is_also_in_the_log(shell: list[str], tmp_path: Path) -> None:
    content = b"7" * 3000
    handed_over = hand_over(shell, tmp_path, content)
    assert handed_over.message == header("text", content) + content
    assert handed_over.log.startswith(header("begin gzip", content))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_directory_or_a_pipe_is_no_result(shell: list[str], tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "return.json")
    handed_over = hand_over(shell, tmp_path, None)
    assert (handed_over.message, handed_over.log) == (b"kpo-async/1 irregular\n", b"")


def test_an_unreadable_file_is_not_an_absent_one(tmp_path: Path) -> None:
    (tmp_path / "return.json").write_text("1")
    (tmp_path / "termination-log").touch()
    script = native_script(
        containers=2, file=str(tmp_path / "return.json"), message=str(tmp_path / "termination-log")
    ).replace("[ -r ", "false && [ -r ")  # root reads everything, so the test replaces the check
    script = script[: script.index("trap '{ kill")] + "hand_over"
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "termination-log").read_text() == "kpo-async/1 unreadable\n"


def pod(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "base", "image": "busybox"}], **spec}}


def test_the_native_sidecar_is_the_last_init_container_and_shares_a_volume_with_the_base_container() -> None:
    spec = attach(pod(initContainers=[{"name": "prepare"}]))["spec"]
    assert [c["name"] for c in spec["initContainers"]] == ["prepare", CONTAINER]
    sidecar = spec["initContainers"][-1]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["image"] == IMAGE
    assert sidecar["resources"] == {"requests": {"cpu": "1m", "memory": "10Mi"}}
    mount = {"name": "xcom", "mountPath": MOUNT_PATH}
    assert sidecar["volumeMounts"] == spec["containers"][0]["volumeMounts"] == [mount]
    assert spec["volumes"] == [{"name": "xcom", "emptyDir": {}}]


def test_attaching_does_not_change_the_given_manifest() -> None:
    manifest = pod()
    attach(manifest)
    assert manifest == pod()


def test_attaching_twice_mounts_the_volume_once() -> None:
    spec = attach(attach(pod()))["spec"]
    assert len(spec["volumes"]) == 1
    assert len(spec["containers"][0]["volumeMounts"]) == 1


def test_the_volume_is_the_first_mount_of_the_base_container_and_of_no_other() -> None:
    containers = [
        {"name": "companion", "image": "a"},
        {"name": "main", "image": "b", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
    ]
    spec = attach(pod(containers=containers), base="main")["spec"]
    assert "volumeMounts" not in spec["containers"][0]
    assert [m["name"] for m in spec["containers"][1]["volumeMounts"]] == ["xcom", "data"]


def test_the_classic_sidecar_is_an_ordinary_container() -> None:
    spec = attach(pod(), transport=XComTransport.EXEC)["spec"]
    assert [c["name"] for c in spec["containers"]] == ["base", CONTAINER]
    assert "initContainers" not in spec


def test_image_resources_and_security_context_can_be_replaced() -> None:
    resources, context = {"limits": {"cpu": "1"}}, {"runAsUser": 5}
    spec = attach(pod(), image="mirror/alpine", resources=resources, security_context=context)["spec"]
    sidecar = spec["initContainers"][0]
    assert (sidecar["image"], sidecar["resources"], sidecar["securityContext"]) == ("mirror/alpine", resources, context)


RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
}
SECCOMP = {"seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    ("pod_context", "base_context", "expected"),
    [
        pytest.param({}, {}, {"allowPrivilegeEscalation": False, **SECCOMP}, id="nothing given: reads any file"),
        pytest.param({"runAsNonRoot": True}, {}, {**RESTRICTED, **SECCOMP, "runAsUser": 65534}, id="user of the image"),
        pytest.param({"runAsNonRoot": True, "runAsUser": 7}, {}, {**RESTRICTED, **SECCOMP}, id="user of the pod"),
        pytest.param(
            {}, {"runAsNonRoot": True, "runAsUser": 8}, {**RESTRICTED, **SECCOMP, "runAsUser": 8}, id="user of base"
        ),
        pytest.param(
            {"runAsNonRoot": True, **SECCOMP}, {"runAsUser": 8}, {**RESTRICTED, "runAsUser": 8}, id="seccomp of the pod"
        ),
    ],
)
def test_the_sidecar_is_as_restricted_as_its_pod(
    pod_context: dict[str, object], base_context: dict[str, object], expected: dict[str, object]
) -> None:
    containers = [{"name": "base", "securityContext": base_context}]
    spec = attach(pod(containers=containers, securityContext=pod_context))["spec"]
    assert spec["initContainers"][0]["securityContext"] == expected


@pytest.mark.parametrize(("others", "limit"), [(0, 4096), (1, 4096), (2, 3072), (4, 2048)])
def test_the_scripts_limit_depends_on_the_number_of_containers(others: int, limit: int) -> None:
    containers = [{"name": "base"}, *({"name": f"c{n}"} for n in range(others))]
    script = attach(pod(containers=containers))["spec"]["initContainers"][0]["command"][-1]
    assert f'-le "{limit - HEADER_ROOM}"' in script
