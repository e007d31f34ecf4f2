"""Every error that this library raises, as one tree.

    KpoError
    ├── ConfigError            the cluster's configuration: no kubeconfig, unknown context, two sources
    ├── ApiError               a request failed (verb, resource, name, namespace, code, reason)
    │   ├── UnauthorizedError      401, even after one refresh of the credentials
    │   ├── ForbiddenError         403
    │   ├── NotFoundError          404
    │   ├── ConflictError          409
    │   ├── ExpiredError           410: the resourceVersion is older than the server's history
    │   ├── InvalidError           400, 413 and 422: the request itself is wrong
    │   │   └── NotStartedError        400 for the log of a container that has not started yet
    │   ├── ThrottledError         429 until the retry budget was spent
    │   ├── ServerError            5xx until the retry budget was spent
    │   └── UnreachableError       no HTTP response: DNS, refused, reset, TLS, time-out
    ├── IncompatibleError      a value that another version of this library wrote; a `TypeError`, too
    ├── ManifestError          parameters that cannot become a pod manifest
    ├── ImportPathError        a callable that another process cannot import
    ├── CallbackTimeoutError   a user's callback that has outlasted the task's execution_timeout
    ├── PodError               there is no pod for this task
    │   ├── PodConflictError       another owner's pod has the name
    │   └── PodStartError          the pod cannot be created: quota, Pod Security
    └── XComError              the result file is missing, truncated or not valid JSON

How a pod ended is a value, not an error: see `pod.causes.Category`.

Messages name what is wrong, where, and what to do. They hold no secrets, and at most `MESSAGE_LIMIT` bytes.
"""

from __future__ import annotations

MESSAGE_LIMIT = 1024
"""Longest error message in bytes of UTF-8: it must fit a log line and a database column."""


def clip(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Return `text` cut to `limit` bytes of UTF-8, ending in `...` where something was cut."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return text
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."


class KpoError(Exception):
    """Base of all errors that kpo_async raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(clip(message))


class ConfigError(KpoError):
    """The configuration does not lead to a cluster."""


class IncompatibleError(KpoError, TypeError):
    """A stored value that this version cannot read.

    It is a `TypeError` because Airflow's triggerer outlives only that in a trigger's constructor. Any other error ends
    the triggerer, with all its triggers, and again each time it starts (`TriggerRunner.create_triggers`).
    """


class ManifestError(KpoError):
    """The parameters cannot become a pod manifest."""


class ImportPathError(KpoError):
    """The callable has no import path, or nothing importable is at it."""


class CallbackError(KpoError):
    """A user's callback raised an exception in the triggerer."""


class CallbackTimeoutError(KpoError):
    """A user's callback had not returned when the task's execution_timeout passed."""


class ApiError(KpoError):
    """One request to the API server failed.

    `code` is the HTTP status (0 without a response), `reason` the server's CamelCase word for it ("NotFound").
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
    """The object already exists, or has changed meanwhile."""


class ExpiredError(ApiError):
    """The resourceVersion is older than the server's history."""


class InvalidError(ApiError):
    """The server found the request itself wrong."""


class NotStartedError(InvalidError):
    """The container has no log yet because it has not started."""


class ThrottledError(ApiError):
    """The server throttled the request until the retry budget was spent."""


class ServerError(ApiError):
    """The server failed until the retry budget was spent."""


class UnreachableError(ApiError):
    """The server sent no HTTP response."""


class PodError(KpoError):
    """There is no pod for this task. `category` is the stable name of the cause (see `pod.causes`)."""

    def __init__(self, message: str, *, category: str = "") -> None:
        self.category = category
        super().__init__(message)


class PodConflictError(PodError):
    """The pod's name belongs to a pod of another owner."""


class PodStartError(PodError):
    """The API server refused the pod: quota, Pod Security."""


class XComError(KpoError):
    """The result file is missing, truncated or not valid JSON."""
