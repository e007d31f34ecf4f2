"""Who shows a pod's log, by what a host sees of the files of a try."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.log_files import warning_without_worker, worker_ends_task, worker_shows_log
from tests.factories import identity
from tests.triggers.triggerer import task_instance

TI = task_instance(identity())


class TriggerCommsDecoder:
    """The channel that Airflow gives to a triggerer's process, by the name of its module."""

    __module__ = "airflow.jobs.triggerer_job_runner"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def in_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", TriggerCommsDecoder(), raising=False)


def write(folder: Path, suffix: str = "") -> None:
    path = folder / f"dag_id={TI.dag_id}" / f"run_id={TI.run_id}" / f"task_id={TI.task_id}"
    path.mkdir(parents=True, exist_ok=True)
    (path / f"attempt={TI.try_number}.log{suffix}").touch()


def test_a_worker_shows_the_log_where_it_does_not_see_the_triggerers_file(folder: Path) -> None:
    assert not worker_shows_log(TI)  # logs are not in files at all
    write(folder)
    assert worker_shows_log(TI)
    write(folder, ".trigger.7.log")
    assert not worker_shows_log(TI)


@pytest.mark.usefixtures("in_triggerer")
def test_a_worker_ends_a_task_where_the_triggerer_does_not_see_the_workers_file(folder: Path) -> None:
    assert str(folder) in (worker_ends_task(TI, starts_on_worker=True) or "")
    assert worker_ends_task(TI, starts_on_worker=False) is None
    assert str(folder) in (warning_without_worker() or "")
    write(folder)
    assert worker_ends_task(TI, starts_on_worker=True) is None


@pytest.mark.usefixtures("in_triggerer")
def test_a_folder_that_the_dag_processor_writes_to_is_shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY", str(folder / "dag_processor"))
    assert warning_without_worker() is not None
    (folder / "dag_processor").mkdir()
    assert warning_without_worker() is None


def test_outside_of_a_triggerer_nothing_is_known(folder: Path) -> None:
    assert worker_ends_task(TI, starts_on_worker=True) is None
    assert warning_without_worker() is None


@pytest.mark.usefixtures("in_triggerer")
def test_remote_logging_shows_all_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__LOGGING__REMOTE_LOGGING", "True")
    write(folder)
    assert not worker_shows_log(TI)
    assert worker_ends_task(TI, starts_on_worker=True) is None
    assert warning_without_worker() is None


@pytest.mark.usefixtures("in_triggerer")
@pytest.mark.parametrize(("logs", "shows", "ends"), [("trigger", False, None), ("worker", True, "logs is worker")])
def test_the_option_decides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, logs: str, shows: bool, ends: str | None
) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__LOGS", logs)
    write(folder)
    assert worker_shows_log(TI) is shows
    for starts_on_worker in (True, False):
        reason = worker_ends_task(TI, starts_on_worker)
        assert reason is None if ends is None else ends in str(reason)
    assert warning_without_worker() is None


def test_another_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__LOGS", "both")
    with pytest.raises(ConfigError, match="logs is 'both': write auto or trigger or worker"):
        worker_shows_log(TI)
