"""Which Airflow a pod belongs to: from the configuration, or from a Variable that the first task creates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    ErrorResponse,
    GetTaskStates,
    GetVariable,
    PutVariable,
    TaskStatesResult,
    VariableResult,
)

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.installation import VARIABLE, installation_id
from kpo_async.pod.names import is_label_value


class Supervisor:
    """Answers a task's requests for Variables, as its supervisor does."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.outages = 0
        """How many requests fail, as when a triggerer's connection to the database is lost."""
        self.unseen = 0
        """How often Airflow's API finds no Variable because the database is away."""

    async def asend(self, message: Any) -> Any:
        return await asyncio.sleep(0, self.send(message))

    def send(self, message: Any) -> Any:
        if isinstance(message, PutVariable):
            self.variables[message.key] = str(message.value)
            return None
        if isinstance(message, GetVariable) and self.unseen:
            self.unseen -= 1
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
        if self.outages:
            self.outages -= 1
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": None}))
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={})
        assert isinstance(message, GetVariable)
        if message.key in self.variables:
            return VariableResult(key=message.key, value=self.variables[message.key])
        return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    answering = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", answering, raising=False)
    return answering


async def test_the_first_task_creates_the_variable_and_keeps_what_is_stored(supervisor: Supervisor) -> None:
    created = await installation_id()
    assert created
    assert is_label_value(created)
    assert supervisor.variables == {VARIABLE: created}


async def test_later_tasks_use_the_variable(supervisor: Supervisor) -> None:
    supervisor.variables[VARIABLE] = "team-a"
    assert await installation_id() == "team-a"


@pytest.mark.virtual_time
async def test_an_id_that_airflow_cannot_be_asked_for_at_first_is_not_replaced(supervisor: Supervisor) -> None:
    supervisor.variables[VARIABLE] = "team-a"
    supervisor.outages = 7
    assert await installation_id() == "team-a"


@pytest.mark.virtual_time
async def test_an_id_that_airflow_does_not_find_while_its_database_is_away_is_not_replaced(
    supervisor: Supervisor,
) -> None:
    supervisor.variables[VARIABLE] = "team-a"
    supervisor.unseen, supervisor.outages = 2, 3
    assert await installation_id() == "team-a"


@pytest.mark.virtual_time
async def test_an_id_that_airflow_cannot_be_asked_for_at_all_is_not_replaced(supervisor: Supervisor) -> None:
    supervisor.variables[VARIABLE] = "team-a"
    supervisor.outages = 1000
    assert await installation_id() is None
    assert supervisor.variables == {VARIABLE: "team-a"}


async def test_the_configuration_wins_over_the_variable(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.variables[VARIABLE] = "team-a"
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__INSTALLATION", "team-b")
    assert await installation_id() == "team-b"


async def test_outside_of_a_task_there_is_none() -> None:
    assert await installation_id() is None


@pytest.mark.parametrize("bad", ["a b", "-a", "x" * 64])
async def test_an_id_that_cannot_be_a_label_is_refused_with_the_rule(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("AIRFLOW__KPO_ASYNC__INSTALLATION", bad)
    with pytest.raises(ConfigError, match=r"\[kpo_async\] installation .* at most 63 letters"):
        await installation_id()


async def test_a_variable_that_cannot_be_a_label_is_named(supervisor: Supervisor) -> None:
    supervisor.variables[VARIABLE] = "a b"
    with pytest.raises(ConfigError, match=f"the Variable {VARIABLE}"):
        await installation_id()
