"""Who sends a request: bearer tokens of users, and signed tokens of service accounts.

A client without a token is `system:anonymous`, as on a real server; a wrong or expired token is answered with 401.
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
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import ObjectNotFound, Store

AUDIENCE = "https://kubernetes.default.svc"
MASTERS = "system:masters"
SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True)
class UserInfo:
    """A user of the API (authentication.k8s.io UserInfo)."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    def to_dict(self) -> Object:
        """Return the user as in `status.userInfo` of a SelfSubjectReview."""
        found = {"username": self.name, "uid": self.uid, "groups": list(self.groups), "extra": self.extra}
        return {key: value for key, value in found.items() if value}


ANONYMOUS = UserInfo("system:anonymous", ("system:unauthenticated",))


class TokenAuthenticator:
    """Tokens and the users they belong to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = secrets.token_bytes(32)
        self._users: dict[str, UserInfo] = {}
        self.anonymous = ANONYMOUS
        """The user of a request without a token."""

    def add_user(self, name: str, *groups: str) -> str:
        """Add a user and return its token; the group `system:masters` makes it an administrator."""
        token = secrets.token_urlsafe(24)
        self._users[token] = UserInfo(name, (*groups, "system:authenticated"))
        return token

    def issue(self, account: Object, seconds: int) -> str:
        """Return a token of a service account, shaped as a JWT, that expires after so many seconds."""
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

    def authenticate(self, authorization: str | None) -> UserInfo:
        """Return the user of an Authorization header. Raises StatusError (401)."""
        if not authorization:
            return self.anonymous
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return self.anonymous
        token = token.strip()
        user = self._users.get(token) or self._service_account(token)
        if user is None:
            raise errors.StatusError(401, "Unauthorized")
        return user

    def impersonate(self, user: UserInfo, name: str, groups: tuple[str, ...]) -> UserInfo:
        """Return the user that an administrator acts as for one request (`kubectl --as`). Raises StatusError (403)."""
        if MASTERS not in user.groups:
            message = f'User "{user.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
            raise errors.forbidden("users", name, message)
        if name.startswith(SERVICE_ACCOUNT) and not groups:
            namespace = name[len(SERVICE_ACCOUNT) :].partition(":")[0]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        return UserInfo(name, (*groups, "system:authenticated"))

    def _service_account(self, token: str) -> UserInfo | None:
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
        except ObjectNotFound:
            return None
        if found["metadata"]["uid"] != account["uid"]:
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims['jti']}"]}
        return UserInfo(claims["sub"], groups, account["uid"], extra)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
