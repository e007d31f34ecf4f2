"""Which names move where, which do not, and why. A name that is in no table is reported, never guessed."""

from __future__ import annotations

from collections.abc import Mapping

from kpo_async.operators import deprecated

INCUMBENT = "airflow.providers.cncf.kubernetes"
EXAMPLE = f"{INCUMBENT}.operators.pod.KubernetesPodOperator"

MOVED: Mapping[str, str] = {
    f"{INCUMBENT}.operators.pod.KubernetesPodOperator": "kpo_async.operators.pod",
    f"{INCUMBENT}.operators.kubernetes_pod.KubernetesPodOperator": "kpo_async.operators.pod",
    f"{INCUMBENT}.operators.pod.ExecutionMode": "kpo_async.callbacks",
    f"{INCUMBENT}.operators.pod.KubernetesPodOperatorCallback": "kpo_async.callbacks",
    f"{INCUMBENT}.operators.pod.OnFinishAction": "kpo_async.pod_task",
    f"{INCUMBENT}.operators.pod.OnKillAction": "kpo_async.pod_task",
    f"{INCUMBENT}.secret.Secret": "kpo_async.secret",
    f"{INCUMBENT}.callbacks.KubernetesPodOperatorCallback": "kpo_async.callbacks",
    f"{INCUMBENT}.callbacks.ExecutionMode": "kpo_async.callbacks",
    f"{INCUMBENT}.utils.pod_manager.OnFinishAction": "kpo_async.pod_task",
    f"{INCUMBENT}.utils.pod_manager.OnKillAction": "kpo_async.pod_task",
    "airflow.kubernetes.secret.Secret": "kpo_async.secret",
}
"""Old full name -> the module of kpo_async that has the same name. The first name of a module is its own."""

MODULES: Mapping[str, str] = {old.rpartition(".")[0]: MOVED[old] for old in reversed(tuple(MOVED))}
"""Old module -> new module, for `import old as x` where every `x.name` is in `MOVED`."""

DECORATORS: Mapping[str, str] = {
    f"{module}.task.{name}": f"{name}_async"
    for module in ("airflow.sdk", "airflow.decorators", "airflow.sdk.definitions.decorators")
    for name in ("kubernetes", "kubernetes_cmd")
}
"""Full name of a decorator -> the attribute of `task` that kpo_async registers."""

KEPT = "is not part of kpo_async and stays: keep the incumbent installed, both work side by side"
"""Why a name stays and needs no change."""
NAME_IT = f"import it as `from {INCUMBENT}... import Name` first, then migrate again"
"""What to do about an import of a whole package, which does not say what is used."""
IN_A_STRING = "an import path in a string may mean anything"
"""Why it does not change."""
UNMOVABLE: Mapping[str, str] = {
    f"{INCUMBENT}.hooks": "the hook's methods differ: kpo_async.hooks.kubernetes.KubernetesHook has connect() and "
    "core_v1_client. Change it by hand",
    f"{INCUMBENT}.triggers": "the operator creates the triggers; kpo_async's are not a public API",
    f"{INCUMBENT}.pod_generator": "use full_pod_spec or pod_template_file, or build the manifest as a dict",
    f"{INCUMBENT}.utils.pod_manager": "kpo_async has no pod manager: see kpo_async.lifecycle",
    f"{INCUMBENT}.utils.xcom_sidecar": "set the sidecar by the connection's xcom_sidecar_* extras",
    f"{INCUMBENT}.operators.pod": "kpo_async.operators.pod does not have this name",
    f"{INCUMBENT}.callbacks": "kpo_async.callbacks does not have this name",
    "airflow.providers.google.cloud.operators.kubernetes_engine": "GKE's operators build on the incumbent: use "
    "KubernetesPodOperator with cluster_hook=kpo_async.hooks.clouds.GkeCluster",
    "airflow.providers.amazon.aws.operators.eks": "EKS's operators build on the incumbent: use KubernetesPodOperator "
    "with cluster_hook=kpo_async.hooks.clouds.EksCluster",
}
"""Full name, or a module that holds the name -> why it stays. The longest match is reported."""

BUILT_ON_INCUMBENT = (
    "airflow.providers.google.cloud.operators.kubernetes_engine.GKE",
    "airflow.providers.amazon.aws.operators.eks.EksPod",
)
"""Prefixes of operators of other providers that are subclasses of the incumbent's."""

MISSING: Mapping[str, str] = {
    **deprecated.MISSING,
    **dict.fromkeys(
        ("_build_find_pod_label_selector", "_clean", "_get_ti_pod_labels", "_handle_api_exception", "_set_name"),
        "is private to the incumbent's operator",
    ),
    **dict.fromkeys(
        ("_incluster_namespace", "_push_xcom_with_fan_out", "_read_pod_events", "_write_logs"),
        "is private to the incumbent's operator",
    ),
}
"""Attributes of the incumbent's operator that kpo_async's does not have -> what to do instead."""
ELSEWHERE = "is in another module of kpo_async: import it by its name, then migrate again"
"""Why a module's name stays whose other names have moved to another place than this one."""
MANIFEST_IS_A_DICT = "super() returns a plain dict: wrap it in kpo_async.models.to_v1pod() to change it as a V1Pod"
"""What to change in a subclass that overrides `build_pod_request_obj`."""


def why_not(name: str) -> str:
    """Return why the full name `name` stays as it is."""
    if any(module.startswith(f"{name}.") for module in MODULES):
        return NAME_IT
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if reason := UNMOVABLE.get(".".join(parts[:length])):
            return reason
    return KEPT


def concerns_us(name: str) -> bool:
    """Whether the full name `name` is the incumbent's, or built on it."""
    return name in MOVED or name == INCUMBENT or name.startswith((f"{INCUMBENT}.", *BUILT_ON_INCUMBENT))
