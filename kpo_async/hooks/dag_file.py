"""Load a DAG file, and imagine a run of one of its tasks: its templates are rendered as in a real one, XComs apart."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

from kpo_async.exceptions import ConfigError

NO_ID = UUID(int=0)
"""The id of a task instance that is not in the database."""


def load_dags(path: Path) -> Mapping[str, Any]:
    """Return the DAGs of a file, by their ids. Raises `ConfigError` for a file that is none or cannot be imported."""
    if not path.is_file():
        raise ConfigError(f"{path} is not a file: name the Python file that defines the DAG")
    try:
        module = import_module("airflow.dag_processing.dagbag")
    except ModuleNotFoundError:  # Airflow 3.1
        module = import_module("airflow.models.dagbag")
    bag = module.DagBag(dag_folder=str(path), collect_dags=False, load_op_links=False)
    bag.process_file(str(path), only_if_updated=False, safe_mode=False)
    for error in bag.import_errors.values():
        raise ConfigError(f"{path} cannot be imported: {str(error).strip().splitlines()[-1]}")
    if not bag.dags:
        raise ConfigError(f"{path} defines no DAG")
    dags: Mapping[str, Any] = bag.dags
    return dags


def render(task: Any, *, run_id: str, logical_date: datetime, map_index: int = -1) -> tuple[Any, Any]:
    """Render the templates of a task, or of an instance of a mapped one. Return the operator and the context.

    An XCom is rendered as `<XCom KEY of TASK>`.
    """
    from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    class ImaginedTaskInstance(RuntimeTaskInstance):
        def xcom_pull(
            self, task_ids: Any = None, dag_id: Any = None, key: str = "return_value", *_: Any, **__: Any
        ) -> Any:
            if task_ids is None or isinstance(task_ids, str):
                return f"<XCom {key} of {task_ids or self.task_id}>"
            return [f"<XCom {key} of {task_id}>" for task_id in task_ids]

    dag_run = DagRun.model_construct(
        dag_id=task.dag_id,
        run_id=run_id,
        logical_date=logical_date,
        data_interval_start=logical_date,
        data_interval_end=logical_date,
        run_after=logical_date,
        start_date=logical_date,
        run_type="manual",
        state="running",
        conf={},
        consumed_asset_events=[],
        partition_key=None,
    )
    instance = ImaginedTaskInstance.model_construct(
        id=NO_ID,
        task_id=task.task_id,
        dag_id=task.dag_id,
        run_id=run_id,
        try_number=1,
        map_index=map_index,
        dag_version_id=NO_ID,
        hostname="",
        task=task,
        max_tries=task.retries or 0,
        start_date=logical_date,
        _ti_context_from_server=TIRunContext.model_construct(
            dag_run=dag_run, max_tries=task.retries or 0, variables=[], connections=[], xcom_keys_to_clear=[]
        ),
    )
    context = instance.get_template_context()
    task.render_template_fields(context)
    return context["task"], context
