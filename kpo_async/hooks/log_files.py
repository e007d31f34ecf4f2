"""Whether a task's page shows what a triggerer wrote.

Worker and triggerer write one file each for a try, in the log folder of their machine:

    dag_id=d/run_id=r/task_id=t/attempt=1.log                    the worker's
    dag_id=d/run_id=r/task_id=t/attempt=1.log.trigger.7.log      the triggerer's, with its job's id

The page of a finished task shows remote logs, or both files from a folder that all components share. Otherwise it asks
the worker for its file, and nothing asks for the triggerer's (apache/airflow#70317). So each side looks for the other
side's file beside its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.configuration import conf

from kpo_async.hooks.airflow import in_triggerer, log_path, remote_logging
from kpo_async.hooks.settings import LogSource, log_source


def worker_shows_log(task_instance: Any) -> bool:
    """Whether a worker that ends the try is to show the whole log again. Raises `ConfigError`."""
    source = log_source()
    if source is not LogSource.AUTO or remote_logging():
        return source is LogSource.WORKER
    workers_file = _workers_file(task_instance)
    # Without a file of its own, as in `dag.test()`, logs do not go to files.
    return workers_file.exists() and not any(workers_file.parent.glob(f"{workers_file.name}.trigger.*"))


def worker_ends_task(task_instance: Any, starts_on_worker: bool) -> str | None:
    """Return why a worker has to end a try, for its log to be seen; None if none has to.

    For triggers. Of a try that does not start on a worker, nothing shows who shares the folder. Raises `ConfigError`.
    """
    source = log_source()
    if source is LogSource.WORKER:
        return "[kpo_async] logs is worker"
    if source is LogSource.TRIGGER or remote_logging() or not in_triggerer():
        return None
    if not starts_on_worker or _workers_file(task_instance).exists():
        return None
    return (
        f"this triggerer's log folder {_folder()} is not the worker's and there is no remote logging, so the task's "
        "page would not show this log ([kpo_async] logs = trigger ends the task in the triggerer all the same)"
    )


def warning_without_worker() -> str | None:
    """Return what to say first in the log of a try that no worker begins or ends, None if nothing is to be said.

    A folder in which the dag-processor writes, too, is taken for one that all components share. Raises `ConfigError`.
    """
    if log_source() is not LogSource.AUTO or remote_logging() or not in_triggerer():
        return None
    of_dag_processor = conf.get("logging", "dag_processor_child_process_log_directory", fallback="")
    if of_dag_processor and Path(_folder()) in Path(of_dag_processor).parents and Path(of_dag_processor).is_dir():
        return None
    return (
        f"When the task has ended, its page shows this log only if the API server has the triggerer's log folder "
        f"{_folder()}: no worker keeps a copy. Share the folder or configure remote logging; [kpo_async] logs = worker "
        "has a worker end the task, and logs = trigger leaves out this line"
    )


def _folder() -> str:
    return str(conf.get("logging", "base_log_folder"))


def _workers_file(task_instance: Any) -> Path:
    return Path(_folder(), log_path(task_instance))
