"""A triggerer serves in one turn what has arrived."""

from __future__ import annotations

import inspect
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.jobs import triggerer_job_runner

from kpo_async.hooks import batched_serving
from kpo_async.hooks.batched_serving import EVENTS_TURN, MOST_PREPARED, TURN, batched, in_parts, sliced


class Supervisor:
    """Serves one byte at a time, as Airflow's serves one message. A byte `x` is the end of the child."""

    def __init__(self) -> None:
        self.triggers, self._own = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self._own, selectors.EVENT_READ)
        self.events: deque[int] = deque()
        self.stored: list[int] = []
        self.served = b""
        self.echoes = False
        """Whether the triggers answer each message with another."""

    def serve_once(self, max_wait_time: float) -> int | None:
        for key, _ in self.selector.select(max_wait_time):
            byte = key.fileobj.recv(1)  # type: ignore[union-attr]
            self.served += byte
            if self.echoes:
                self.triggers.send(byte)
        return 1 if self.served.endswith(b"x") else None

    def handle_events(self) -> None:
        while self.events:
            event = self.events.popleft()
            if event < 0:
                raise RuntimeError("the database is away")
            time.sleep(EVENTS_TURN / 10)
            self.stored.append(event)

    def close(self) -> None:
        self.selector.close()
        self.triggers.close()
        self._own.close()


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.close()


serve = batched(Supervisor.serve_once)


def test_all_that_has_arrived_is_served_in_one_turn(supervisor: Supervisor) -> None:
    supervisor.triggers.send(b"abc")
    assert serve(supervisor, 1) is None
    assert supervisor.served == b"abc"


def test_a_turn_ends_with_the_process_of_the_triggers(supervisor: Supervisor) -> None:
    supervisor.triggers.send(b"axb")
    assert serve(supervisor, max_wait_time=1) == 1
    assert supervisor.served == b"ax"


def test_a_turn_ends_however_much_arrives(supervisor: Supervisor) -> None:
    supervisor.echoes = True
    supervisor.triggers.send(b"a")
    before = time.monotonic()
    serve(supervisor, 1)
    assert TURN <= time.monotonic() - before < 10
    assert len(supervisor.served) > 1


def test_nothing_is_waited_for_where_nothing_arrives(supervisor: Supervisor) -> None:
    assert serve(supervisor, 0) is None
    assert supervisor.served == b""


def test_many_events_are_stored_in_several_turns_in_their_order(supervisor: Supervisor) -> None:
    handle = sliced(Supervisor.handle_events, Supervisor.serve_once)
    supervisor.events.extend(range(12))
    handle(supervisor)
    assert len(supervisor.stored) < 12
    assert len(supervisor.stored) + len(supervisor.events) == 12
    while supervisor.events:
        handle(supervisor)
    assert supervisor.stored == list(range(12))


def test_messages_are_served_between_events_and_events_that_they_bring_are_kept(supervisor: Supervisor) -> None:
    def serve_once(self: Supervisor, max_wait_time: float) -> int | None:
        self.events.append(100 + len(self.served))
        return self.serve_once(max_wait_time)

    supervisor.events.extend([0, 1])
    supervisor.triggers.send(b"abc")
    sliced(Supervisor.handle_events, serve_once)(supervisor)
    assert supervisor.served == b"abc"
    assert supervisor.stored == [0, 1, 100, 101, 102]


def test_an_error_of_the_database_is_raised_and_the_events_after_it_stay(supervisor: Supervisor) -> None:
    supervisor.events.extend([-1, 2])
    with pytest.raises(RuntimeError):
        sliced(Supervisor.handle_events, Supervisor.serve_once)(supervisor)
    assert (supervisor.stored, list(supervisor.events)) == ([], [2])


def test_triggers_are_prepared_in_parts_and_those_that_cannot_be_do_not_delay_the_others() -> None:
    known: set[int] = set()

    def prepare(_: object, ids: set[int]) -> list[int]:
        assert len(ids) <= MOST_PREPARED
        found = sorted(ids - broken)
        known.update(found)
        return found

    broken, some = set(range(MOST_PREPARED)), in_parts(prepare)
    wanted = set(range(3 * MOST_PREPARED + 1))
    turns = [some(None, wanted - known) for _ in range(5)]
    assert [len(prepared) for prepared in turns] == [0, MOST_PREPARED, MOST_PREPARED, 1, 0]
    assert known == wanted - broken
    broken.clear()
    assert some(None, wanted - known) == list(range(MOST_PREPARED))


def test_airflows_triggerer_serves_like_this(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor: Any = triggerer_job_runner.TriggerRunnerSupervisor
    methods = ["_service_subprocess", "handle_events"]
    if hasattr(supervisor, "build_trigger_workloads"):
        methods.append("build_trigger_workloads")
    # Another test of this process may have loaded the plugin.
    own = [inspect.unwrap(getattr(supervisor, name)) for name in methods]
    for name, method in zip(methods, own, strict=True):
        monkeypatch.setattr(supervisor, name, method)
    batched_serving.install()
    batched_serving.install()
    assert [getattr(supervisor, name).__wrapped__ for name in methods] == own
