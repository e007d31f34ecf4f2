"""What the API server answers when it refuses: a `Status` object, with the texts of a real server.

`Refusal` is raised anywhere below the HTTP layer and becomes the response there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.store.store import Object

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True)
class Cause:
    """One field that is wrong, as in `details.causes`."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_dict(self) -> Object:
        return {"reason": self.reason, "message": self.message, "field": self.field}


class Refusal(Exception):
    """A request that is answered with a `Status` of failure."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Object | None = None,
        retry_after: int | None = None,
    ) -> None:
        """`reason` "" leaves it out, as a real server does for some 500s; None takes the usual one of `code`."""
        self.code = code
        self.message = message
        self.reason = _REASONS[code] if reason is None else reason
        self.details = details
        self.retry_after = retry_after
        self.continue_token: str | None = None
        """Where a list that has become too old could be continued inconsistently."""
        super().__init__(message)

    def status(self) -> Object:
        """The `Status` object."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {"continue": self.continue_token} if self.continue_token else {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        details = dict(self.details) if self.details is not None else None
        if self.retry_after is not None:
            details = {**(details or {}), "retryAfterSeconds": self.retry_after}
        if details is not None:
            status["details"] = details
        status["code"] = self.code
        return status


def success(code: int | None = None, details: Object | None = None) -> Object:
    """The `Status` of a request that has nothing else to answer."""
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        status["details"] = details
    if code is not None:
        status["code"] = code
    return status


def bad_request(message: str) -> Refusal:
    return Refusal(400, message)


def not_found(resource: str, name: str, group: str = "") -> Refusal:
    return Refusal(404, f'{qualified(resource, group)} "{name}" not found', details=details(resource, name, group))


def no_such_resource() -> Refusal:
    return Refusal(404, "the server could not find the requested resource", details={})


def method_not_allowed() -> Refusal:
    return Refusal(405, "the server does not allow this method on the requested resource", details={})


def already_exists(resource: str, name: str, group: str = "", *, dying: bool = False) -> Refusal:
    return Refusal(
        409,
        f'{"object is being deleted: " if dying else ""}{qualified(resource, group)} "{name}" already exists',
        reason="AlreadyExists",
        details=details(resource, name, group),
    )


def conflict(resource: str, name: str, message: str, group: str = "") -> Refusal:
    return Refusal(
        409,
        f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {message}',
        details=details(resource, name, group),
    )


def modified(resource: str, name: str, group: str = "") -> Refusal:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
        group,
    )


def forbidden(resource: str, name: str, message: str, group: str = "") -> Refusal:
    subject = qualified(resource, group) + (f' "{name}"' if name else "")
    return Refusal(403, f"{subject} is forbidden: {message}", details=details(resource, name, group))


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> Refusal:
    listed = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        listed = f"[{listed}]"
    subject = f"{kind}.{group}" if group else kind
    found = {**details(kind, name, group), "causes": [cause.to_dict() for cause in causes]}
    return Refusal(422, f'{subject} "{name}" is invalid: {listed}', details=found)


def invalid_options(kind: str, field: str, message: str, reason: str = "FieldValueForbidden") -> Refusal:
    """A wrong query parameter, as `ListOptions.meta.k8s.io "" is invalid: ...`."""
    return invalid(kind, "", [Cause(reason, field, message)], "meta.k8s.io")


def expired(message: str) -> Refusal:
    return Refusal(410, message)


def too_large_version(wanted: int, current: int) -> Refusal:
    """A resourceVersion of the future."""
    return Refusal(
        504,
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
        retry_after=1,
    )


def qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def details(kind: str, name: str, group: str) -> dict[str, Any]:
    found = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in found.items() if value}
