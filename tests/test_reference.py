"""The pages of parameters and options agree with the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import kpo_async
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.options import OPTIONS
from scripts.parameters import SECTIONS, Mode
from scripts.reference import render, signature

ENTRIES = {name: entry for entries in SECTIONS.values() for name, entry in entries.items()}


@pytest.mark.parametrize("path", render(), ids=lambda path: path.stem)
def test_the_page_is_current(path: Path):
    assert path.read_text(encoding="utf-8") == render()[path], "run `python -m scripts.reference`"


def test_every_parameter_is_described_exactly_once():
    assert sum(len(entries) for entries in SECTIONS.values()) == len(ENTRIES)
    assert set(ENTRIES) == set(signature())


def test_every_option_is_declared_and_read_as_its_type():
    source = "\n".join(path.read_text(encoding="utf-8") for path in Path(kpo_async.__file__).parent.rglob("*.py"))
    readers = {"switch": "boolean", "integer": "integer", "seconds": "float", "text": "string", "names": "string"}
    read = re.findall(r'(?:\bsettings\.|(?<![.\w]))(switch|integer|seconds|text|names)\("(\w+)"\)', source)
    assert {name for _, name in read} == set(OPTIONS)
    typed = {name: readers[reader] for reader, name in read if reader != "text"}
    assert typed.items() <= {name: option.type for name, option in OPTIONS.items()}.items()
    assert not re.findall(r'conf\.get\w*\(\s*"kpo_async"', source), "read it through kpo_async.hooks.settings"


def test_every_template_field_is_a_parameter():
    assert set(KubernetesPodOperator.template_fields) <= set(signature())


def test_a_parameter_without_effect_says_so():
    without = {name for name, entry in ENTRIES.items() if entry.mode is Mode.NONE}
    assert without == {
        "startup_check_interval_seconds",
        "base_container_status_polling_interval",
        "logging_interval",
    }
    assert all("without effect" in ENTRIES[name].difference for name in without)


def test_parameters_and_defaults_are_the_incumbents_except_where_the_page_says_otherwise():
    incumbent = pytest.importorskip("airflow.providers.cncf.kubernetes.operators.pod").KubernetesPodOperator
    theirs = inspect.signature(incumbent.__init__).parameters
    ours = signature()
    assert {name for name, entry in ENTRIES.items() if entry.difference == "new"} == set(ours) - set(theirs)
    assert {p for p in theirs if theirs[p].kind is inspect.Parameter.KEYWORD_ONLY} <= set(ours)
    changed = {name for name in set(ours) & set(theirs) if ours[name].default != theirs[name].default}
    assert changed == set()
    assert KubernetesPodOperator.template_fields == incumbent.template_fields
