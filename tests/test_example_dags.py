"""The example DAGs are what a dag-processor can load: no errors, no warnings, named as their files."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "example_dags"
PATHS = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in PATHS])
def test_an_example_is_a_dag_named_as_its_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    bag = DagBag(dag_folder=path)
    assert bag.import_errors == {}
    assert list(bag.dags) == [path.stem]
    assert not bag.captured_warnings
