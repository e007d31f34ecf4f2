"""The rights that Airflow's components need in the namespace of the pods, and what is lost without each.

`RIGHTS` is the one place that names them. `rules` and `manifests` turn those for the features in use into RBAC objects
(https://kubernetes.io/docs/reference/access-authn-authz/rbac/); `tests/conformance/test_rights.py` takes one away at a
time and looks at what is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from kpo_async.compat import StrEnum
from kpo_async.json_types import Json

RBAC_GROUP = "rbac.authorization.k8s.io"
LABELS = {"app.kubernetes.io/part-of": "kpo-async"}


class Component(StrEnum):
    """The processes of Airflow that talk to the cluster of the pods."""

    WORKER = "worker"
    """Whatever runs tasks: a Celery worker, a pod of the KubernetesExecutor, the scheduler under the LocalExecutor."""
    TRIGGERER = "triggerer"
    API_SERVER = "api-server"
    """It shows the page "Pods", and changes nothing."""


BOTH = frozenset({Component.WORKER, Component.TRIGGERER})
TRIGGERER = frozenset({Component.TRIGGERER})
API_SERVER = frozenset({Component.API_SERVER})


class Feature(StrEnum):
    """What needs more rights than a deferred pod, and the parameter that asks for it."""

    START_FROM_TRIGGER = "start_from_trigger"
    RETRY = "retry_on_disruption"
    """Or `on_oom`: the triggerer creates the pod again."""
    EXEC = "xcom_transport=exec"


@dataclass(frozen=True)
class Right:
    """A verb on a resource of the core API group."""

    verb: str
    resource: str
    buys: str
    lost: str
    """What happens without it."""
    of: frozenset[Component] = BOTH
    features: frozenset[Feature] = field(default=frozenset())
    """It is needed for these features only; empty: always."""


RIGHTS = (
    Right("create", "pods", "the pod", "the task fails", of=frozenset({Component.WORKER})),
    Right(
        "create",
        "pods",
        "pods that the triggerer starts, and those that follow a lost pod",
        "a worker creates them, after a line in the log",
        of=TRIGGERER,
        features=frozenset({Feature.START_FROM_TRIGGER, Feature.RETRY}),
    ),
    Right(
        "get",
        "pods",
        "a look at one pod: after a lost answer, before a kill, for `delete_succeeded_pod`",
        "failed pods are left as they are, and a kill does not look whether the pod is still its task's",
    ),
    Right(
        "list",
        "pods",
        "one watch for all pods of the namespace; pods that an earlier try left are found by label",
        "each pod is watched separately, or only the pods of the latest tries are found, by name",
    ),
    Right(
        "watch", "pods", "changes of pods as they happen", "pods are polled: one request each, every `poll_interval`"
    ),
    Right(
        "patch",
        "pods",
        "marks on pods: kept, adopted by a retry, how far the log was emitted; the end of companions and sidecars",
        "kept pods are not marked, a retry does not adopt, a restarted triggerer emits a log again",
    ),
    Right(
        "delete",
        "pods",
        "the end of pods: `on_finish_action`, kills, time-outs, the reconciler",
        "pods are left, and the log says which",
    ),
    Right("get", "pods/log", "logs, and results above 4 KiB", "the log says why it is empty, and a large result fails"),
    Right(
        "list",
        "events",
        "the cluster's reasons for a pod that does not start or was lost",
        "the message has what the pod's status says",
    ),
    *(
        Right(
            verb,
            "pods/exec",
            "the result, out of the sidecar, on clusters before 1.29",
            "a task with a result fails",
            features=frozenset({Feature.EXEC}),
        )
        # Before Kubernetes 1.35 opening a WebSocket asks for `get`; from then on for `create`, too.
        for verb in ("create", "get")
    ),
    Right(
        "list",
        "pods",
        "the rows of the page where a watch does not begin with them (before Kubernetes 1.34)",
        "there the page shows no pod of the namespace, and says why",
        of=API_SERVER,
    ),
    Right(
        "watch",
        "pods",
        "the rows of the page, by one watch for all pods of the namespace",
        "the page shows no pod of the namespace, and says why",
        of=API_SERVER,
    ),
    Right("get", "pods", "a look at the pod whose log is opened", "the page shows no log, and says why", of=API_SERVER),
    Right("get", "pods/log", "logs on the page", "the page shows no log, and says why", of=API_SERVER),
)


def rights(component: Component, features: Collection[Feature] = ()) -> Iterator[Right]:
    """Yield the rights that a component needs for these features."""
    for right in RIGHTS:
        if component in right.of and (not right.features or right.features & set(features)):
            yield right


def rules(component: Component, features: Collection[Feature] = ()) -> list[Json]:
    """Return the `rules` of a component's Role: one per resource."""
    verbs: dict[str, list[str]] = {}
    for right in rights(component, features):
        verbs.setdefault(right.resource, []).append(right.verb)
    return [{"apiGroups": [""], "resources": [resource], "verbs": found} for resource, found in verbs.items()]


def manifests(
    namespace: str,
    *,
    airflow_namespace: str = "",
    components: Collection[Component] = tuple(Component),
    features: Collection[Feature] = (),
    prefix: str = "kpo-async",
) -> list[Json]:
    """Return ServiceAccount, Role and RoleBinding of each of these components, each named `prefix`-component.

    The pods are in `namespace`, Airflow in `airflow_namespace`, by default the same.
    """
    return [
        found
        for component in components
        for found in _manifests(component, f"{prefix}-{component}", namespace, airflow_namespace or namespace, features)
    ]


def _manifests(
    component: Component, name: str, namespace: str, airflow_namespace: str, features: Collection[Feature]
) -> list[Json]:
    metadata = {"name": name, "namespace": namespace, "labels": LABELS}
    account = {"name": name, "namespace": airflow_namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**account, "labels": LABELS}},
        {
            "apiVersion": f"{RBAC_GROUP}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": rules(component, features),
        },
        {
            "apiVersion": f"{RBAC_GROUP}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
