"""What each parameter of `KubernetesPodOperator` means, and where it differs from the incumbent's (10.25.0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpo_async.compat import StrEnum


class Mode(StrEnum):
    """In which mode a parameter does something."""

    BOTH = "both"
    DEFERRED = "deferred"
    NONE = "-"


@dataclass(frozen=True)
class Entry:
    """One parameter in words."""

    meaning: str
    difference: str = ""
    mode: Mode = Mode.BOTH


_HERE_TOO = "there only when not deferred"
_WATCHED = "accepted and without effect: pods are watched, not polled"

SECTIONS: Mapping[str, Mapping[str, Entry]] = {
    "Cluster": {
        "kubernetes_conn_id": Entry(
            "connection of type `kubernetes`; `None`: no connection",
            "resolved by the same code in worker and triggerer; never stored with the trigger",
        ),
        "in_cluster": Entry(
            "use the service account of the process", "tried first when nothing is given, in triggerers too"
        ),
        "config_file": Entry("path of a kubeconfig", "read where it is used: it must exist on workers and triggerers"),
        "cluster_context": Entry("context of the kubeconfig"),
        "cluster_hook": Entry(
            "class whose `get_kubeconfig()` returns the content of a kubeconfig, called where it is needed; "
            "`kpo_async.hooks.clouds` has `EksCluster` and `GkeCluster`",
            "new",
        ),
        "cluster_hook_kwargs": Entry(
            "its plain arguments, stored in the trigger's row: no secrets; not templated, but a subclass may make them "
            "a property",
            "new",
        ),
    },
    "Pod": {
        "namespace": Entry(
            "namespace of the pod; else the template's, the connection's, this process's own, `default`"
        ),
        "name": Entry("name of the pod, made legal; else the template's or the task id", "illegal names are repaired"),
        "random_name_suffix": Entry(
            "append 8 characters", "they follow from the task instance and its try: no second pod for one try"
        ),
        "labels": Entry("labels; `None` becomes the empty string", "illegal ones are refused when the DAG is parsed"),
        "annotations": Entry("annotations", "illegal keys are refused when the DAG is parsed"),
        "full_pod_spec": Entry("a whole pod, on top of which the other parameters go"),
        "pod_template_file": Entry("path of a YAML file with a pod, beneath `full_pod_spec`"),
        "pod_template_dict": Entry("the same as a dict; ignored when there is a file"),
        "service_account_name": Entry("service account of the pod"),
        "automount_service_account_token": Entry("mount its token; `False` does not override a template"),
        "init_containers": Entry("init containers, merged with the template's by name"),
        "volumes": Entry("volumes, appended to the template's"),
        "image_pull_secrets": Entry("secrets for the registry; a list, or names with commas between"),
        "security_context": Entry("security context of the pod"),
        "termination_grace_period": Entry("seconds between SIGTERM and SIGKILL, in the pod and when it is deleted"),
        "active_deadline_seconds": Entry(
            "seconds after which Kubernetes itself ends the pod",
            "else, and unless a template has it, the `execution_timeout` and two minutes "
            "(`[kpo_async] active_deadline = off`)",
        ),
    },
    "Base container": {
        "image": Entry("its image"),
        "image_pull_policy": Entry("`Always`, `IfNotPresent` or `Never`", "others are refused when the DAG is parsed"),
        "cmds": Entry("its entrypoint"),
        "arguments": Entry("its arguments"),
        "env_vars": Entry("variables, as a dict or a list; names are templates too"),
        "env_from": Entry("sources of variables"),
        "configmaps": Entry("names of ConfigMaps whose keys become variables"),
        "secrets": Entry(
            "`Secret`s as variables or volumes",
            "takes the incumbent's class too; the same volume gets the same name each time",
        ),
        "pod_runtime_info_envs": Entry("variables from the downward API"),
        "ports": Entry("ports"),
        "volume_mounts": Entry("mounts"),
        "container_resources": Entry("requests and limits"),
        "container_security_context": Entry("its security context"),
        "termination_message_policy": Entry("`File` or `FallbackToLogsOnError`; always beats a template's"),
        "base_container_name": Entry(
            "its name; else the class's `BASE_CONTAINER_NAME`",
            "a template's container of that name is meant wherever it is; else the first one, as there",
        ),
    },
    "Scheduling and network": {
        "node_selector": Entry("labels of nodes"),
        "affinity": Entry("affinity"),
        "tolerations": Entry("tolerations"),
        "schedulername": Entry("name of the scheduler"),
        "priority_class_name": Entry("priority class"),
        "runtime_class_name": Entry("runtime class"),
        "hostnetwork": Entry("use the node's network; `False` does not override a template"),
        "host_aliases": Entry("entries of /etc/hosts"),
        "hostname": Entry("hostname"),
        "subdomain": Entry("subdomain"),
        "dnspolicy": Entry("DNS policy"),
        "dns_config": Entry("DNS configuration"),
    },
    "Start": {
        "schedule_timeout_seconds": Entry("from the pod's creation to a node; `None`: as `startup_timeout_seconds`"),
        "startup_timeout_seconds": Entry("from a node to the base container running"),
        "startup_check_interval_seconds": Entry("seconds between looks at a starting pod", _WATCHED, Mode.NONE),
        "log_events_on_startup": Entry(
            "log why the pod is waiting", "from the pod's status: no right to read events is needed"
        ),
        "durable": Entry(
            "a new try takes over the pod of an earlier one that still runs", "`None` is true on every Airflow"
        ),
    },
    "Logs": {
        "get_logs": Entry("show the containers' logs", "live in both modes, each line once"),
        "container_logs": Entry("names of containers, or `True` for all; else the base container", _HERE_TOO),
        "init_container_logs": Entry("names of init containers, or `True` for all", _HERE_TOO),
        "container_name_log_prefix_enabled": Entry("begin lines with `[container] `", _HERE_TOO),
        "log_formatter": Entry(
            "`(container, message) -> line`",
            f"{_HERE_TOO}; a function that cannot be imported in the triggerer moves the logs to the worker's return",
        ),
        "logging_interval": Entry(
            "seconds between batches of logs", "accepted and without effect: logs are live", Mode.NONE
        ),
        "log_events_on_failure": Entry("log the pod's events when it failed"),
        "log_pod_spec_on_failure": Entry("log the pod when it failed", "without the values of its variables"),
    },
    "Result": {
        "do_xcom_push": Entry("push /airflow/xcom/return.json"),
        "xcom_transport": Entry(
            "`sidecar`: native sidecar, Kubernetes 1.29 and newer; `exec`: the classic one, which needs `pods/exec`",
            "new",
        ),
        "xcom_sidecar_container_security_context": Entry("security context of the sidecar; beats the connection's"),
    },
    "End": {
        "on_finish_action": Entry("`delete_pod`, `delete_succeeded_pod`, `delete_active_pod` or `keep_pod`"),
        "on_kill_action": Entry("`delete_pod` or `keep_pod`, when a user ends the task"),
        "skip_on_exit_code": Entry("exit code or codes that skip the task"),
        "companion_grace_seconds": Entry(
            "seconds that containers which the manifest declares besides the base container may run on after that has "
            "ended well, before they are stopped with a warning; `0`: none, `None`: no limit",
            "new",
        ),
        "ignore_companions": Entry(
            "names of such containers that may fail without failing the task; `True` for all",
            "new",
        ),
        "base_container_status_polling_interval": Entry("seconds between looks at the container", _WATCHED, Mode.NONE),
        "callbacks": Entry(
            "callback class or classes; functions may be `async`",
            "each is called at its moment in both modes: in the triggerer if importable there and without `operator` "
            "and `context` in its signature, else by the worker",
        ),
        "progress_callback": Entry("function called with each line of log", "called; there it is stored and forgotten"),
    },
    "Deferral": {
        "deferrable": Entry("give the worker slot back while the pod runs"),
        "start_from_trigger": Entry(
            "the triggerer starts the task, without a worker (see [Without a worker](../workerless.md)); None: "
            "`[kpo_async] start_from_trigger`, off by default",
            "new",
            Mode.DEFERRED,
        ),
        "end_from_trigger": Entry(
            "the triggerer ends the task, without a worker; not if its end needs one (`outlets`, "
            "`on_success_callback`, `on_skipped_callback`, `post_execute`, `map_index_template`, "
            "`on_operator_resuming`, an overridden `trigger_reentry`, a callback that takes `context`), nor if the log "
            "is far behind, nor a failed one with `on_failure_callback`, `on_retry_callback`, `email`, `retry_policy` "
            "or a DAG with `fail_fast`",
            "new",
            Mode.DEFERRED,
        ),
        "poll_interval": Entry(
            "seconds between looks at the pod where the rights allow no watch",
            "there always, one request each",
            Mode.BOTH,
        ),
        "trigger_kwargs": Entry("keys added to the trigger's event, whose own keys stay", mode=Mode.DEFERRED),
    },
    "Another pod in the same try": {
        "retry_on_disruption": Entry(
            "how often a pod that the cluster took away before its end (evicted, preempted, node lost or shut down, "
            "deleted from outside, never started by its node) is created again, without using one of the task's "
            "`retries`",
            "new",
        ),
        "on_oom": Entry(
            '`{"memory": 2.0, "max": "16Gi"}`: a base container that ran out of memory gets another pod with so many '
            "times the memory, request and limit, up to `max`; after that the task fails",
            "new",
        ),
    },
    "Former names": {
        "reattach_on_restart": Entry("old name of `durable`; warns"),
        "is_delete_operator_pod": Entry(
            "`True`: `on_finish_action='delete_pod'`, `False`: `keep_pod`; warns", "there accepted and ignored"
        ),
    },
}
