"""Import paths: which objects have one, and which are refused."""

from __future__ import annotations

import functools
import json
import types

import pytest

from kpo_async.callbacks import KubernetesPodOperatorCallback
from kpo_async.exceptions import ImportPathError
from kpo_async.import_path import from_import_path, to_import_path

ROUND_TRIPS = {
    "class": KubernetesPodOperatorCallback,
    "function": json.dumps,
    "static method": KubernetesPodOperatorCallback.on_pod_creation,
}


@pytest.mark.parametrize("obj", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
def test_an_object_of_a_module_is_found_by_its_path(obj: object):
    assert from_import_path(to_import_path(obj)) is obj


def _in_a_dag_file() -> type:
    return type("Mine", (), {"__module__": "unusual_prefix_0123abcd_my_dag"})


def _shadowed() -> types.FunctionType:
    function = types.FunctionType((lambda: None).__code__, {}, "dumps")
    function.__module__, function.__qualname__ = "json", "dumps"
    return function


REFUSED = {
    "lambda": (lambda: None, "exists only while its function runs"),
    "partial": (functools.partial(print), "partial objects have no import path"),
    "instance": (KubernetesPodOperatorCallback(), "KubernetesPodOperatorCallback objects have no import path"),
    "class of a DAG file": (_in_a_dag_file(), "is defined in the DAG file"),
    "another object of the name": (_shadowed(), "json:dumps is something else when it is imported"),
}


@pytest.mark.parametrize(("obj", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_object_without_a_path_is_refused_with_the_reason(obj: object, reason: str):
    with pytest.raises(ImportPathError, match=reason):
        to_import_path(obj)


MISSING = {
    "no such module": ("no_such_module_anywhere:thing", "cannot be imported on host"),
    "no such name": ("json:no_such_name", "has no 'no_such_name'"),
}


@pytest.mark.parametrize(("path", "reason"), MISSING.values(), ids=MISSING)
def test_an_error_about_a_wrong_path_names_the_host(path: str, reason: str):
    with pytest.raises(ImportPathError, match=reason):
        from_import_path(path)
