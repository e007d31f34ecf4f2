"""Counts requests, and renders the counters as a real server's `/metrics` does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from kpo_async.localcluster.api.request_info import RequestInfo

_VERBS = {"create": "POST", "update": "PUT", "deletecollection": "DELETE"}
_LONG_RUNNING = ("WATCH", "CONNECT")


@dataclass(frozen=True)
class RequestLabels:
    """The labels of the counters. `verb` is LIST, WATCH, GET, POST, PUT, PATCH, APPLY, DELETE or CONNECT."""

    verb: str
    resource: str
    subresource: str = ""
    scope: str = ""
    group: str = ""
    dry_run: str = ""

    @classmethod
    def of(cls, info: RequestInfo, *, dry_run: bool = False) -> RequestLabels:
        """Return the labels of a request."""
        verb = "CONNECT" if info.subresource in ("exec", "log") else _VERBS.get(info.verb, info.verb.upper())
        resource = info.resource
        return cls(verb, resource.name, info.subresource, info.scope, resource.group, "All" if dry_run else "")


class Metrics:
    """Counters since the server's creation."""

    def __init__(self) -> None:
        self.started: Counter[RequestLabels] = Counter()
        """Requests, counted when they arrive."""
        self.finished: Counter[tuple[RequestLabels, int]] = Counter()
        """Requests by HTTP status, counted when they have been answered (a watch: when it ends)."""
        self.running: Counter[RequestLabels] = Counter()
        """Requests in progress."""

    def count(self, verb: str = "", resource: str = "") -> int:
        """Return the number of requests that have arrived: of a verb (LIST, GET, ...), of a resource, or all."""
        return sum(
            number
            for labels, number in self.started.items()
            if verb in ("", labels.verb) and resource in ("", labels.resource)
        )

    def begin(self, labels: RequestLabels) -> None:
        """Count a request that has arrived."""
        self.started[labels] += 1
        self.running[labels] += 1

    def end(self, labels: RequestLabels, code: int) -> None:
        """Count a request that has been answered; 0 stands for no answer."""
        self.running[labels] -= 1
        self.finished[labels, code] += 1

    def render(self) -> str:
        """Return the counters in the text format of Prometheus."""
        lines = [
            "# HELP apiserver_longrunning_requests [STABLE] Gauge of all active long-running apiserver requests.",
            "# TYPE apiserver_longrunning_requests gauge",
        ]
        for labels, number in self.running.items():
            if number and labels.verb in _LONG_RUNNING:
                text = _render(labels, {"component": "apiserver"})
                lines.append(f"apiserver_longrunning_requests{{{text}}} {number}")
        lines += [
            "# HELP apiserver_request_total [STABLE] Counter of apiserver requests.",
            "# TYPE apiserver_request_total counter",
        ]
        for (labels, code), number in self.finished.items():
            text = _render(labels, {"code": str(code), "component": "apiserver", "dry_run": labels.dry_run})
            lines.append(f"apiserver_request_total{{{text}}} {number}")
        return "\n".join(lines) + "\n"


def _render(labels: RequestLabels, more: dict[str, str]) -> str:
    values = {
        **more,
        "group": labels.group,
        "resource": labels.resource,
        "scope": labels.scope,
        "subresource": labels.subresource,
        "verb": labels.verb,
        "version": "v1",
    }
    return ",".join(f'{key}="{values[key]}"' for key in sorted(values))
