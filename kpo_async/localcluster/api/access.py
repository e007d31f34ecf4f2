"""Who may do what: roles and their bindings (RBAC), read from the store for each question, and the review resources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.api.identity import MASTERS, SERVICE_ACCOUNT, Identity
from kpo_async.localcluster.api.route import Route
from kpo_async.localcluster.store.store import NotFound, Object, Store

_PUBLIC_PATHS = ("/version", "/healthz", "/livez", "/readyz")
_DISCOVERY_PATHS = (*_PUBLIC_PATHS, "/api", "/apis", "/openapi")
_SELF_REVIEWS = frozenset({"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"})


@dataclass(frozen=True)
class Access:
    """One thing that somebody may or may not do."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def rule_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @classmethod
    def of(cls, route: Route) -> Access:
        return cls(
            route.verb, route.resource.group, route.resource.name, route.subresource, route.namespace, route.name
        )


class Authorizer:
    """Answers from the Roles, ClusterRoles and bindings in the store. The group `system:masters` may do everything."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, identity: Identity, route: Route) -> None:
        """Raises Refusal (403) with a real server's text."""
        access = Access.of(route)
        if self.allows(identity, access):
            return
        resource = route.resource
        where = f'in the namespace "{route.namespace}"' if route.namespace else "at the cluster scope"
        message = (
            f'User "{identity.name}" cannot {route.verb} resource "{route.path_in_rules}" '
            f'in API group "{resource.group}" {where}'
        )
        name = route.name if route.verb != "create" or route.subresource else ""
        raise errors.forbidden(resource.name, name, message, resource.group)

    def check_path(self, identity: Identity, method: str, path: str) -> None:
        """Raises Refusal (403) for a path that is no resource."""
        allowed = _PUBLIC_PATHS if "system:authenticated" not in identity.groups else _DISCOVERY_PATHS
        if MASTERS in identity.groups or any(path == known or path.startswith(f"{known}/") for known in allowed):
            return
        verb = {"GET": "get", "POST": "post", "PUT": "put"}.get(method, method.lower())
        for rule in self._rules(identity, ""):
            urls = rule.get("nonResourceURLs", [])
            if _listed(rule.get("verbs", []), verb) and any(
                path == url or (url.endswith("*") and path.startswith(url[:-1])) for url in urls
            ):
                return
        message = f'forbidden: User "{identity.name}" cannot {verb} path "{path}"'
        raise errors.Refusal(403, message, details={})

    def allows(self, identity: Identity, access: Access) -> bool:
        """Whether some rule grants the access."""
        if MASTERS in identity.groups:
            return True
        if access.resource in _SELF_REVIEWS and "system:authenticated" in identity.groups:
            return True
        return any(_grants(rule, access) for rule in self._rules(identity, access.namespace))

    def rules(self, identity: Identity, namespace: str) -> list[Object]:
        """All rules that apply to somebody in a namespace."""
        if MASTERS in identity.groups:
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            return [everything, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
        reviews = {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }
        return [*self._rules(identity, namespace), reviews]

    def _rules(self, identity: Identity, namespace: str) -> Iterator[Object]:
        for binding in self._store.list("clusterrolebindings"):
            if _binds(binding, identity, ""):
                yield from self._role(binding, "")
        if namespace:
            for binding in self._store.list("rolebindings", namespace):
                if _binds(binding, identity, namespace):
                    yield from self._role(binding, namespace)

    def _role(self, binding: Object, namespace: str) -> list[Object]:
        reference = binding["roleRef"]
        kind, where = ("roles", namespace) if reference["kind"] == "Role" else ("clusterroles", "")
        try:
            role = self._store.get(kind, where, reference["name"])
        except NotFound:
            return []
        found: list[Object] = role.get("rules", [])
        return found


def _binds(binding: Object, identity: Identity, namespace: str) -> bool:
    for subject in binding.get("subjects", []):
        match subject["kind"]:
            case "ServiceAccount":
                account = f"{SERVICE_ACCOUNT}{subject.get('namespace', namespace)}:{subject['name']}"
                if identity.name == account:
                    return True
            case "User":
                if identity.name == subject["name"]:
                    return True
            case "Group":
                if subject["name"] in identity.groups:
                    return True
    return False


def _listed(values: list[str], wanted: str) -> bool:
    return "*" in values or wanted in values


def _grants(rule: Object, access: Access) -> bool:
    names = rule.get("resourceNames", [])
    resources = rule.get("resources", [])
    return (
        _listed(rule.get("verbs", []), access.verb)
        and _listed(rule.get("apiGroups", []), access.group)
        and (_listed(resources, access.rule_resource) or f"*/{access.subresource}" in resources)
        and (not names or access.name in names)
    )
