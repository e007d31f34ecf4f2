"""The fixtures for users' tests, used as users do: by a pytest of its own, with the documentation's example."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client
from kpo_async.localcluster.process import LocalClusterProcess

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "code" / "test_first_pod.py"
DAG = ROOT / "example_dags" / "first_pod.py"
COVERAGE = []
if os.environ.get("COVERAGE_RUN"):  # `coverage run` sets it
    COVERAGE = ["-m", "coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / '.coverage'}"]
MODES = Path(__file__).with_name("modes.py")
CACHE = f"cache_dir={ROOT / '.pytest_cache' / 'users'}"
"""The option of a user's pytest that keeps Airflow's empty database for the next run, as a user's folder would."""


def run_pytest(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run pytest in this folder, as a user does whose DAGs are there. Return its output; `check` that it passed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "AIRFLOW_HOME": str(folder / "airflow"),
    }
    options = ["-p", "kpo_async.testing.plugin", "-o", "asyncio_mode=auto", "-o", CACHE]
    command = [sys.executable, *COVERAGE, "-m", "pytest", *options, *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert not check or ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    return ran.stdout


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_documented_example_and_every_mode_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for file in (EXAMPLE, DAG):
        shutil.copy(file, tmp_path)
    shutil.copy(MODES, tmp_path / "test_modes.py")
    assert "8 passed" in run_pytest(tmp_path, "-q")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_another_cluster_is_chosen_by_its_kubeconfig(tmp_path: Path) -> None:
    for file in (EXAMPLE, DAG):
        shutil.copy(file, tmp_path)
    with LocalClusterProcess() as cluster:
        said = run_pytest(tmp_path, f"--kpo-kubeconfig={cluster.kubeconfig}", "-k", "answer or watch", check=False)
        listed = asyncio.run(namespaces(cluster.kubeconfig))
    assert "a real cluster has no faults" in said
    assert "1 passed, 1 deselected" in said
    assert "1 error in" in said
    assert [name for name in listed if name.startswith("kpo-async-test")] == []


async def namespaces(kubeconfig: Path) -> list[str]:
    async with Client(await load(ClusterSource(config_file=str(kubeconfig)))) as client:
        return [namespace["metadata"]["name"] for namespace in (await client.list("namespaces"))["items"]]


def test_the_plugin_imports_nothing_that_a_test_does_not_use() -> None:
    program = "import sys, kpo_async.testing.plugin as plugin; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = {
        name for name in ran.stdout.split() if name.split(".")[0] in ("airflow", "aiohttp", "kpo_async", "msgspec")
    }
    assert loaded == {"kpo_async", "kpo_async._version", "kpo_async.testing", "kpo_async.testing.plugin"}
