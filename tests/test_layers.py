"""The import contracts in pyproject.toml catch what they are there for: violations planted in a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, to plant violations in."""
    copy = tmp_path_factory.mktemp("planted")
    shutil.copy(ROOT / "pyproject.toml", copy)
    shutil.copytree(ROOT / "kpo_async", copy / "kpo_async", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def lint(copy: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo"]
    wide = {**os.environ, "COLUMNS": "1000"}  # otherwise the report breaks its lines
    return subprocess.run(command, cwd=copy, env=wide, capture_output=True, text=True, check=False)


def test_the_package_itself_keeps_the_contracts(copy: Path) -> None:
    linted = lint(copy)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("lifecycle/deadlines.py", "lifecycle.wait_result"),
        ("lifecycle/ownership.py", "lifecycle.task_log"),
        ("pod/status.py", "import_path"),
        ("pod_task.py", "import_path"),
        ("import_path.py", "lifecycle.ownership"),
        ("kube/retry.py", "kube.client"),
        ("lifecycle/wait.py", "kube.watch.informer"),
        ("hooks/sync_client.py", "kube.auth.kubeconfig"),
        ("hooks/kubernetes.py", "localcluster.cluster"),
        ("localcluster/store/times.py", "compat"),
        ("localcluster/kubelet/podworker.py", "localcluster.api.deletion"),
    ],
)
def test_an_import_against_the_layers_is_caught(copy: Path, importer: str, imported: str) -> None:
    file = copy / "kpo_async" / importer
    original = file.read_text(encoding="utf-8")
    file.write_text(f"{original}\nimport kpo_async.{imported}\n", encoding="utf-8")
    try:
        linted = lint(copy)
    finally:
        file.write_text(original, encoding="utf-8")
    assert linted.returncode == 1, linted.stdout
    module = importer.removesuffix(".py").replace("/", ".")
    assert f"kpo_async.{module} -> kpo_async.{imported} (" in linted.stdout


@pytest.mark.parametrize("module", ["utils", "kube/utils", "lifecycle/utils"])
def test_a_module_without_a_layer_is_caught(copy: Path, module: str) -> None:
    file = copy / "kpo_async" / f"{module}.py"
    file.touch()
    try:
        linted = lint(copy)
    finally:
        file.unlink()
    assert linted.returncode == 1, linted.stdout
    assert f"- kpo_async.{module.replace('/', '.')}\n" in linted.stdout
