"""What a user may do: roles and their bindings (RBAC), read from the store for each request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.api.authentication import MASTERS, SERVICE_ACCOUNT, UserInfo
from kpo_async.localcluster.api.request_info import RequestInfo
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import ObjectNotFound, Store

_PUBLIC_PATHS = ("/version", "/healthz", "/livez", "/readyz")
_DISCOVERY_PATHS = (*_PUBLIC_PATHS, "/api", "/apis", "/openapi")
_SELF_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


@dataclass(frozen=True)
class ResourceAttributes:
    """One action that a user may or may not be allowed (authorization.k8s.io ResourceAttributes)."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def path_in_rules(self) -> str:
        """`pods` or `pods/log`, as RBAC rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @classmethod
    def of(cls, info: RequestInfo) -> ResourceAttributes:
        """Return the action of a request."""
        return cls(info.verb, info.resource.group, info.resource.name, info.subresource, info.namespace, info.name)


class Authorizer:
    """Decides by the Roles, ClusterRoles and bindings in the store. The group `system:masters` may do everything."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, user: UserInfo, info: RequestInfo) -> None:
        """Raise StatusError (403) with a real server's text."""
        if self.allows(user, ResourceAttributes.of(info)):
            return
        resource = info.resource
        where = f'in the namespace "{info.namespace}"' if info.namespace else "at the cluster scope"
        message = (
            f'User "{user.name}" cannot {info.verb} resource "{info.path_in_rules}" '
            f'in API group "{resource.group}" {where}'
        )
        name = info.name if info.verb != "create" or info.subresource else ""
        raise errors.forbidden(resource.name, name, message, resource.group)

    def check_path(self, user: UserInfo, method: str, path: str) -> None:
        """Raise StatusError (403) for a path that is not a resource's."""
        allowed = _PUBLIC_PATHS if "system:authenticated" not in user.groups else _DISCOVERY_PATHS
        if MASTERS in user.groups or any(path == known or path.startswith(f"{known}/") for known in allowed):
            return
        verb = {"GET": "get", "POST": "post", "PUT": "put"}.get(method, method.lower())
        for rule in self._rules(user, ""):
            urls = rule.get("nonResourceURLs", [])
            if _listed(rule.get("verbs", []), verb) and any(
                path == url or (url.endswith("*") and path.startswith(url[:-1])) for url in urls
            ):
                return
        message = f'forbidden: User "{user.name}" cannot {verb} path "{path}"'
        raise errors.StatusError(403, message, details={})

    def allows(self, user: UserInfo, attributes: ResourceAttributes) -> bool:
        """Whether a rule grants the action to the user."""
        if MASTERS in user.groups:
            return True
        if attributes.resource in _SELF_REVIEWS and "system:authenticated" in user.groups:
            return True
        return any(_grants(rule, attributes) for rule in self._rules(user, attributes.namespace))

    def rules(self, user: UserInfo, namespace: str) -> list[Object]:
        """Return all rules that apply to a user in a namespace."""
        if MASTERS in user.groups:
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            return [everything, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
        reviews = {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }
        return [*self._rules(user, namespace), reviews]

    def _rules(self, user: UserInfo, namespace: str) -> Iterator[Object]:
        for binding in self._store.list("clusterrolebindings"):
            if _binds(binding, user, ""):
                yield from self._role_rules(binding, "")
        if namespace:
            for binding in self._store.list("rolebindings", namespace):
                if _binds(binding, user, namespace):
                    yield from self._role_rules(binding, namespace)

    def _role_rules(self, binding: Object, namespace: str) -> list[Object]:
        reference = binding["roleRef"]
        resource, where = ("roles", namespace) if reference["kind"] == "Role" else ("clusterroles", "")
        try:
            role = self._store.get(resource, where, reference["name"])
        except ObjectNotFound:
            return []
        found: list[Object] = role.get("rules", [])
        return found


def _binds(binding: Object, user: UserInfo, namespace: str) -> bool:
    """Whether the user is a subject of a binding."""
    for subject in binding.get("subjects", []):
        match subject["kind"]:
            case "ServiceAccount":
                account = f"{SERVICE_ACCOUNT}{subject.get('namespace', namespace)}:{subject['name']}"
                if user.name == account:
                    return True
            case "User":
                if user.name == subject["name"]:
                    return True
            case "Group":
                if subject["name"] in user.groups:
                    return True
    return False


def _listed(values: list[str], wanted: str) -> bool:
    return "*" in values or wanted in values


def _grants(rule: Object, attributes: ResourceAttributes) -> bool:
    names = rule.get("resourceNames", [])
    resources = rule.get("resources", [])
    return (
        _listed(rule.get("verbs", []), attributes.verb)
        and _listed(rule.get("apiGroups", []), attributes.group)
        and (_listed(resources, attributes.path_in_rules) or f"*/{attributes.subresource}" in resources)
        and (not names or attributes.name in names)
    )
