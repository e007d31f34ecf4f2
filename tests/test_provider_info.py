"""What Airflow's providers manager finds in this package, with and without the incumbent beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import airflow
import pytest
from packaging.version import Version

from kpo_async.get_provider_info import INCUMBENT, get_provider_info, provider_info
from kpo_async.options import OPTIONS

ASK = """
import importlib.metadata, json, logging, sys, warnings
warnings.simplefilter("ignore")
warnings.filterwarnings("error", message=".*kpo_async")
hidden = sys.argv[1:]

def hide(metadata):
    every, one = metadata.distributions, metadata.Distribution.from_name.__func__
    def from_name(cls, name):
        if name in hidden:
            raise importlib.metadata.PackageNotFoundError(name)
        return one(cls, name)
    metadata.distributions = lambda **kw: (d for d in every(**kw) if d.metadata["Name"] not in hidden)
    metadata.Distribution.from_name = classmethod(from_name)

hide(importlib.metadata)
try:
    import importlib_metadata  # what Airflow asks before Python 3.12
except ImportError:
    pass
else:
    hide(importlib_metadata)

class Complaints(logging.Handler):
    heard = []
    def emit(self, record):
        self.heard.append(record.getMessage())
handler = Complaints(logging.WARNING)

from airflow.providers_manager import ProvidersManager
for name in ("airflow.providers_manager", "airflow._shared.providers_discovery"):
    logging.getLogger(name).addHandler(handler)
manager = ProvidersManager()
hook = manager.hooks.get("kubernetes")  # Airflow 3.1 has none without flask_appbuilder
decorators = {name: manager.taskflow_decorators[name] for name in manager.taskflow_decorators if "kub" in name}
print(json.dumps({
    "decorators": {name: f"{task.__module__}.{task.__name__}" for name, task in decorators.items()},
    "hook": hook and hook.hook_class_name,
    "testable": hook and hook.connection_testable,
    "fields": [name for name in manager.connection_form_widgets if "__kubernetes__" in name],
    "hidden": manager.field_behaviours.get("kubernetes", {}).get("hidden_fields"),
    "secret": [n for n, w in manager.connection_form_widgets.items() if "__kubernetes__" in n and w.is_sensitive],
    "complaints": handler.heard,
    "options": dict(manager.provider_configs)["kpo-async"]["kpo_async"]["options"],
}))
"""

OURS = {
    "kubernetes_async": "kpo_async.decorators.kubernetes.kubernetes_task",
    "kubernetes_cmd_async": "kpo_async.decorators.kubernetes_cmd.kubernetes_cmd_task",
}


def ask_airflow(tmp_path: Path, *hidden: str) -> dict[str, object]:
    """Return what the providers manager of a new process finds, as if the packages in `hidden` were not installed."""
    try:
        distribution("kpo-async")
    except PackageNotFoundError:
        pytest.skip("kpo-async is not installed, only on the path")
    environment = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", ASK, *hidden], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    said: dict[str, object] = json.loads(answer.stdout.splitlines()[-1])
    return said


def test_beside_the_incumbent_only_other_names_are_registered(tmp_path: Path):
    pytest.importorskip("airflow.providers.cncf.kubernetes")
    said = ask_airflow(tmp_path)
    assert said["complaints"] == []
    assert OURS.items() <= said["decorators"].items()
    assert said["decorators"]["kubernetes"].startswith("airflow.providers.cncf")
    assert said["hook"].startswith("airflow.providers.cncf")


def test_without_the_incumbent_its_names_are_registered_too(tmp_path: Path):
    if Version(airflow.__version__) < Version("3.2"):
        pytest.importorskip("flask_appbuilder", reason="Airflow 3.1 makes no connection forms without it")
    said = ask_airflow(tmp_path, INCUMBENT)
    assert said["complaints"] == []
    assert said["decorators"] == {
        **OURS,
        "kubernetes": OURS["kubernetes_async"],
        "kubernetes_cmd": OURS["kubernetes_cmd_async"],
    }
    assert (said["hook"], said["testable"]) == ("kpo_async.hooks.kubernetes.KubernetesHook", True)
    assert set(said["hidden"]) == {"host", "schema", "login", "password", "port", "extra"}
    assert said["secret"] == ["extra__kubernetes__kube_config"]


def test_the_form_has_every_field_of_the_incumbent():
    theirs = pytest.importorskip("airflow.providers.cncf.kubernetes.get_provider_info").get_provider_info()
    (mine,) = provider_info(incumbent_installed=False)["connection-types"]
    (incumbents,) = (kind for kind in theirs["connection-types"] if kind["connection-type"] == "kubernetes")
    assert mine["hook-name"] == incumbents["hook-name"]
    assert incumbents["conn-fields"].items() <= mine["conn-fields"].items()


def test_airflow_lists_every_option_with_its_default(tmp_path: Path):
    options = ask_airflow(tmp_path)["options"]
    assert {name: option["default"] for name, option in options.items()} == {
        name: option.default for name, option in OPTIONS.items()
    }
    command = [sys.executable, "-m", "airflow", "config", "list", "--section", "kpo_async"]
    environment = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^(?:# )?(\w+) =", listed.partition("[kpo_async]")[2], re.MULTILINE) == list(OPTIONS)


@pytest.mark.parametrize("incumbent_installed", [True, False])
def test_the_metadata_is_valid_and_its_names_exist(incumbent_installed: bool):
    import airflow
    import jsonschema

    info = provider_info(incumbent_installed=incumbent_installed)
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)
    named = [d["class-name"] for d in info["task-decorators"]]
    named += [kind["hook-class-name"] for kind in info.get("connection-types", [])]
    for path in named:
        module, _, name = path.rpartition(".")
        assert callable(getattr(import_module(module), name))


def test_the_entry_point_describes_this_environment():
    assert get_provider_info() in (provider_info(incumbent_installed=True), provider_info(incumbent_installed=False))
