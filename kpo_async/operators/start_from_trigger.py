"""Which tasks start in the triggerer, without a worker, and what the trigger is given to start one.

Airflow's scheduler defers a task whose `start_from_trigger` is True and stores its `start_trigger_args` as the trigger.
Both are computed when Airflow serializes the DAG, as late as possible: a subclass may change attributes in its
constructor, and the DAG may get its macros later. The trigger is `workerless.trigger`.

Parameters travel as JSON text, unrendered. They cannot be taken from the serialized DAG, which has template fields
only, and cuts long ones. What a task is mapped over stays in the DAG: it would be too much for each trigger's row.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions._internal.types import NOTSET
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial
from airflow.sdk.definitions.param import ParamsDict

from kpo_async.exceptions import ConfigError
from kpo_async.hooks import settings
from kpo_async.import_path import to_import_path
from kpo_async.json_types import Json
from kpo_async.operators.plain import NotPlainError, can_be_read, encode, is_json, reference

if TYPE_CHECKING:
    from airflow.sdk.bases.operator import BaseOperator
    from airflow.triggers.base import StartTriggerArgs

    from kpo_async.operators.base import PodOperatorBase

TRIGGER = "kpo_async.workerless.trigger.KubernetesPodStartTrigger"
UNSTARTED = "unstarted"
"""The `status` of the event with which that trigger leaves a task to a worker."""
OURS = ("kpo_async.operators.", "kpo_async.decorators.")
"""Packages of the operators that can be made again in a triggerer."""
SETTINGS = frozenset({"start_from_trigger", "deferrable", "reattach_on_restart", "is_delete_operator_pod"})
"""Parameters that say nothing about the pod, or that others have replaced."""
HARMLESS_OVERRIDES = frozenset(
    {
        *("__init__", "__module__", "__doc__", "__annotations__", "__abstractmethods__", "__parameters__"),
        *("__firstlineno__", "__static_attributes__", "__slots__", "__dict__", "__weakref__", "_abc_impl"),
        *("BASE_CONTAINER_NAME", "custom_operator_name", "template_fields_renderers", "ui_color", "ui_fgcolor"),
        *("_BaseOperatorMeta__param_names", "shallow_copy_attrs", "operator_extra_links"),
    }
)
"""What a subclass may define and still be started as a `KubernetesPodOperator` with its attributes."""
WORKER_CALLS_FIRST = {"pre_execute": "_pre_execute_hook", "on_execute_callback": "on_execute_callback"}
WORKER_CALLS_LAST = {
    "outlets": "outlets",
    "post_execute": "_post_execute_hook",
    "on_success_callback": "on_success_callback",
    "map_index_template": "map_index_template",
    "returns_dag_result": "returns_dag_result",
}
"""What only a worker does before and after a task: parameter -> an operator's attribute."""
WORKER_FAILS = ("on_failure_callback", "on_retry_callback", "retry_policy")
"""What a failure involves that only a worker does right, besides e-mails."""
LIMITS = ("max_active_tis_per_dag", "max_active_tis_per_dagrun")
DAG_TEMPLATING = ("user_defined_macros", "user_defined_filters", "jinja_environment_kwargs")

Setting = Callable[[str], Any]
"""The value of one of Airflow's own parameters of a task, by its name."""


class StartFromTrigger:
    """The attribute `start_from_trigger`: set to what the user wants, it reads as what is possible; False of a class.

    Airflow reads it of the class, too, where a decorated task is mapped.
    """

    def __get__(self, operator: PodOperatorBase | None, owner: type | None = None) -> bool:
        return operator is not None and is_wanted(vars(operator)) and reason_for_worker(operator) is None

    def __set__(self, operator: PodOperatorBase, value: bool | None) -> None:
        vars(operator)["start_from_trigger"] = value


