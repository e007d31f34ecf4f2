"""Resources that are not stored: reviews of access and identity, and tokens of service accounts."""

from __future__ import annotations

from kpo_async.localcluster.api.authentication import AUDIENCE, TokenAuthenticator, UserInfo
from kpo_async.localcluster.api.authorization import Authorizer, ResourceAttributes
from kpo_async.localcluster.api.registry import ObjectRef, Registry
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.objects import Object

_HOUR = 3600


class Reviews:
    """Answers POST requests on the review resources and on serviceaccounts/token."""

    def __init__(self, registry: Registry, authenticator: TokenAuthenticator, authorizer: Authorizer) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._authorizer = authorizer

    def answer(self, resource: str, user: UserInfo, body: Object) -> Object:
        """Return the review with its status."""
        match resource:
            case "selfsubjectaccessreviews":
                return self._access(user, body)
            case "selfsubjectrulesreviews":
                return self._rules(user, body)
        created = self._registry.store.timestamp()
        return {
            "kind": "SelfSubjectReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": created},
            "status": {"userInfo": user.to_dict()},
        }

    def _access(self, user: UserInfo, body: Object) -> Object:
        spec = body.get("spec", {})
        given = spec.get("resourceAttributes", {})
        attributes = ResourceAttributes(
            verb=given.get("verb", ""),
            group=given.get("group", ""),
            resource=given.get("resource", ""),
            subresource=given.get("subresource", ""),
            namespace=given.get("namespace", ""),
            name=given.get("name", ""),
        )
        return {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": spec,
            "status": {"allowed": self._authorizer.allows(user, attributes)},
        }

    def _rules(self, user: UserInfo, body: Object) -> Object:
        spec = body.get("spec", {})
        rules = self._authorizer.rules(user, spec.get("namespace", ""))
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

    def token(self, ref: ObjectRef, body: Object) -> Object:
        """POST serviceaccounts/NAME/token. Raises NotFound."""
        account = self._registry.get(ref)
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
