"""Counts requests, and tells them as a real server's `/metrics` does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kpo_async.localcluster.api.route import Route

_VERBS = {"create": "POST", "update": "PUT", "deletecollection": "DELETE"}
_LONG = ("WATCH", "CONNECT")


@dataclass(frozen=True)
class Request:
    """What requests are counted by. `verb` is LIST, WATCH, GET, POST, PUT, PATCH, APPLY, DELETE or CONNECT."""

    verb: str
    resource: str
    subresource: str = ""
    scope: str = ""
    group: str = ""
    dry_run: str = ""

    @classmethod
    def of(cls, route: Route, *, dry_run: bool = False) -> Request:
        verb = "CONNECT" if route.subresource in ("exec", "log") else _VERBS.get(route.verb, route.verb.upper())
        resource = route.resource
        return cls(verb, resource.name, route.subresource, route.scope, resource.group, "All" if dry_run else "")


class Metrics:
    """Counters of a server since it was made."""

    def __init__(self) -> None:
        self.started: Counter[Request] = Counter()
        """Requests by kind, counted when they arrive."""
        self.finished: Counter[tuple[Request, int]] = Counter()
        """Requests by kind and HTTP status, counted when they have been answered (a watch: when it ends)."""
        self.running: Counter[Request] = Counter()
        """Requests under way."""
        self.connections = 0
        """TCP connections accepted."""

    def count(self, verb: str = "", resource: str = "") -> int:
        """How many requests have arrived, of a verb (LIST, GET, ...) and a resource, or all."""
        return sum(
            number
            for request, number in self.started.items()
            if verb in ("", request.verb) and resource in ("", request.resource)
        )

    def begin(self, request: Request) -> None:
        self.started[request] += 1
        self.running[request] += 1

    def end(self, request: Request, code: int) -> None:
        self.running[request] -= 1
        self.finished[request, code] += 1

    def render(self) -> str:
        """The text that Prometheus reads."""
        lines = [
            "# HELP apiserver_longrunning_requests [STABLE] Gauge of all active long-running apiserver requests.",
            "# TYPE apiserver_longrunning_requests gauge",
        ]
        for request, number in self.running.items():
            if number and request.verb in _LONG:
                labels = _labels(request, {"component": "apiserver"})
                lines.append(f"apiserver_longrunning_requests{{{labels}}} {number}")
        lines += [
            "# HELP apiserver_request_total [STABLE] Counter of apiserver requests.",
            "# TYPE apiserver_request_total counter",
        ]
        for (request, code), number in self.finished.items():
            labels = _labels(request, {"code": str(code), "component": "apiserver", "dry_run": request.dry_run})
            lines.append(f"apiserver_request_total{{{labels}}} {number}")
        return "\n".join(lines) + "\n"


def _labels(request: Request, more: dict[str, str]) -> str:
    values = {
        **more,
        "group": request.group,
        "resource": request.resource,
        "scope": request.scope,
        "subresource": request.subresource,
        "verb": request.verb,
        "version": "v1",
    }
    return ",".join(f'{key}="{values[key]}"' for key in sorted(values))
