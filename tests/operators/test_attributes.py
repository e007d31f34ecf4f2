"""An operator's attributes, as subclasses of the incumbent use them: their forms, and overrides by properties."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import pytest
from airflow.sdk import DAG

from kpo_async.exceptions import ManifestError
from kpo_async.operators import attributes
from kpo_async.operators.base import PodOperatorBase
from kpo_async.operators.deprecated import MISSING
from kpo_async.operators.pod import KubernetesPodOperator
from kpo_async.pod.build import ConnectionDefaults

incumbent = pytest.importorskip("tests.incumbent", reason="the incumbent is not installed", exc_type=ImportError)
OPERATORS = [pytest.param(incumbent.KubernetesPodOperator, id="incumbent"), KubernetesPodOperator]

GIVEN: Mapping[str, dict[str, Any]] = {
    "nothing": {},
    "one callback": {"callbacks": int},
    "a list of callbacks": {"callbacks": [int, str]},
    "one exit code": {"skip_on_exit_code": 3},
    "exit code 0": {"skip_on_exit_code": 0},
    "a tuple of exit codes": {"skip_on_exit_code": (3, 4)},
    "a range of exit codes": {"skip_on_exit_code": range(3, 9)},
    "one container's log": {"container_logs": "side"},
    "all containers' logs": {"container_logs": True, "init_container_logs": ("a", "b")},
    "a base container": {"base_container_name": "main"},
    "not durable": {"durable": False},
    "a timeout": {"startup_timeout_seconds": 7},
    "empty values": {"cmds": [], "labels": {}, "env_vars": {}, "affinity": {}, "tolerations": [], "image": ""},
    "tuples": {"arguments": ("a",), "configmaps": ("c",)},
    "variables": {"env_vars": {"A": "1"}},
    "actions": {"on_finish_action": "keep_pod", "on_kill_action": "keep_pod"},
}


def comparable(value: Any) -> Any:
    """Return the value with its type. The enums of the two packages are equal in what they are to users: strings."""
    return (str, value.value) if isinstance(value, enum.Enum) else (type(value), value)


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_every_attribute_has_the_incumbents_type_and_value(given: dict[str, Any]) -> None:
    theirs = incumbent.operator({"task_id": "t", **given}, ConnectionDefaults(), False)
    ours = KubernetesPodOperator(task_id="t", **given)
    names = {name for name in vars(theirs) if not name.startswith("_")} - {"hook"} | {"container_logs"}
    assert len(names) > 100
    assert {name: comparable(getattr(ours, name)) for name in names} == {
        name: comparable(getattr(theirs, name)) for name in names
    }


def test_every_public_name_of_the_incumbent_is_there_or_says_what_to_do_instead() -> None:
    names = {name for name in dir(incumbent.KubernetesPodOperator) if not name.startswith("_")}
    operator = KubernetesPodOperator(task_id="t")
    assert {name for name in names if not hasattr(type(operator), name) and not hasattr(operator, name)} == set(MISSING)
    with pytest.raises(AttributeError, match=r"Operator\.pod_manager is not part of kpo_async's.*use self\.client"):
        operator.pod_manager  # noqa: B018


@pytest.mark.parametrize("base", OPERATORS)
def test_a_subclass_may_append_to_what_was_not_given(base: Any) -> None:
    class Operator(base):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.callbacks.append(Callback)
            self.skip_on_exit_code.append(99)
            self.image_pull_secrets.append({"name": "more"})
            self.reattach_on_restart = False

    class Callback: ...

    operator = Operator(task_id="t", image_pull_secrets="first")
    assert (operator.callbacks, operator.skip_on_exit_code) == ([Callback], [99])
    assert len(operator.image_pull_secrets) == 2


def overriding(base: Any) -> dict[str, Any]:
    """Return subclasses that override access to parameters, by what they do it with."""

    class Properties(base):  # type: ignore[misc]
        @property
        def arguments(self) -> list[str]:
            return ["--date", *self._arguments]

        @arguments.setter
        def arguments(self, value: list[str]) -> None:
            self._arguments = value

        @property
        def image(self) -> str:
            return f"registry.example/{self._image}"

        @image.setter
        def image(self, value: str) -> None:
            self._image = value

        @property
        def env_vars(self) -> Any:
            return self.__dict__.get("env_vars") or {"FROM": "property"}

        @env_vars.setter
        def env_vars(self, value: Any) -> None:
            self.__dict__["env_vars"] = value

    class Default:
        def __init__(self, value: str) -> None:
            self.value = value

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type) -> Any:
            return self if instance is None else instance.__dict__.get(self.name) or self.value

        def __set__(self, instance: Any, value: Any) -> None:
            instance.__dict__[self.name] = value

    class Descriptors(base):  # type: ignore[misc]
        namespace: Any = Default("from-descriptor")
        service_account_name: Any = Default("robot")

    class Mixin:
        @property
        def labels(self) -> dict[str, str]:
            return {"team": "data", **self.__dict__["labels"]}

        @labels.setter
        def labels(self, value: dict[str, str]) -> None:
            self.__dict__["labels"] = value

    class After(base, Mixin):  # type: ignore[misc]
        """Its property comes after the operator in the order of resolution."""

    class SetAttr(base):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, f"{value}:pinned" if name == "image" else value)

    class GetAttribute(base):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            return 7 if name == "termination_grace_period" else super().__getattribute__(name)

    class GetAttr(base):  # type: ignore[misc]
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            del self.__dict__["hostname"]

        def __getattr__(self, name: str) -> Any:
            if name == "hostname":
                return "found"
            raise AttributeError(name)

    return {
        "properties": Properties,
        "descriptors": Descriptors,
        "a mixin": After,
        "__setattr__": SetAttr,
        "__getattribute__": GetAttribute,
        "__getattr__": GetAttr,
    }


def manifest(kind: Any) -> dict[str, Any]:
    operator = kind(task_id="t", name="pod", image="busybox", arguments=["{{ ds }}"], random_name_suffix=False)
    operator.render_template_fields(incumbent.context(None))
    built: dict[str, Any] = incumbent.plain(operator.build_pod_request_obj(dry_run=True))
    return built


@pytest.mark.parametrize("way", overriding(KubernetesPodOperator))
def test_overridden_parameters_shape_the_pod_as_at_the_incumbent(way: str) -> None:
    theirs, ours = (
        manifest(overriding(base)[way]) for base in (incumbent.KubernetesPodOperator, KubernetesPodOperator)
    )
    for parts in (theirs["metadata"]["labels"], ours["metadata"]["labels"]):
        for own in ("airflow_version", "kpo-async/managed", "kubernetes_pod_operator"):
            parts.pop(own, None)
    assert ours["metadata"]["labels"] == theirs["metadata"]["labels"]
    base = ours["spec"]["containers"][0]
    assert {key: base.get(key) for key in ("image", "args", "env")} == {
        key: theirs["spec"]["containers"][0].get(key) for key in ("image", "args", "env")
    }
    for key in ("serviceAccountName", "hostname", "terminationGracePeriodSeconds"):
        assert ours["spec"].get(key) == theirs["spec"].get(key)
    assert ours["metadata"].get("namespace") == theirs["metadata"].get("namespace")
    plain = manifest(KubernetesPodOperator)
    assert (ours["spec"], ours["metadata"]) != (plain["spec"], plain["metadata"]), "the override did nothing"


def test_a_property_that_only_a_running_task_can_read_does_not_break_the_dag_file() -> None:
    class Operator(KubernetesPodOperator):
        @property
        def active_deadline_seconds(self) -> int:
            raise RuntimeError("asked at parse")

        @active_deadline_seconds.setter
        def active_deadline_seconds(self, value: Any) -> None: ...

    with DAG("dag", schedule=None):
        operator = Operator(task_id="t", image="busybox")
    with pytest.raises(RuntimeError, match="asked at parse"):
        operator.build_pod_request_obj()


def test_a_property_that_cannot_be_set_is_refused_as_by_the_incumbent() -> None:
    for base in (incumbent.KubernetesPodOperator, KubernetesPodOperator):
        kind = type("Operator", (base,), {"image": property(lambda self: "busybox")})
        with pytest.raises(AttributeError, match="setter"):
            kind(task_id="t")


def test_a_task_whose_result_a_property_takes_is_upstream() -> None:
    kind = overriding(KubernetesPodOperator)["properties"]
    with DAG("dag", schedule=None):
        first = KubernetesPodOperator(task_id="first", do_xcom_push=True)
        second = kind(task_id="second", arguments=[first.output])
    assert second.upstream_task_ids == {"first"}


def test_a_class_that_overrides_no_parameter_keeps_the_fast_way() -> None:
    class Operator(KubernetesPodOperator):
        image = "a default that the parameter hides"
        team = property(lambda self: "data")

    for kind in (KubernetesPodOperator, Operator):
        assert attributes.are_plain(kind, PodOperatorBase)
    assert Operator(task_id="t", image="busybox").image == "busybox"
    assert not any(attributes.are_plain(kind, PodOperatorBase) for kind in overriding(KubernetesPodOperator).values())


def test_parameters_of_such_a_class_are_checked_at_parse_too() -> None:
    with pytest.raises(ManifestError, match="task 't': labels"):
        overriding(KubernetesPodOperator)["properties"](task_id="t", labels=["a"])


def test_an_operators_template_fields_are_those_that_have_a_value() -> None:
    operator = KubernetesPodOperator(task_id="t", image="busybox", arguments=["{{ ds }}"], labels={}, cmds=[])
    assert operator.template_fields == ("image", "arguments", "kubernetes_conn_id", "base_container_name")
    assert {"labels", "cmds", *operator.template_fields} < set(KubernetesPodOperator.template_fields)


def test_a_field_that_is_set_after_construction_is_rendered() -> None:
    class Late(KubernetesPodOperator):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.cmds = ["echo", "{{ ds }}"]

    operator = Late(task_id="t")
    operator.render_template_fields({"ds": "2026-01-02"})  # type: ignore[typeddict-item]
    assert operator.cmds == ["echo", "2026-01-02"]
