"""Every error this library raises, as one tree.

    KpoError
    ├── ConfigError            a cluster cannot be addressed: no kubeconfig, unknown context, two sources at once
    ├── ApiError               the API server refused or was not reached (verb, resource, name, namespace, code, reason)
    │   ├── UnauthorizedError      401, after one refresh of the credentials
    │   ├── ForbiddenError         403
    │   ├── NotFoundError          404
    │   ├── ConflictError          409
    │   ├── ExpiredError           410, the resourceVersion is older than the server's history
    │   ├── InvalidError           400, 413 and 422, the request itself is wrong
    │   │   └── NotStartedError        400 for the log of a container that has not started yet
    │   ├── ThrottledError         429, still refused when the retry budget was spent
    │   ├── ServerError            5xx, likewise
    │   └── UnreachableError       no HTTP answer: DNS, refused, reset, TLS, time-out
    ├── ManifestError          parameters that cannot become a pod manifest
    ├── ImportPathError        a callable that cannot travel to another process by its import path
    ├── PodError               the pod's story ended badly
    │   ├── PodConflictError       the name is taken by a pod that is not this task's
    │   └── PodStartError          the pod cannot be created: quota, Pod Security
    └── XComError              the result file is missing, truncated or not valid JSON

How a pod ended is a value, not an error: see `pod.diagnose.Category`.

Messages name what is wrong, where, and what to do; they hold no secrets and at most `MESSAGE_LIMIT` bytes.
"""

from __future__ import annotations

MESSAGE_LIMIT = 1024
"""Bytes of UTF-8 an error message may take, so that it fits a log line and a database column."""


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` cut to `limit` bytes of UTF-8, with an ellipsis where something was lost."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."


class KpoError(Exception):
    """Base of everything raised on purpose by kpo_async."""

    def __init__(self, message: str) -> None:
        super().__init__(clip(message))


class ConfigError(KpoError):
    """The cluster cannot be addressed with what was given."""


class ManifestError(KpoError):
    """The parameters cannot become a pod manifest."""


class ImportPathError(KpoError):
    """The callable has no import path, or nothing importable is at it."""


class ApiError(KpoError):
    """One request to the API server failed.

    `code` is the HTTP status (0 without an answer), `reason` the server's CamelCase word for it ("NotFound").
    """

    def __init__(
        self,
        message: str,
        *,
        verb: str,
        resource: str,
        name: str = "",
        namespace: str = "",
        code: int = 0,
        reason: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.verb = verb
        self.resource = resource
        self.name = name
        self.namespace = namespace
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        super().__init__(message)


class UnauthorizedError(ApiError):
    """The credentials are missing, wrong or expired."""


class ForbiddenError(ApiError):
    """The identity may not do this."""


class NotFoundError(ApiError):
    """No such object, or no such namespace."""


class ConflictError(ApiError):
    """The object exists already, or changed in between."""


class ExpiredError(ApiError):
    """The resourceVersion has left the server's history."""


class InvalidError(ApiError):
    """The server understood the request and found it wrong."""


class NotStartedError(InvalidError):
    """The container has no log yet because it has not started."""


class ThrottledError(ApiError):
    """The server asked for fewer requests until the retry budget was spent."""


class ServerError(ApiError):
    """The server failed until the retry budget was spent."""


class UnreachableError(ApiError):
    """No HTTP answer came back."""


class PodError(KpoError):
    """The pod's story ended badly. `category` is the stable name of the cause (see `pod.diagnose`)."""

    def __init__(self, message: str, *, category: str = "") -> None:
        self.category = category
        super().__init__(message)


class PodConflictError(PodError):
    """The pod's name is taken by somebody else."""


class PodStartError(PodError):
    """The pod cannot start."""


class XComError(KpoError):
    """The result cannot be read."""
