"""An event loop that a signal handler can interrupt."""

from __future__ import annotations

import asyncio
import signal

import pytest

from kpo_async.operators.killable_run import KillableRun


async def nothing() -> None: ...


def test_coroutines_run_one_after_the_other_in_one_loop() -> None:
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with KillableRun() as run:
        assert run(loop()) is run(loop())


def test_a_signal_handler_can_cancel_a_run() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.Event().wait()

    run = KillableRun()
    signal.signal(signal.SIGUSR1, lambda *_: run.kill())
    with run, pytest.raises(asyncio.CancelledError):
        run(work())


def test_a_second_kill_does_not_interrupt_the_cleanup_after_the_first() -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            run.kill()
            await asyncio.Event().wait()
        finally:
            run.kill()
            await asyncio.sleep(0.01)
            cleaned.append("up")

    with KillableRun() as run, pytest.raises(asyncio.CancelledError):
        run(work())
    assert cleaned == ["up"]


def test_a_kill_between_two_coroutines_keeps_the_second_from_starting() -> None:
    with KillableRun() as run:
        run(nothing())
        run.kill()
        with pytest.raises(asyncio.CancelledError):
            run(nothing())


def test_a_kill_after_the_end_does_nothing() -> None:
    with KillableRun() as run:
        run(nothing())
    run.kill()


def test_a_call_from_inside_a_run_gets_a_loop_of_its_own() -> None:
    async def inner() -> int:
        return 1

    async def outer() -> tuple[int, int]:
        return run(inner()), await asyncio.to_thread(lambda: run(inner()))

    with KillableRun() as run:
        assert run(outer()) == (1, 1)
