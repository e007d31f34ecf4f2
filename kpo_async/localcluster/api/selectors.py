"""Label and field selectors: their grammar, with a real server's errors, and which objects they match."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kpo_async.localcluster.api import errors
from kpo_async.localcluster.store.labels import Requirement
from kpo_async.localcluster.store.objects import Object

_TOKEN = re.compile(r"\s*(==|=|!=|!|,|\(|\)|<|>|[^\s=!,()<>]+)")
_SYMBOLS = frozenset({"==", "=", "!=", "!", ",", "(", ")", "<", ">"})
_OPERATORS = "in, notin, =, ==, !=, gt, lt"

Matcher = Callable[[Object], bool]


class _LabelTokens:
    """The tokens of a label selector."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._next = 0

    def peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self._next += 1
        return token


def parse_labels(text: str) -> list[Requirement]:
    """Return the terms of a label selector. Raises StatusError (400)."""
    tokens = _LabelTokens(text)
    requirements: list[Requirement] = []
    while tokens.peek():
        requirements.append(_requirement(tokens))
        separator = tokens.take()
        if separator not in ("", ","):
            raise errors.bad_request(f"found '{separator}', expected: ',' or 'end of string'")
        if separator == "," and not tokens.peek():
            raise errors.bad_request("found '', expected: identifier after ','")
    return requirements


def _requirement(tokens: _LabelTokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.take()
        return Requirement(_identifier(tokens), "!")
    key = _identifier(tokens)
    operator = tokens.peek()
    if operator in ("", ","):
        return Requirement(key, "exists")
    tokens.take()
    match operator:
        case "=" | "==":
            return Requirement(key, "in", frozenset({_value(tokens)}))
        case "!=":
            return Requirement(key, "notin", frozenset({_value(tokens)}))
        case "in" | "notin":
            return Requirement(key, operator, frozenset(_values(tokens)))
        case "<" | ">":
            return Requirement(key, operator, frozenset({_identifier(tokens)}))
    raise errors.bad_request(f"unable to parse requirement: found '{operator}', expected: {_OPERATORS}")


def _identifier(tokens: _LabelTokens) -> str:
    token = tokens.take()
    if not token or token in _SYMBOLS:
        raise errors.bad_request(f"unable to parse requirement: found '{token}', expected: identifier")
    return token


def _value(tokens: _LabelTokens) -> str:
    """The right side of an equality, which may be empty."""
    return "" if tokens.peek() in ("", ",") else _identifier(tokens)


def _values(tokens: _LabelTokens) -> Iterator[str]:
    if (opening := tokens.take()) != "(":
        raise errors.bad_request(f"unable to parse requirement: found '{opening}' expected: '('")
    while True:
        yield "" if tokens.peek() in (",", ")") else _identifier(tokens)
        match tokens.take():
            case ")":
                return
            case ",":
                continue
            case token:
                raise errors.bad_request(f"unable to parse requirement: found '{token}', expected: ',' or ')'")


@dataclass(frozen=True)
class FieldTerm:
    """One term of a field selector."""

    field: str
    value: str
    equal: bool


def parse_fields(text: str) -> list[FieldTerm]:
    """Return the terms of a field selector. Raises StatusError (400)."""
    terms = []
    for part in text.split(","):
        if not part:
            continue
        found = re.fullmatch(r"(.*?)(==|!=|=)(.*)", part)
        if found is None:
            raise errors.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        terms.append(FieldTerm(found.group(1), found.group(3), found.group(2) != "!="))
    return terms


_COMMON = {"metadata.name": "metadata.name", "metadata.namespace": "metadata.namespace"}
_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
}


def parse(resource: str, labels: str, fields: str) -> tuple[Matcher | None, str | None]:
    """Return the predicate of both selectors, None when all objects match, and the name that a field term requires.

    Raises StatusError (400) for a syntax error or an unsupported field.
    """
    requirements = parse_labels(labels)
    terms = parse_fields(fields)
    for term in terms:
        _check_field(resource, term.field)
    name = next((term.value for term in terms if term.field == "metadata.name" and term.equal), None)
    if not requirements and not terms:
        return None, None

    def matches(obj: Object) -> bool:
        found = obj["metadata"].get("labels") or {}
        return all(need.matches(found) for need in requirements) and all(
            (_field(obj, term.field) == term.value) is term.equal for term in terms
        )

    return matches, name


def _check_field(resource: str, name: str) -> None:
    if name in _COMMON or name in _FIELDS.get(resource, ()):
        return
    if resource in _FIELDS:
        raise errors.bad_request(f"field label not supported: {name}")
    known = ", ".join(f'"{field}"' for field in _COMMON)
    raise errors.bad_request(f'"{name}" is not a known field selector: only {known}')


def _field(obj: Object, path: str) -> str:
    if path == "source":
        path = "source.component"
    value: Any = obj
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or (value is None and path in ("spec.hostNetwork", "spec.unschedulable")):
        return "true" if value else "false"
    return "" if value is None else str(value)
