"""Which operation a request asks for: its path and query, parsed once (the API server calls it RequestInfo)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kpo_async.localcluster.api import errors, resources
from kpo_async.localcluster.api.resources import Resource

_NAMED_VERBS = {"GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "POST": "create", "DELETE": "delete"}
_COLLECTION_VERBS = {"GET": "list", "HEAD": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True)
class RequestInfo:
    """An operation on a resource."""

    verb: str
    """get, list, watch, create, update, patch, delete or deletecollection, as RBAC names them."""
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def path_in_rules(self) -> str:
        """`pods` or `pods/log`, as RBAC rules name it."""
        return f"{self.resource.name}/{self.subresource}" if self.subresource else self.resource.name

    @property
    def scope(self) -> str:
        """The label `scope` of `apiserver_request_total`."""
        if self.name or self.verb == "create":
            return "resource"
        return "namespace" if self.namespace else "cluster"

    def check_method(self) -> None:
        """Raise StatusError (404 or 405) when the resource has no such subresource or verb."""
        if not self.subresource:
            verbs = self.resource.verbs
        else:
            found = self.resource.subresource(self.subresource)
            if found is None:
                raise errors.no_such_resource()
            verbs = found.verbs
        if self.verb not in verbs or (self.verb == "create" and self.name and not self.subresource):
            raise errors.method_not_allowed()


def is_true(query: Mapping[str, str], key: str) -> bool:
    """Read a boolean query parameter as Go's conversion does: present, and neither "false" nor "0"."""
    return key in query and query[key].lower() not in ("false", "0")


def parse(method: str, path: str, query: Mapping[str, str]) -> RequestInfo | None:
    """Return the operation on a resource, None for any other path. Raises StatusError (404, 405)."""
    parts = [part for part in path.split("/") if part]
    if parts[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", parts[2:]
    elif parts[:1] == ["apis"] and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if not rest or not resources.group_exists(group, version):
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and not (len(rest) == 3 and rest[2] in ("status", "finalize")):
        namespace, rest = rest[1], rest[2:]
    resource = resources.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (namespace and not resource.namespaced):
        raise errors.no_such_resource()
    name = rest[1] if len(rest) > 1 else ""
    verbs = _NAMED_VERBS if name else _COLLECTION_VERBS
    if method not in verbs:
        raise errors.method_not_allowed()
    verb = verbs[method]
    if verb == "list" and is_true(query, "watch"):
        verb = "watch"
    if not name and verb in ("create", "deletecollection") and resource.namespaced and not namespace:
        raise errors.method_not_allowed()
    if name and resource.namespaced and not namespace:
        raise errors.no_such_resource()
    return RequestInfo(verb, resource, namespace, name, rest[2] if len(rest) > 2 else "")
