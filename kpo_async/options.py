"""The options of the section `[kpo_async]` of Airflow's configuration: the one place that declares them.

`hooks.settings` reads them with their types and defaults. The provider's metadata shows them to Airflow: try `airflow
config list --section kpo_async`. The reference is generated from them. To add an option, add it to `OPTIONS` and read
it through `hooks.settings`; a test holds both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

SECTION = "kpo_async"


@dataclass(frozen=True)
class Option:
    """One option; the fields are those of Airflow's `provider_info.schema.json`."""

    type: Literal["boolean", "integer", "float", "string"]
    default: str
    """As it is written in a configuration file; empty: none."""
    description: str
    example: str | None = None
    version_added: str = "1.0.0"


OPTIONS: Mapping[str, Option] = {
    "active_deadline": Option(
        "boolean",
        "True",
        "Whether an `execution_timeout` gives its pod an `activeDeadlineSeconds` two minutes longer.",
    ),
    "companion_grace_seconds": Option(
        "float", "60", "Default of the parameter `companion_grace_seconds`; `none`: no limit.", example="600"
    ),
    "end_from_trigger": Option("boolean", "False", "Default of the parameter `end_from_trigger`."),
    "ignore_companions": Option(
        "string",
        "",
        "Default of the parameter `ignore_companions`: names with commas between, or `true` for all.",
        example="proxy, metrics",
    ),
    "installation": Option(
        "string",
        "",
        "Id of this Airflow in its pods' labels. Empty: the Variable `kpo_async_installation`, which the first task "
        "creates.",
        example="team-a",
    ),
    "logs": Option(
        "string",
        "auto",
        "Who shows a pod's log on the page of a finished task. `trigger`: the triggerer. `worker`: a worker, too, "
        "which therefore ends every task. `auto`: a worker, too, where the triggerer's lines cannot be seen.",
        example="worker",
    ),
    "max_pods": Option(
        "integer",
        "0",
        "Pods that one triggerer starts and follows at once for tasks without a worker. 0: no limit.",
        example="500",
    ),
    "max_pods_per_dag": Option("integer", "0", "The same of each DAG. 0: no limit.", example="50"),
    "max_pods_per_namespace": Option("integer", "0", "The same in each namespace. 0: no limit.", example="100"),
    "pod_link": Option(
        "string",
        "",
        "URL of a pod in a dashboard, a link on the pages of tasks; `{namespace}` and `{name}` are replaced.",
        example="https://headlamp.example.com/c/main/pods/{namespace}/{name}",
    ),
    "preload": Option(
        "boolean",
        "True",
        "Whether schedulers with the LocalExecutor, Celery workers and triggerers import what tasks and triggers need "
        "before they fork, and keep it from the garbage collector.",
    ),
    "push_diagnosis": Option("boolean", "True", "Whether a task whose pod failed gets the XCom `pod_diagnosis`."),
    "reconcile": Option("boolean", "True", "Whether triggerers delete pods whose try is over."),
    "retry_on_disruption": Option("integer", "0", "Default of the parameter `retry_on_disruption`.", example="3"),
    "serve_in_batches": Option(
        "boolean",
        "True",
        "Whether a triggerer answers all requests of its triggers that have arrived, not one each time that it looks "
        "at the database.",
    ),
    "share_dags": Option(
        "boolean",
        "True",
        "Whether a triggerer reads, sends and deserializes each DAG once, not once for every trigger.",
    ),
    "start_from_trigger": Option("boolean", "False", "Default of the parameter `start_from_trigger`."),
    "start_from_trigger_dag_size": Option(
        "integer",
        "300",
        "Tasks of a DAG above which workers start its tasks, because Airflow sends the DAG with each trigger.",
    ),
    "start_from_trigger_pools": Option(
        "string",
        "default_pool",
        "Names of the pools whose tasks triggerers start, without Airflow's limit, or with a limit of pods in each "
        "triggerer, which counts `pool_slots`. `*`: all pools.",
        example="default_pool, narrow:16",
    ),
    "ui": Option("boolean", "True", "Whether Airflow's web interface has the page `Pods`, and tasks a link to it."),
    "wait_for_quota": Option(
        "float", "0", "Seconds for which a worker repeats a create that a namespace's quota refuses.", example="600"
    ),
}


def configuration() -> dict[str, Any]:
    """Return the section as the entry `config` of the provider's metadata."""
    options = {name: asdict(option) for name, option in OPTIONS.items()}
    return {SECTION: {"description": "The deferrable KubernetesPodOperator of kpo-async.", "options": options}}
