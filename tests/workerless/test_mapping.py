"""What an instance of a mapped task is given in a triggerer, whose supervisor answers few requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kpo_async.workerless.context import NeedsWorkerError
from kpo_async.workerless.mapping import mapped_arguments
from tests.airflow_versions import starts_in_triggerer
from tests.workerless.triggerer import Deferred, Supervisor

pytestmark = starts_in_triggerer
Expand = Callable[[Any, Any], dict[str, Any]]
ONE, MANY = [{"a": "1"}, {"a": "2"}], [{"b": "1"}, {"b": "2"}]
"""The result of `numbers`, and those of the instances of `doubled`."""


async def given(expand: Expand, count: int) -> list[Any]:
    """The labels that each of `count` instances is given."""
    deferred = Deferred(None, "true", expand=expand)
    found = []
    for index in range(count):
        ti: Any = deferred.trigger(map_index=index).task_instance
        found.append((await mapped_arguments(ti.task, ti))[0]["labels"])
    return found


@pytest.fixture(autouse=True)
def results(supervisor: Supervisor) -> None:
    supervisor.xcoms["numbers", "return_value"] = ONE
    supervisor.mapped_xcoms.update({("doubled", index): value for index, value in enumerate(MANY)})
    supervisor.instances["doubled"] = len(MANY)


@pytest.mark.parametrize(
    ("expand", "expected"),
    [
        (lambda one, _: {"labels": one}, ONE),
        (lambda _, many: {"labels": many}, MANY),
        (lambda one, many: {"labels": one.concat(many)}, ONE + MANY),
        (lambda one, many: {"labels": many.concat(one, many)}, MANY + ONE + MANY),
        (lambda one, many: {"labels": one.zip(many)}, list(zip(ONE, MANY, strict=True))),
        (lambda one, many: {"labels": one.zip(many.concat(one).concat(many))}, NeedsWorkerError),
        (lambda _, many: {"labels": many, "cmds": [["a"], ["b"], ["c"]]}, [MANY[0]] * 3 + [MANY[1]] * 3),
        (lambda _, many: {"cmds": [["a"], ["b"], ["c"]], "labels": many}, MANY * 3),
        (lambda _, many: {"labels": {"x": "1", "y": "2"}}, [("x", "1"), ("y", "2")]),
    ],
)
async def test_each_instance_is_given_what_a_worker_would_give_it(
    supervisor: Supervisor, expand: Expand, expected: Any
) -> None:
    if expected is NeedsWorkerError:
        supervisor.instances["task"] = 2
        with pytest.raises(NeedsWorkerError, match="of another length"):
            await given(expand, 1)
        return
    supervisor.instances["task"] = len(expected)
    assert await given(expand, len(expected)) == expected


@pytest.mark.parametrize("expand", [lambda _, many: {"labels": many}, lambda one, many: {"labels": one.concat(many)}])
async def test_a_worker_knows_which_instance_has_pushed_no_xcom(supervisor: Supervisor, expand: Expand) -> None:
    supervisor.instances["doubled"] = 3
    supervisor.instances["task"] = 2 if "concat" not in expand.__code__.co_names else 4
    with pytest.raises(NeedsWorkerError, match="not each of its instances has pushed an XCom"):
        await given(expand, 1)


async def test_data_of_xcoms_is_told_apart_from_templates(supervisor: Supervisor) -> None:
    supervisor.instances["task"] = 2
    deferred = Deferred(None, "true", expand=lambda _, many: {"labels": many, "cmds": [["{{ ds }}"]]})
    ti: Any = deferred.trigger(map_index=1).task_instance
    assert await mapped_arguments(ti.task, ti) == ({"labels": MANY[1], "cmds": ["{{ ds }}"]}, [MANY[1]])
