"""The lease of a process on its triggers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from kpo_async.lease import PATIENCE, RENEWALS, Lease, LeaseState, lease

DURATION = 25.0


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def held(clock: Clock) -> Lease:
    held = Lease(clock)
    held.renew(DURATION)
    return held


async def test_a_process_without_a_supervisor_holds_its_lease_for_ever(clock: Clock) -> None:
    unlimited = Lease(clock)
    clock.now += 1e9
    assert unlimited.state is LeaseState.UNLIMITED
    await unlimited.held()


async def test_regular_exchanges_keep_it(held: Lease, clock: Clock) -> None:
    for _ in range(100):
        clock.now += DURATION - 1
        assert held.holds
        held.renew(DURATION)


async def test_a_freeze_lapses_it_until_enough_exchanges_have_followed(held: Lease, clock: Clock) -> None:
    clock.now += DURATION + 1
    assert held.state is LeaseState.LAPSED
    for _ in range(RENEWALS):
        assert not held.holds
        clock.now += 1
        held.renew(DURATION)
    assert held.state is LeaseState.HELD


async def test_the_exchange_after_a_freeze_notices_it_when_nothing_else_has(held: Lease, clock: Clock) -> None:
    clock.now += DURATION + 1
    held.renew(DURATION)
    assert held.state is LeaseState.LAPSED


async def test_slow_exchanges_do_not_keep_a_lapsed_lease_from_being_held_again(held: Lease, clock: Clock) -> None:
    for _ in range(RENEWALS):
        clock.now += DURATION + 1
        held.renew(DURATION)
    assert held.state is LeaseState.HELD


async def test_those_who_wait_go_on_when_it_is_held_again(held: Lease, clock: Clock) -> None:
    clock.now += DURATION + 1
    waiting = asyncio.create_task(held.held())
    for _ in range(RENEWALS):
        await asyncio.sleep(0)
        assert not waiting.done()
        held.renew(DURATION)
    await waiting


async def test_a_lapse_and_its_end_are_logged_once(held: Lease, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    clock.now += 60
    for _ in range(2 * RENEWALS):
        held.renew(DURATION)
    said = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.partition(",")[0].partition(":")[0] for text in said] == [
        "This triggerer was out of touch with Airflow for 60 s",
        "This triggerer knows again which triggers it has",
    ]


@pytest.mark.virtual_time
async def test_a_lapsed_lease_that_nothing_renews_is_given_up() -> None:
    forgotten = Lease(asyncio.get_running_loop().time)
    forgotten.renew(DURATION)
    await asyncio.sleep(DURATION + 1)
    assert forgotten.state is LeaseState.LAPSED
    await asyncio.sleep(PATIENCE - 1)
    assert forgotten.state is LeaseState.LAPSED
    await forgotten.held()
    assert forgotten.state is LeaseState.UNLIMITED


async def test_the_tasks_of_a_loop_share_one() -> None:
    assert lease() is lease()


async def test_an_exchange_renews_it_from_the_last_heartbeat_on(held: Lease, clock: Clock) -> None:
    heartbeat = clock.now
    clock.now += DURATION - 1
    held.renew(DURATION, heartbeat)
    assert held.holds
    clock.now += 2
    assert not held.holds


async def test_exchanges_without_new_heartbeats_do_not_renew_a_lapsed_one(held: Lease, clock: Clock) -> None:
    heartbeat = clock.now
    clock.now += DURATION + 1
    for _ in range(2 * RENEWALS):
        held.renew(DURATION, heartbeat)
        assert not held.holds
    for _ in range(RENEWALS):
        assert not held.holds
        held.renew(DURATION, clock.now)
    assert held.holds
