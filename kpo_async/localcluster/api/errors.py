"""The errors of the API: `Status` objects with the texts of a real server.

`StatusError` is raised anywhere below the HTTP layer, which turns it into the response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kpo_async.localcluster.store.objects import Object

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
    """One invalid field, as in `details.causes`."""

    reason: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"

    def to_dict(self) -> Object:
        """Return the cause as JSON."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class StatusError(Exception):
    """A request that is answered with a `Status` of failure (apimachinery's StatusError)."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        reason: str | None = None,
        details: Object | None = None,
        retry_after: int | None = None,
    ) -> None:
        """`reason` "" omits it, as a real server does for some 500s; None takes the usual one for `code`."""
        self.code = code
        self.message = message
        self.reason = _REASONS[code] if reason is None else reason
        self.details = details
        self.retry_after = retry_after
        self.continue_token: str | None = None
        """The token to continue a list inconsistently whose version has expired."""
        super().__init__(message)

    def status(self) -> Object:
        """Return the `Status` object."""
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


class NotFound(StatusError):
    """404: the object does not exist."""

    def __init__(self, resource: str, name: str, group: str = "") -> None:
        message = f'{qualified(resource, group)} "{name}" not found'
        super().__init__(404, message, details=details(resource, name, group))


def success(code: int | None = None, details: Object | None = None) -> Object:
    """Return the `Status` of a successful request that has no object to return."""
    status: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details is not None:
        status["details"] = details
    if code is not None:
        status["code"] = code
    return status


def bad_request(message: str) -> StatusError:
    return StatusError(400, message)


def no_such_resource() -> StatusError:
    return StatusError(404, "the server could not find the requested resource", details={})


def method_not_allowed() -> StatusError:
    return StatusError(405, "the server does not allow this method on the requested resource", details={})


def already_exists(resource: str, name: str, group: str = "", *, deleting: bool = False) -> StatusError:
    return StatusError(
        409,
        f'{"object is being deleted: " if deleting else ""}{qualified(resource, group)} "{name}" already exists',
        reason="AlreadyExists",
        details=details(resource, name, group),
    )


def conflict(resource: str, name: str, message: str, group: str = "") -> StatusError:
    return StatusError(
        409,
        f'Operation cannot be fulfilled on {qualified(resource, group)} "{name}": {message}',
        details=details(resource, name, group),
    )


def modified(resource: str, name: str, group: str = "") -> StatusError:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
        group,
    )


def forbidden(resource: str, name: str, message: str, group: str = "") -> StatusError:
    subject = qualified(resource, group) + (f' "{name}"' if name else "")
    return StatusError(403, f"{subject} is forbidden: {message}", details=details(resource, name, group))


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> StatusError:
    listed = ", ".join(str(cause) for cause in causes)
    if len(causes) > 1:
        listed = f"[{listed}]"
    subject = f"{kind}.{group}" if group else kind
    found = {**details(kind, name, group), "causes": [cause.to_dict() for cause in causes]}
    return StatusError(422, f'{subject} "{name}" is invalid: {listed}', details=found)


def invalid_options(kind: str, field: str, message: str, reason: str = "FieldValueForbidden") -> StatusError:
    """An invalid query parameter: `ListOptions.meta.k8s.io "" is invalid: ...`."""
    return invalid(kind, "", [Cause(reason, field, message)], "meta.k8s.io")


def expired(message: str) -> StatusError:
    return StatusError(410, message)


def too_large_version(wanted: int, current: int) -> StatusError:
    """A resourceVersion that the server has not reached yet."""
    return StatusError(
        504,
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
        retry_after=1,
    )


def qualified(resource: str, group: str) -> str:
    """`roles.rbac.authorization.k8s.io`; a resource of the core group has no suffix."""
    return f"{resource}.{group}" if group else resource


def details(kind: str, name: str, group: str) -> Object:
    """Return `Status.details` about an object."""
    found = {"name": name, "group": group, "kind": kind}
    return {key: value for key, value in found.items() if value}
