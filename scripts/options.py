"""The options of the section `[kpo_async]` of Airflow's configuration: name -> default and meaning."""

from __future__ import annotations

from collections.abc import Mapping

OPTIONS: Mapping[str, tuple[str, str]] = {
    "active_deadline": ("on", "an `execution_timeout` gives its pod an `activeDeadlineSeconds` two minutes longer"),
    "companion_grace_seconds": ("60", "default of the parameter"),
    "end_from_trigger": ("False", "default of the parameter"),
    "ignore_companions": ("", "default of the parameter: names with commas between, or `true`"),
    "installation": ("", "id of this Airflow in the pods' labels, instead of the Variable `kpo_async_installation`"),
    "max_pods": ("0", "pods that one triggerer starts and follows for tasks without a worker; 0: no limit"),
    "max_pods_per_namespace": ("0", "the same in each namespace"),
    "push_diagnosis": ("on", "the XCom `pod_diagnosis` of a task whose pod failed"),
    "reconcile": ("on", "triggerers delete pods whose try is over"),
    "retry_on_disruption": ("0", "default of the parameter"),
    "start_from_trigger": ("False", "default of the parameter"),
    "start_from_trigger_dag_size": ("300", "tasks of a DAG above which workers start its tasks"),
    "start_from_trigger_pools": (
        "default_pool",
        "pools whose limits the triggerer ignores when it starts tasks; `*`: all",
    ),
    "wait_for_quota": ("0", "seconds for which a worker repeats a create that a quota refuses"),
}
