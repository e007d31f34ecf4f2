"""Resources that are questions: reviews of access and identity, and tokens. Nothing of them is stored."""

from __future__ import annotations

from kpo_async.localcluster.api.access import Access, Authorizer
from kpo_async.localcluster.api.identity import AUDIENCE, Authenticator, Identity
from kpo_async.localcluster.api.registry import Registry, Target
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import Object

_HOUR = 3600


class Reviews:
    """Answers to POSTs on the review resources and on serviceaccounts/token."""

    def __init__(self, registry: Registry, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._authorizer = authorizer

    def answer(self, resource: str, identity: Identity, body: Object) -> Object:
        """The review with its status filled in."""
        match resource:
            case "selfsubjectaccessreviews":
                return self._access(identity, body)
            case "selfsubjectrulesreviews":
                return self._rules(identity, body)
        created = self._registry.store.timestamp()
        return {
            "kind": "SelfSubjectReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": created},
            "status": {"userInfo": identity.to_dict()},
        }

    def _access(self, identity: Identity, body: Object) -> Object:
        spec = body.get("spec", {})
        asked = spec.get("resourceAttributes", {})
        access = Access(
            verb=asked.get("verb", ""),
            group=asked.get("group", ""),
            resource=asked.get("resource", ""),
            subresource=asked.get("subresource", ""),
            namespace=asked.get("namespace", ""),
            name=asked.get("name", ""),
        )
        return {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": spec,
            "status": {"allowed": self._authorizer.allows(identity, access)},
        }

    def _rules(self, identity: Identity, body: Object) -> Object:
        spec = body.get("spec", {})
        rules = self._authorizer.rules(identity, spec.get("namespace", ""))
        return {
            "kind": "SelfSubjectRulesReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": {},
            "status": {
                "resourceRules": [rule for rule in rules if "nonResourceURLs" not in rule],
                "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
                "incomplete": False,
            },
        }

    def token(self, target: Target, body: Object) -> Object:
        """POST serviceaccounts/NAME/token. Raises Refusal (404)."""
        account = self._registry.get(target)
        spec = body.get("spec", {})
        seconds = spec.get("expirationSeconds", _HOUR)
        clock = self._registry.store.clock()
        metadata = account["metadata"]
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "creationTimestamp": times.to_seconds(clock),
            },
            "spec": {"audiences": [AUDIENCE], "expirationSeconds": seconds, "boundObjectRef": None},
            "status": {
                "token": self._authenticator.issue(account, seconds),
                "expirationTimestamp": times.to_seconds(clock + seconds * times.SECOND),
            },
        }
