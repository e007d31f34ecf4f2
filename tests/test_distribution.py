"""The wheel and the sdist: what is in them, and that they work where nothing else of this folder is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from kpo_async._version import __version__

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
KIB = 1024
WHEEL_LIMIT = 1024 * KIB

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not UV.exists(), reason="uv is not installed in this environment")]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both, as `make dist` does, but without a network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [UV, "build", "--quiet", "--no-build-isolation", "--offline", "--out-dir", folder, ROOT]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment with the wheel. Its dependencies are those of this environment."""
    environment = tmp_path_factory.mktemp("venv")
    venv.create(environment, with_pip=False)
    interpreter = environment / "bin" / "python"
    (wheel,) = dist.glob("*.whl")
    install = [UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", interpreter, wheel]
    subprocess.run(install, check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"])
    return interpreter


def run(python: Path, *arguments: str, cwd: Path) -> str:
    """Run the new environment's Python outside of this folder, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_the_changelog_begins_with_this_version() -> None:
    first = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert first.startswith(f"## [{__version__}] - ")


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel.name == f"kpo_async-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {name.split("/")[0] for name in names}
    assert folders == {"kpo_async", f"kpo_async-{__version__}.dist-info"}
    assert [name for name in names if "__pycache__" in name or "/tests/" in name or "benchmark" in name] == []
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "kpo_async").rglob("*") if path.is_file()}
    examples = {f"kpo_async/example_dags/{path.name}" for path in (ROOT / "example_dags").glob("*.py")}
    source = {name for name in source if "__pycache__" not in name}
    assert {name for name in names if ".dist-info/" not in name} == source | examples
    size = wheel.stat().st_size
    with capsys.disabled():
        print(f"\n{wheel.name}: {size / KIB:.0f} KiB")
    assert size < WHEEL_LIMIT


def test_the_sdist_holds_what_the_tests_and_the_documentation_need(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "mkdocs.yml", "docs/index.md", "tests/conftest.py"} <= names
    assert [name for name in names if "__pycache__" in name or name.startswith(("build", ".venv", ".hyp"))] == []


def test_the_installed_package_works(python: Path, tmp_path: Path) -> None:
    said = run(python, "-c", "import kpo_async; print(kpo_async.__version__, kpo_async.__file__)", cwd=tmp_path)
    version, path = said.split()
    assert version == __version__
    assert Path(path).is_relative_to(python.parents[1])
    assert "cluster" in run(python, "-m", "kpo_async.cli", "--help", cwd=tmp_path)
    assert "--port" in run(python, "-m", "kpo_async.cli", "cluster", "--help", cwd=tmp_path)


def test_the_entry_points_lead_to_the_installed_package(python: Path, tmp_path: Path) -> None:
    program = """
from importlib.metadata import entry_points
groups = ("airflow.plugins", "apache_airflow_provider", "console_scripts", "pytest11")
for group in groups:
    for point in entry_points(group=group):
        if point.value.startswith("kpo_async"):
            point.load()
            print(group)
"""
    assert run(python, "-c", program, cwd=tmp_path).split() == [
        "airflow.plugins",
        "apache_airflow_provider",
        "console_scripts",
        "pytest11",
    ]
    assert "--kpo-kubeconfig" in run(python, "-m", "pytest", "--help", cwd=tmp_path)
