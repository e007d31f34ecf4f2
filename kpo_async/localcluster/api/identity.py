"""Who sends a request: bearer tokens of users, and signed tokens of service accounts.

Without a token the client is `system:anonymous`, as on a real server; a token that is wrong or expired is 401.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, field

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.store import times
from kpo_async.localcluster.store.store import NotFound, Object, Store

AUDIENCE = "https://kubernetes.default.svc"
MASTERS = "system:masters"
SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True)
class Identity:
    """A user of the API."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> Object:
        found = {"username": self.name, "uid": self.uid, "groups": list(self.groups), "extra": self.extra}
        return {key: value for key, value in found.items() if value}


ANONYMOUS = Identity("system:anonymous", ("system:unauthenticated",))


class Authenticator:
    """Tokens and whom they stand for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = secrets.token_bytes(32)
        self._users: dict[str, Identity] = {}
        self.anonymous = ANONYMOUS
        """Who a client without a token is."""

    def add_user(self, name: str, *groups: str) -> str:
        """A new user's token; `system:masters` as a group makes an administrator."""
        token = secrets.token_urlsafe(24)
        self._users[token] = Identity(name, (*groups, "system:authenticated"))
        return token

    def revoke(self, token: str) -> None:
        """The token is no longer good."""
        self._users.pop(token, None)

    def issue(self, account: Object, seconds: int) -> str:
        """A token of a service account that expires, shaped as a JWT."""
        metadata = account["metadata"]
        now = self._store.clock() // times.SECOND
        claims = {
            "aud": [AUDIENCE],
            "exp": now + seconds,
            "iat": now,
            "iss": AUDIENCE,
            "jti": secrets.token_hex(16),
            "kubernetes.io": {
                "namespace": metadata["namespace"],
                "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
            },
            "nbf": now,
            "sub": f"{SERVICE_ACCOUNT}{metadata['namespace']}:{metadata['name']}",
        }
        signed = f"{_encode(json.dumps({'alg': 'HS256'}).encode())}.{_encode(json.dumps(claims).encode())}"
        return f"{signed}.{self._sign(signed)}"

    def _sign(self, text: str) -> str:
        return _encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest())

    def identify(self, authorization: str | None) -> Identity:
        """Whom an Authorization header stands for. Raises Refusal (401)."""
        if not authorization:
            return self.anonymous
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return self.anonymous
        token = token.strip()
        identity = self._users.get(token) or self._account(token)
        if identity is None:
            raise errors.Refusal(401, "Unauthorized")
        return identity

    def impersonate(self, identity: Identity, user: str, groups: tuple[str, ...]) -> Identity:
        """Whom an administrator asks to be for one request (`kubectl --as`). Raises Refusal (403)."""
        if MASTERS not in identity.groups:
            message = f'User "{identity.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
            raise errors.forbidden("users", user, message)
        if user.startswith(SERVICE_ACCOUNT) and not groups:
            namespace = user[len(SERVICE_ACCOUNT) :].partition(":")[0]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return Identity(user, (*groups, "system:authenticated"))

    def _account(self, token: str) -> Identity | None:
        signed, _, signature = token.rpartition(".")
        if not signed or not hmac.compare_digest(self._sign(signed).encode(), signature.encode()):
            return None
        try:
            claims = json.loads(_decode(signed.partition(".")[2]))
        except (binascii.Error, ValueError):
            return None
        if claims["exp"] <= self._store.clock() // times.SECOND:
            return None
        where = claims["kubernetes.io"]
        namespace, account = where["namespace"], where["serviceaccount"]
        try:
            found = self._store.get("serviceaccounts", namespace, account["name"])
        except NotFound:
            return None
        if found["metadata"]["uid"] != account["uid"]:
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        return Identity(claims["sub"], groups, account["uid"], extra)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
