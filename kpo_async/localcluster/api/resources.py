"""The table of resources that the server has, and their discovery documents.

The store holds the objects of each resource that has the verb get, under the resource's name; no two groups share a
name. `reviews` answers requests for the other resources.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from kpo_async.localcluster.store.objects import Object

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


class ResourceScope(str, Enum):
    """Whether the objects of a resource belong to a namespace."""

    NAMESPACE = "namespace"
    CLUSTER = "cluster"


@dataclass(frozen=True)
class Subresource:
    """A subresource, such as `pods/log`."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


@dataclass(frozen=True)
class Resource:
    """A kind of object, and its place in the API."""

    name: str
    kind: str
    singular: str
    group: str = ""
    version: str = "v1"
    scope: ResourceScope = ResourceScope.NAMESPACE
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    subresources: tuple[Subresource, ...] = field(default=())

    @property
    def namespaced(self) -> bool:
        """Whether its objects belong to a namespace."""
        return self.scope is ResourceScope.NAMESPACE

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def subresource(self, name: str) -> Subresource | None:
        """Return the subresource of that name, None when there is none."""
        return next((found for found in self.subresources if found.name == name), None)


_STATUS_VERBS = ("get", "patch", "update")
_CREATE = ("create",)
RBAC = "rbac.authorization.k8s.io"

RESOURCES = (
    Resource("configmaps", "ConfigMap", "configmap", short_names=("cm",)),
    Resource("events", "Event", "event", short_names=("ev",)),
    Resource(
        "namespaces",
        "Namespace",
        "namespace",
        scope=ResourceScope.CLUSTER,
        short_names=("ns",),
        verbs=tuple(verb for verb in VERBS if verb != "deletecollection"),
        subresources=(Subresource("status", "Namespace", _STATUS_VERBS),),
    ),
    Resource(
        "nodes",
        "Node",
        "node",
        scope=ResourceScope.CLUSTER,
        short_names=("no",),
        subresources=(Subresource("status", "Node", _STATUS_VERBS),),
    ),
    Resource(
        "pods",
        "Pod",
        "pod",
        short_names=("po",),
        categories=("all",),
        subresources=(
            Subresource("binding", "Binding", _CREATE),
            Subresource("eviction", "Eviction", _CREATE, "policy", "v1"),
            Subresource("exec", "PodExecOptions", ("create", "get")),
            Subresource("log", "Pod", ("get",)),
            Subresource("status", "Pod", _STATUS_VERBS),
        ),
    ),
    Resource(
        "resourcequotas",
        "ResourceQuota",
        "resourcequota",
        short_names=("quota",),
        subresources=(Subresource("status", "ResourceQuota", _STATUS_VERBS),),
    ),
    Resource("secrets", "Secret", "secret"),
    Resource(
        "serviceaccounts",
        "ServiceAccount",
        "serviceaccount",
        short_names=("sa",),
        subresources=(Subresource("token", "TokenRequest", _CREATE, "authentication.k8s.io", "v1"),),
    ),
    Resource(
        "selfsubjectreviews",
        "SelfSubjectReview",
        "selfsubjectreview",
        group="authentication.k8s.io",
        scope=ResourceScope.CLUSTER,
        verbs=_CREATE,
    ),
    Resource(
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreview",
        group="authorization.k8s.io",
        scope=ResourceScope.CLUSTER,
        verbs=_CREATE,
    ),
    Resource(
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        "selfsubjectrulesreview",
        group="authorization.k8s.io",
        scope=ResourceScope.CLUSTER,
        verbs=_CREATE,
    ),
    Resource(
        "clusterrolebindings", "ClusterRoleBinding", "clusterrolebinding", group=RBAC, scope=ResourceScope.CLUSTER
    ),
    Resource("clusterroles", "ClusterRole", "clusterrole", group=RBAC, scope=ResourceScope.CLUSTER),
    Resource("rolebindings", "RoleBinding", "rolebinding", group=RBAC),
    Resource("roles", "Role", "role", group=RBAC),
    Resource(
        "priorityclasses",
        "PriorityClass",
        "priorityclass",
        group="scheduling.k8s.io",
        scope=ResourceScope.CLUSTER,
        short_names=("pc",),
    ),
)

_BY_PATH = {(found.group, found.version, found.name): found for found in RESOURCES}
BY_NAME = {found.name: found for found in RESOURCES}
GROUPS = tuple(dict.fromkeys(found.group for found in RESOURCES if found.group))


def find(group: str, version: str, name: str) -> Resource | None:
    """Return the resource of that path, None when there is none."""
    return _BY_PATH.get((group, version, name))


def group_exists(group: str, version: str) -> bool:
    """Whether the server has a group, "" for the core group, in a version."""
    return version == "v1" and (not group or group in GROUPS)


def group_document(group: str) -> Object:
    """Return a group as in `/apis` and `/apis/GROUP`."""
    version = {"groupVersion": f"{group}/v1", "version": "v1"}
    return {"name": group, "versions": [version], "preferredVersion": version}


def resource_list(group: str) -> Object:
    """Return the `APIResourceList` of a group's only version."""
    entries = []
    for resource in (found for found in RESOURCES if found.group == group):
        entry: Object = {
            "name": resource.name,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        entries.append(entry)
        entries += [_subresource_entry(resource, found) for found in resource.subresources]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/v1" if group else "v1",
        "resources": entries,
    }


def _subresource_entry(resource: Resource, subresource: Subresource) -> Object:
    entry: Object = {
        "name": f"{resource.name}/{subresource.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": subresource.kind,
        "verbs": list(subresource.verbs),
    }
    if subresource.group:
        entry |= {"group": subresource.group, "version": subresource.version}
    return entry
