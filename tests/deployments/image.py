"""Pack this virtual environment as an image for the cluster of ../shared/cluster, which has no docker and no registry:

    python -m tests.deployments.image ../shared/cluster/cluster docker.io/library/kpo-async-airflow:test

The image is Debian (that cluster's python:3.11-slim), this interpreter and its packages at their own paths, and a copy
of this package. For other clusters build deploy/Dockerfile.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("KPO_CLUSTER_CACHE", Path.home() / ".cache" / "kpo-cluster"))
CONTAINERD = ["ctr", "-a", "/run/kpo-containerd/containerd.sock", "-n", "k8s.io", "images", "import"]
UNUSED = (
    *("pip", "mypy", "mypyc", "ruff", "hypothesis", "material", "playwright"),
    *("matplotlib", "numpy", "numpy.libs", "fontTools", "PIL", "pillow.libs"),
)
"""Large packages that only linters, tests, the site and the demo's picture need."""
WRAPPER = '#!/bin/sh\nexec {python} {module}"$@"\n'


def main() -> None:
    """Build the image and import it into the cluster's containerd."""
    cluster, tag = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="kpo-async-image-") as folder:
        root, archive = Path(folder) / "root", Path(folder) / "image.tar"
        _unpack_debian(root)
        _copy_python(root)
        subprocess.run([sys.executable, Path(cluster).with_name("image.py"), root, archive, "python", tag], check=True)
        shutil.rmtree(root)
        subprocess.run([*CONTAINERD, archive], check=True, stdout=subprocess.DEVNULL)


def _unpack_debian(root: Path) -> None:
    """Unpack the only layer of the image that has Debian and Python."""
    with tarfile.open(CACHE / "images" / "python.tar") as image:
        layer = next(member for member in image.getmembers() if member.name.endswith("/layer.tar"))
        with tarfile.open(fileobj=image.extractfile(layer)) as content:
            content.extractall(root, filter="fully_trusted")


def _copy_python(root: Path) -> None:
    """Copy the interpreter and the environment to their own paths, and let `python` and `airflow` run them."""
    if sys.base_prefix != "/usr":  # else it is Debian's
        _copy(Path(sys.base_prefix), root, "test", "idlelib", "tkinter", "*.a")
    environment = Path(sys.prefix).resolve()
    _copy(environment, root, "_editable_impl_*", ".postgres-*", *UNUSED)
    packages = Path(next(path for path in sys.path if path.endswith("site-packages")))
    _copy(ROOT / "kpo_async", root, to=packages / "kpo_async")
    for name, module in {"python": "", "airflow": "-m airflow "}.items():
        program = root / "usr/local/bin" / name
        program.write_text(WRAPPER.format(python=environment / "bin" / "python", module=module))
        program.chmod(0o755)


def _copy(source: Path, root: Path, *without: str, to: Path | None = None) -> None:
    """Copy a folder to its own path, or the path `to`, below `root`."""
    target = root / (to or source).resolve().relative_to("/")
    shutil.copytree(
        source.resolve(), target, symlinks=True, ignore=shutil.ignore_patterns(*without), dirs_exist_ok=True
    )


if __name__ == "__main__":
    main()
