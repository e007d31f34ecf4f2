"""What can wait lets starts go first, and does not wait for ever."""

from __future__ import annotations

import asyncio

import pytest

from kpo_async.workerless.preparations import PATIENCE, Preparations

pytestmark = pytest.mark.virtual_time


async def test_what_can_wait_goes_at_once_when_nothing_starts() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    async with Preparations().after():
        pass
    assert loop.time() == before


async def test_what_can_wait_goes_after_the_last_start() -> None:
    preparations, loop = Preparations(), asyncio.get_running_loop()

    async def start(seconds: float) -> None:
        with preparations:
            await asyncio.sleep(seconds)

    before = loop.time()
    starts = [asyncio.create_task(start(seconds)) for seconds in (1, 3, 2)]
    await asyncio.sleep(0)
    async with preparations.after():
        assert loop.time() - before == pytest.approx(3)
    await asyncio.gather(*starts)


async def test_starts_without_end_delay_it_only_for_a_while() -> None:
    preparations, loop = Preparations(), asyncio.get_running_loop()
    before = loop.time()
    with preparations:
        async with preparations.after():
            pass
    assert loop.time() - before == pytest.approx(PATIENCE)


async def test_what_can_wait_goes_one_after_the_other() -> None:
    preparations, loop = Preparations(), asyncio.get_running_loop()
    before = loop.time()

    async def push() -> None:
        async with preparations.after():
            await asyncio.sleep(1)

    await asyncio.gather(push(), push(), push())
    assert loop.time() - before == pytest.approx(3)