class StartArguments:
    """The attribute `start_trigger_args`: None unless the task starts in the triggerer."""

    def __get__(self, operator: PodOperatorBase | None, owner: type | None = None) -> StartTriggerArgs | None:
        if operator is None or not operator.start_from_trigger:
            return None
        kind, setting = type(operator), _setting_of(operator)
        sent = _send(kind, parameters_of(operator), vars(operator))
        return _start_trigger_args(
            kind,
            sent,
            setting,
            bool(operator.multiple_outputs),
            dag=operator.get_dag(),
            mapped_over=is_mapped_over(operator),
        )

    def __set__(self, operator: PodOperatorBase, value: object) -> None:
        raise AttributeError("start_trigger_args follow from the other parameters")


class PodOperatorPartial(OperatorPartial):
    """What `KubernetesPodOperator.partial()` returns: its mapped tasks start in the triggerer, too."""

    def expand(self, **mapped_kwargs: Any) -> MappedOperator:
        """See Airflow's."""
        return with_start(super().expand(**mapped_kwargs))

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> MappedOperator:
        """See Airflow's."""
        return with_start(super().expand_kwargs(kwargs, strict=strict))


def partial_of(given: OperatorPartial) -> PodOperatorPartial:
    """Return Airflow's partial as ours."""
    given._expand_called = True  # this one will not be: no warning
    return PodOperatorPartial(operator_class=given.operator_class, kwargs=given.kwargs, params=given.params)


def is_wanted(parameters: Mapping[str, Any]) -> bool:
    """Whether the task should start in the triggerer, by its parameter or the deployment's default."""
    wanted = parameters.get("start_from_trigger")
    if wanted is None:
        wanted = settings.switch("start_from_trigger")
    return bool(wanted and parameters.get("deferrable"))


