"""Options of `[kpo_async]`, as people write them."""

from __future__ import annotations

import pytest

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.settings import (
    companion_grace,
    diagnosis_is_pushed,
    ignored_companions,
    integer,
    quota_time_limit,
    seconds,
    switch,
    text,
)
from kpo_async.options import OPTIONS


@pytest.mark.parametrize(
    ("value", "on"), [("on", True), ("off", False), ("True", True), ("false", False), ("0", False), ("", True)]
)
def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, value: str, on: bool) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__PUSH_DIAGNOSIS", value)
    assert diagnosis_is_pushed() is on


def test_an_option_that_is_not_set_has_its_default() -> None:
    assert diagnosis_is_pushed() is True
    assert quota_time_limit() == 0


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_and_examples_are_values_that_the_option_takes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    read = {"boolean": switch, "integer": integer, "float": seconds, "string": text}[OPTIONS[name].type]
    default = read(name)
    assert str(default).removesuffix(".0") == OPTIONS[name].default
    if example := OPTIONS[name].example:
        monkeypatch.setenv(f"AIRFLOW__KPO_ASYNC__{name.upper()}", example)
        assert read(name) not in ("", default)


@pytest.mark.parametrize("value", ["many", "-1", "1.5"])
def test_a_number_that_is_not_whole_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__MAX_PODS", value)
    with pytest.raises(ConfigError, match=r"\[kpo_async\] max_pods is .*: write a whole number, 0 or more"):
        integer("max_pods")


def test_a_switch_that_is_neither_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__PUSH_DIAGNOSIS", "sometimes")
    with pytest.raises(ConfigError, match=r"\[kpo_async\] push_diagnosis is 'sometimes': write on or off"):
        diagnosis_is_pushed()


@pytest.mark.parametrize("value", ["long", "-1", "nan", "inf"])
def test_seconds_that_are_no_number_are_refused_by_their_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__WAIT_FOR_QUOTA", value)
    with pytest.raises(ConfigError, match=r"\[kpo_async\] wait_for_quota is"):
        quota_time_limit()


@pytest.mark.parametrize(("value", "grace"), [("", 60), ("0", 0), ("None", None), ("600", 600)])
def test_the_default_grace_of_companions(monkeypatch: pytest.MonkeyPatch, value: str, grace: float | None) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__COMPANION_GRACE_SECONDS", value)
    assert companion_grace() == grace


@pytest.mark.parametrize(("value", "ignored"), [("", None), ("true", True), ("proxy, metrics", ["proxy", "metrics"])])
def test_the_companions_that_are_ignored_by_default(
    monkeypatch: pytest.MonkeyPatch, value: str, ignored: list[str] | bool | None
) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__IGNORE_COMPANIONS", value)
    assert ignored_companions() == ignored
