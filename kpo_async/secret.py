"""`Secret`: a Kubernetes Secret given to the base container, as environment variables or as files.

It has the constructor, equality and methods of the incumbent's `Secret`, but its methods return plain dicts. The
incumbent's objects are accepted wherever this class is (`Secret.of`). It holds names only, never a secret's content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kpo_async.exceptions import ManifestError
from kpo_async.models import to_dict


class Secret:
    """One Kubernetes Secret for a pod.

    :param deploy_type: `env` or `volume`.
    :param deploy_target: for `env` the variable's name (upper-cased; None takes every key of the Secret), for `volume`
        the path to mount at.
    :param secret: the Secret's name.
    :param key: the one key to take; without it, `env` takes all of them.
    :param items: for `volume`, which keys go to which paths (`{"key": ..., "path": ...}` or `V1KeyToPath`).

    Raise ManifestError when the arguments contradict each other.
    """

    def __init__(
        self,
        deploy_type: Literal["env", "volume"],
        deploy_target: str | None,
        secret: str,
        key: str | None = None,
        items: Sequence[Any] | None = None,
    ) -> None:
        if deploy_type not in ("env", "volume"):
            raise ManifestError(f"Secret: deploy_type is {deploy_type!r}, give 'env' or 'volume'")
        if key is not None and deploy_target is None:
            raise ManifestError(f"Secret {secret!r}: a key needs a deploy_target, the variable or path to put it at")
        self.deploy_type = deploy_type
        self.deploy_target = deploy_target
        if deploy_type == "env" and deploy_target is not None:
            self.deploy_target = deploy_target.upper()
        self.secret = secret
        self.key = key
        self.items: list[Any] = list(items or [])

    @classmethod
    def of(cls, value: Any) -> Secret:
        """Return `value` as a Secret: this class, the incumbent's, or a mapping of the constructor's arguments.

        Raise ManifestError for anything else.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, Mapping):
            try:
                return cls(**value)
            except TypeError as error:
                raise ManifestError(f"secrets: {error}") from error
        if not (hasattr(value, "deploy_type") and hasattr(value, "deploy_target") and hasattr(value, "secret")):
            raise ManifestError(f"secrets: a {type(value).__qualname__} is not a Secret: use kpo_async.secret.Secret")
        return cls(
            value.deploy_type,
            value.deploy_target,
            value.secret,
            getattr(value, "key", None),
            getattr(value, "items", None),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values; `Secret.of` reads them back."""
        return {
            "deploy_type": self.deploy_type,
            "deploy_target": self.deploy_target,
            "secret": self.secret,
            "key": self.key,
            "items": to_dict(self.items),
        }

    def as_tuple(self) -> tuple[str, str | None, str, str | None]:
        """Return the values that two equal Secrets share; as in the incumbent, without `items`."""
        return (self.deploy_type, self.deploy_target, self.secret, self.key)

    def to_env_secret(self) -> dict[str, Any]:
        """Return the EnvVar for one key."""
        return {
            "name": self.deploy_target,
            "valueFrom": {"secretKeyRef": {"name": self.secret, "key": self.key}},
        }

    def to_env_from_secret(self) -> dict[str, Any]:
        """Return the EnvFromSource for every key."""
        return {"secretRef": {"name": self.secret}}

    def to_volume_secret(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the Volume and its read-only VolumeMount. The volume's name is a hash of what is mounted where."""
        identity = repr((self.secret, self.deploy_target, to_dict(self.items)))
        name = "secretvol" + hashlib.sha256(identity.encode()).hexdigest()[:32]
        source: dict[str, Any] = {"secretName": self.secret}
        if self.items:
            source["items"] = to_dict(self.items)
        return {"name": name, "secret": source}, {"name": name, "mountPath": self.deploy_target, "readOnly": True}

    def attach_to_pod(self, pod: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the manifest `pod` whose first container has this Secret."""
        manifest: dict[str, Any] = to_dict(pod)
        spec = manifest["spec"]
        container = spec["containers"][0]
        if self.deploy_type == "volume":
            volume, mount = self.to_volume_secret()
            spec["volumes"] = [*(spec.get("volumes") or ()), volume]
            container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
        elif self.key is not None:
            container["env"] = [*(container.get("env") or ()), self.to_env_secret()]
        else:
            container["envFrom"] = [*(container.get("envFrom") or ()), self.to_env_from_secret()]
        return manifest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self.as_tuple() == other.as_tuple()

    def __hash__(self) -> int:
        return hash(self.as_tuple())

    def __repr__(self) -> str:
        return f"Secret({self.deploy_type}, {self.deploy_target}, {self.secret}, {self.key})"
