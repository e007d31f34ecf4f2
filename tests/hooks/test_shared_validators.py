"""Tasks that a process forks share the validators of Airflow's messages and of rendered fields."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.comms import CommsDecoder, ToTask, VariableResult
from pydantic import JsonValue, TypeAdapter, ValidationError

from kpo_async.hooks import shared_validators
from kpo_async.hooks.shared_validators import SharedValidators


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (comms, task_runner):  # to be restored
        monkeypatch.setattr(module, "TypeAdapter", TypeAdapter)
    shared_validators.install()


def channel() -> CommsDecoder[Any, Any]:
    """Return a channel as a task has it."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        return CommsDecoder(socket=ours)


def test_the_channels_of_tasks_share_what_decodes_messages(installed: None) -> None:
    one, another = channel(), channel()
    assert one.body_decoder is one.err_decoder is another.body_decoder
    message = one.body_decoder.validate_python({"type": "VariableResult", "key": "a", "value": "b"})
    assert message == VariableResult(key="a", value="b")
    with pytest.raises(ValidationError):
        one.body_decoder.validate_python({"type": "Unknown"})


def test_rendered_fields_share_their_validator(installed: None) -> None:
    build: Any = task_runner.TypeAdapter
    assert build(JsonValue) is build(JsonValue)
    assert build(JsonValue).validate_python({"a": [1, None]}) == {"a": [1, None]}
    with pytest.raises(ValidationError):
        build(JsonValue).validate_python(object())


def test_it_is_installed_once(installed: None) -> None:
    before: Any = comms.TypeAdapter
    shared_validators.install()
    assert comms.TypeAdapter is before
    assert isinstance(before, SharedValidators)


def test_other_types_and_options_have_validators_of_their_own() -> None:
    shared = SharedValidators(ToTask)
    assert shared(int) is not shared(int)
    assert shared(int).validate_python("3") == 3
    assert shared(list[int], config={"strict": True}) is not shared(list[int])
