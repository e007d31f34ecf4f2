"""A hypothesis strategy of Kubernetes objects, drawn from the table of types (`pod/schema.py`)."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from kpo_async.pod.schema import fields

JINJA = "d-{{ ds }}"
WORDS = st.sampled_from(["a", "b", "c-1", "x", "base", "", JINJA])
LEFT_OUT = {
    "ObjectMeta": {"creationTimestamp", "deletionTimestamp", "managedFields"},  # the server's, ignored on create
    "Pod": {"status"},
    "PodSpec": {"ephemeralContainers"},  # refused on create
}
REQUIRED: Mapping[str, st.SearchStrategy[Any]] = {
    "str": st.sampled_from(["a", "b", "c-1", JINJA]),
    "int": st.sampled_from([0, 1, 30]),
}
TYPED: Mapping[str, st.SearchStrategy[Any]] = {
    "str": WORDS,
    "int": st.sampled_from([0, 1, 30]),
    "bool": st.booleans(),
    "any": st.sampled_from([80, "http"]),
}
AS_IN_YAML: Mapping[str, st.SearchStrategy[Any]] = {
    "str": st.sampled_from(["a", "b", "", JINJA, 1, 0.5, True, None, datetime.date(2026, 1, 2), {"nested": [1]}]),
    "int": st.sampled_from([0, 30, "80", 7.9, True, None]),
    "bool": st.sampled_from([True, False, "false", "", 0, None]),
    "any": st.sampled_from([80, "http"]),
}


@st.composite
def manifests(draw: st.DrawFn, kind: str, scalars: Mapping[str, st.SearchStrategy[Any]] = TYPED) -> Any:
    """A value of the type `kind` of the table: its required fields and up to three others."""
    if kind in scalars:
        return draw(scalars[kind])
    if kind.startswith("["):
        return [draw(manifests(kind[1:-1], scalars)) for _ in range(draw(st.integers(0, 2)))]
    if kind.startswith("{"):
        keys = draw(st.lists(st.sampled_from("abc"), max_size=2))
        return {key: draw(manifests(kind[1:-1], scalars)) for key in keys}
    table = {key: field for key, field in fields()[kind].items() if key not in LEFT_OUT.get(kind, ())}
    required = [key for key, field in table.items() if field.required]
    optional = sorted(set(table) - set(required))
    chosen = draw(st.lists(st.sampled_from(optional), max_size=3, unique=True)) if optional else []
    result = {key: draw(manifests(table[key].type, scalars)) for key in required + chosen}
    for key in required:
        if table[key].type == "str" or result[key] is None:  # that those are missing or empty is another test's
            result[key] = draw(REQUIRED.get(table[key].type, REQUIRED["str"]))
    return result