def check_start(parameters: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a task that is to start in the triggerer and cannot defer."""
    if parameters.get("start_from_trigger") not in (None, True, False):
        raise ConfigError(f"start_from_trigger is {parameters['start_from_trigger']!r}: give True or False")
    if parameters.get("start_from_trigger") and not parameters.get("deferrable"):
        raise ConfigError("start_from_trigger=True needs deferrable=True: a task that does not defer has no trigger")


def is_mapped_over(operator: BaseOperator) -> bool:
    """Whether tasks are mapped over the result of this one: Airflow's scheduler then needs its length."""
    return operator.get_dag() is not None and next(operator.iter_mapped_dependants(), None) is not None


def reason_for_worker(operator: PodOperatorBase) -> str | None:
    """Return why a worker has to start this task; None when the triggerer can.

    An instance of a mapped task, as a worker has it, has the reasons of the mapped task.
    """
    dag = operator.get_dag()
    task: Any = None if dag is None else dag.task_dict.get(operator.task_id)
    if task is not None and task.is_mapped:
        return reason_for_worker_of_mapped(task)
    return next(_reasons(operator), None)


def parameters_of(operator: PodOperatorBase) -> dict[str, Any]:
    """Return the parameters of a task that differ from their defaults, by name."""
    own, kind = vars(operator), type(operator)
    types = _base(kind).__annotations__

    def is_default(name: str, default: Any) -> bool:
        # For None, the constructor stores something empty where the attribute cannot be None.
        return own[name] == default or (own[name] in ([], {}, ()) and "None" not in types[name])

    defaults = pod_parameters(kind)
    return {name: own[name] for name in defaults if name in own and not is_default(name, defaults[name])}


def _reasons(operator: PodOperatorBase) -> Iterator[str]:
    kind = type(operator)
    yield from _reasons_of_class(kind)
    yield from _reasons_of_task(_setting_of(operator), operator)
    yield from _not_plain(kind, parameters_of(operator), vars(operator))


def _reasons_of_class(kind: type[BaseOperator]) -> Iterator[str]:
    from kpo_async.hooks.airflow import AIRFLOW_VERSION, FAILING_IN_TRIGGERER_RETRIES

    if not FAILING_IN_TRIGGERER_RETRIES:
        yield f"Airflow {AIRFLOW_VERSION} cannot: 3.3.1 is needed"
    derived, ours = _split_mro(kind)
    for cls in derived:
        overridden = {name for name in vars(cls) if hasattr(ours, name)} - HARMLESS_OVERRIDES
        if overridden:
            yield f"{cls.__name__} overrides {', '.join(sorted(overridden))}"


def _reasons_of_task(setting: Setting, task: Any) -> Iterator[str]:
    for name, attribute in WORKER_CALLS_FIRST.items():
        if setting(name) or setting(attribute):
            yield f"only a worker calls {name}"
    pools, pool = settings.pools_of_triggerer(), setting("pool")
    if pool is not None and pool not in pools and "*" not in pools:
        yield f"pool {pool!r} limits workers only ([kpo_async] start_from_trigger_pools has not got it)"
    for name in LIMITS:
        if setting(name) is not None:
            yield f"{name} limits workers only"
    if task.get_closest_mapped_task_group() is not None:
        yield "it is in a mapped task group"
    dag = task.get_dag()
    for params in (task.params, None if dag is None else dag.params):
        # Where the run gives no value, Airflow's error would end the triggerer (`TriggerRunner.create_triggers`).
        for name in params or ():
            if isinstance(params, ParamsDict) and params.get_param(name).value is NOTSET:
                yield f"its param {name!r} has no default"
    if dag is not None:
        yield from _reasons_of_dag(dag)


def _reasons_of_dag(dag: Any) -> Iterator[str]:
    for name in DAG_TEMPLATING:
        if getattr(dag, name):
            yield f"the triggerer does not know the DAG's {name}"
    # Airflow sends the whole DAG to the triggerer with each trigger: `benchmarks/dag_size.py` measures what that costs.
    limit = settings.integer("start_from_trigger_dag_size")
    if len(dag.task_dict) > limit:
        yield f"its DAG has {len(dag.task_dict)} tasks, more than [kpo_async] start_from_trigger_dag_size = {limit}"


def _not_plain(kind: type[BaseOperator], parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    if parameters.get("pod_template_file"):
        yield "pod_template_file may not exist in the triggerer"
    try:
        _send(kind, parameters, given)
    except NotPlainError as error:
        yield str(error)


def _send(kind: type[BaseOperator], parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """Return all parameters in plain form. Raises `NotPlainError` naming the first that has none."""
    sent: Json = {}
    for name, value in parameters.items():
        try:
            sent[name] = encode(value)
        except NotPlainError as error:
            raise NotPlainError(f"{name} {error}") from error
    return {**sent, **_split_mro(kind)[1]._to_trigger(given)}


def failure_needs_worker(setting: Setting, dag: Any) -> bool:
    """Return whether Airflow does something for a failed task that it does only, or only well, where a worker ends it.

    Callbacks of a task that a trigger fails get a context without the exception and the run. Nothing sends its e-mails,
    asks its `retry_policy`, or stops the other tasks of a `dag` with `fail_fast`.
    """
    fails_fast = dag is not None and dag.fail_fast
    sends_mail = setting("email") and (
        setting("email_on_failure") is not False or setting("email_on_retry") is not False
    )
    return bool(fails_fast or sends_mail or any(map(setting, WORKER_FAILS)))


def _first_given(setting: Setting, skip_on_exit_code: Any) -> str | None:
    found = [name for name, attribute in WORKER_CALLS_LAST.items() if setting(name) or setting(attribute)]
    if skip_on_exit_code not in (None, (), []) and setting("on_skipped_callback"):
        found.append("on_skipped_callback")
    return f"it has {found[0]}" if found else None


def _setting_of(operator: PodOperatorBase) -> Setting:
    # Not the class's methods pre_execute and post_execute: `_reasons_of_class` sees to these.
    own = vars(operator)
    return lambda name: own.get(name)


def _start_trigger_args(
    kind: type[BaseOperator],
    sent: Json,
    setting: Setting,
    multiple_outputs: bool,
    *,
    dag: Any,
    mapped_over: bool = False,
) -> StartTriggerArgs:
    from airflow.triggers.base import StartTriggerArgs

    may_end = _first_given(setting, sent.get("skip_on_exit_code")) is None
    arguments: Json = {
        "operator": to_import_path(_split_mro(kind)[1]),
        "parameters": sent,
        "multiple_outputs": multiple_outputs,
        "mapped_over": mapped_over,
        "may_end": may_end,
        "may_fail": not failure_needs_worker(setting, dag),
    }
    return StartTriggerArgs(
        trigger_cls=TRIGGER, trigger_kwargs={"start": json.dumps(arguments)}, next_method="trigger_reentry"
    )


def with_start(task: MappedOperator) -> MappedOperator:
    """Have a mapped task start in the triggerer, if it should and can. Return the task."""
    kind, (given, parameters) = task.operator_class, _given_to_mapped(task)
    task.start_from_trigger = False
    deferrable = given.get("deferrable", inspect.signature(_base(kind).__init__).parameters["deferrable"].default)
    wanted = {"start_from_trigger": given.get("start_from_trigger"), "deferrable": deferrable}
    if not _has_constructor(kind):
        try:
            check_start(wanted)
        except ConfigError as error:
            raise ConfigError(f"task {task.task_id!r}: {error}") from None
    if is_wanted(wanted) and reason_for_worker_of_mapped(task) is None:
        multiple_outputs = getattr(task, "multiple_outputs", given.get("multiple_outputs"))
        task.start_trigger_args = _start_trigger_args(
            kind, _send(kind, parameters, given), task.partial_kwargs.get, bool(multiple_outputs), dag=task.get_dag()
        )
        task.start_from_trigger = True
    return task


def reason_for_worker_of_mapped(task: MappedOperator) -> str | None:
    """Do as `reason_for_worker` for a mapped task."""
    given, parameters = _given_to_mapped(task)
    return next(_reasons_of_mapped(task, parameters, given), None)


def _given_to_mapped(task: MappedOperator) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what all instances of a mapped task are given, and those of it that are parameters of a pod."""
    defaults = _default_args(task)
    given = {**defaults, **task.partial_kwargs, "default_args": defaults}
    if hasattr(task, "python_callable"):
        given["python_callable"] = task.python_callable
    names = pod_parameters(task.operator_class)
    return given, {name: value for name, value in given.items() if name in names}


def _has_constructor(kind: type[BaseOperator]) -> bool:
    """Whether a subclass of the user's may change what it is given."""
    return any("__init__" in vars(cls) for cls in _split_mro(kind)[0])


def _default_args(task: MappedOperator) -> dict[str, Any]:
    """Return the default arguments of a mapped task's DAG and group, which Airflow applies when it is unmapped."""
    return {
        **((task.dag.default_args if task.dag else None) or {}),
        **((task.task_group.default_args if task.task_group else None) or {}),
    }


def _reasons_of_mapped(task: MappedOperator, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[str]:
    kind = task.operator_class
    yield from _reasons_of_class(kind)
    if _has_constructor(kind):
        yield f"{kind.__name__} has a constructor of its own"
    yield from _reasons_of_task(task.partial_kwargs.get, task)
    yield from _not_plain(kind, parameters, given)
    value = task._get_specified_expand_input().value
    if isinstance(value, (list, tuple)):  # of dicts, each of which may be an XCom
        unreadable = [item for item in value if not is_json(item) and reference(item) is None]
    else:
        unreadable = [
            item for item in (value.values() if isinstance(value, Mapping) else [value]) if not can_be_read(item)
        ]
    for item in unreadable:
        yield f"the triggerer cannot read what it is mapped over: {_description(item)}"


def _description(item: Any) -> str:
    return "map(), whose functions only a worker has" if hasattr(item, "callables") else type(item).__qualname__


def _split_mro(kind: type[BaseOperator]) -> tuple[tuple[type, ...], type[PodOperatorBase]]:
    """Return the user's classes, and the class of this package that they are derived from."""
    mro: Any = kind.__mro__
    at = next(at for at, cls in enumerate(mro) if cls.__module__.startswith(OURS))
    return mro[:at], mro[at]


@lru_cache
def pod_parameters(kind: type[BaseOperator]) -> Mapping[str, Any]:
    """Return the defaults of all parameters that cross, by name."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(_base(kind).__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in SETTINGS
    }


def _base(kind: type[BaseOperator]) -> Any:
    """Return the class that declares the parameters."""
    return next(cls for cls in kind.__mro__ if isinstance(vars(cls).get("start_from_trigger"), StartFromTrigger))
