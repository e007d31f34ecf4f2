"""The paths of plain containers, and image names."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpo_async.localcluster.kubelet import images
from kpo_async.localcluster.runtime.runtime import Mount, ProcessSpec, rewrite

MOUNTS = (Mount("/state/data", "/data"), Mount("/state/inner", "/data/inner"), Mount("/state/tmp", "/tmp"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("cat /data", "cat /state/data", id="the mount point"),
        pytest.param("cat /data/x.json", "cat /state/data/x.json", id="below it"),
        pytest.param("cat /data/inner/x", "cat /state/inner/x", id="the inner mount"),
        pytest.param("x=/data;y='/data/z'", "x=/state/data;y='/state/data/z'", id="between other characters"),
        pytest.param(
            "/database /my/data ./data /data.bak /data-2", "/database /my/data ./data /data.bak /data-2", id="others"
        ),
        pytest.param("open('/tmp/f')", "open('/state/tmp/f')", id="tmp"),
    ],
)
def test_paths_below_mount_points_are_replaced(text: str, expected: str) -> None:
    spec = rewrite(ProcessSpec(["sh", "-c", text], {"A": text}, "/data", mounts=MOUNTS), Path("/state/bin"))
    assert spec.argv == ["sh", "-c", expected]
    assert spec.env["A"] == expected
    assert spec.cwd == "/state/data"
    assert spec.env["PATH"].startswith("/state/bin:")


def test_without_mounts_only_the_path_changes() -> None:
    assert rewrite(ProcessSpec(["ls", "/"], {"PATH": "/bin"}, "/"), Path("/b")).argv == ["ls", "/"]


@pytest.mark.parametrize(
    "name",
    [
        "busybox",
        "busybox:1.36",
        "a/b/c:tag",
        "localhost/x",
        "host.example:5000/a/b:v1.2-3",
        "a@sha256:" + "0" * 64,
        "a__b",
    ],
)
def test_valid_names_are_images(name: str) -> None:
    assert images.find(name).name == name


@pytest.mark.parametrize("name", ["", "A", "Team/app", "a b", "a:", "-a", "a//b", "a:b:c", "a@sha256:12"])
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(images.ImageError, match="couldn't parse image name"):
        images.find(name)
