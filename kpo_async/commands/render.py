"""`kpo-async render`: the manifest of a task's pod as it would be created. Asks no cluster.

Literal values of environment variables are hidden unless they are asked for, because templates may read secrets.
"""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from kpo_async.commands.command import Exit, UnableError, complain, run_command
from kpo_async.commands.table import print_json, results
from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.json_types import Json
from kpo_async.pod.redact import redact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    parser.add_argument("dag_file", type=Path, metavar="DAG_FILE", help="the Python file that defines the DAG")
    parser.add_argument("task", metavar="TASK", help="the task's id, or DAG.TASK where the file has several DAGs")
    parser.add_argument("--run-id", help="of the imagined run (default: a manual one, now)")
    parser.add_argument("--logical-date", type=datetime.fromisoformat, help="of the imagined run (default: now)")
    parser.add_argument("--map-index", type=int, default=-1, help="which instance of a mapped task")
    parser.add_argument("--show-env", action="store_true", help="show the values of environment variables")
    parser.add_argument("-o", "--output", choices=("yaml", "json"), default="yaml", help="how to print it")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifest and return the exit code."""
    return run_command("render", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    manifest = await asyncio.to_thread(_manifest, arguments)
    shown = manifest if arguments.show_env else redact(manifest)
    if arguments.output == "json":
        print_json(shown)
    else:
        yaml.safe_dump(shown, results(), sort_keys=False, allow_unicode=True)
    return Exit.DONE


def _manifest(arguments: argparse.Namespace) -> Json:
    from kpo_async.hooks.dag_file import load_dags, render
    from kpo_async.models import to_dict
    from kpo_async.operators.base import PodOperatorBase

    task = _task(load_dags(arguments.dag_file), arguments)
    date = arguments.logical_date or datetime.now(timezone.utc)
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    run_id = arguments.run_id or f"manual__{date.isoformat()}"
    if task.is_mapped and arguments.map_index < 0:
        raise UnableError(f"task {task.task_id!r} is mapped: say which of its instances with --map-index")
    try:
        operator, context = render(task, run_id=run_id, logical_date=date, map_index=arguments.map_index)
    except KpoError:
        raise
    except Exception as error:  # of a template, a macro, a connection or Airflow
        raise UnableError(f"the templates of {task.task_id!r} cannot be rendered: {error!r}") from error
    if not isinstance(operator, PodOperatorBase):
        raise UnableError(f"task {task.task_id!r} is a {type(operator).__name__}, which creates no pod of this package")
    try:
        return dict(to_dict(operator.build_pod_request_obj(context)))
    except ConfigError as error:
        complain("render", f"without the connection's namespace and defaults: {error}")
        return dict(to_dict(operator.build_pod_request_obj(context, dry_run=True)))


def _task(dags: Any, arguments: argparse.Namespace) -> Any:
    """Return the task that the words name. Raises `UnableError`."""
    word = arguments.task
    found = [
        task for dag in dags.values() for task in dag.tasks if word in (task.task_id, f"{dag.dag_id}.{task.task_id}")
    ]
    if len(found) == 1:
        return found[0]
    names = sorted(f"{dag.dag_id}.{task.task_id}" for dag in dags.values() for task in dag.tasks)
    problem = f"{arguments.dag_file} has {len(found) or 'no'} task{'s' if found else ''} {word!r}"
    raise UnableError(f"{problem}: it has {', '.join(names)}")
