"""The virtual clock behaves as the tests that use it assume."""

import asyncio
import threading
import time

import pytest

from tests.virtual_time import time_held

pytestmark = pytest.mark.virtual_time


async def test_an_hour_takes_no_real_time() -> None:
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await asyncio.sleep(3600)
    assert loop.time() - begin == pytest.approx(3600)
    assert time.monotonic() - started < 5


async def test_timers_fire_in_order_at_their_times() -> None:
    loop = asyncio.get_running_loop()
    seen: list[float] = []
    for delay in (30.0, 1.0, 10.0):
        loop.call_later(delay, lambda: seen.append(loop.time()))
    await asyncio.sleep(60)
    assert seen == pytest.approx([1.0, 10.0, 30.0])


async def test_time_does_not_advance_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    timer = loop.call_later(0.001, lambda: None)
    began = threading.Event()
    work = asyncio.to_thread(lambda: began.set() or threading.Event().wait(0.1))
    await asyncio.wait_for(work, 0.05)
    assert began.is_set()
    assert loop.time() == 0
    timer.cancel()


async def test_loopback_traffic_is_faster_than_any_timer() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\n")
    assert await asyncio.wait_for(reader.readline(), 0.001) == b"hello\n"
    writer.close()
    server.close()
    await server.wait_closed()


async def test_time_can_be_held_for_what_the_loop_cannot_see() -> None:
    with time_held():
        process = await asyncio.create_subprocess_exec("sleep", "0.1")
        assert await asyncio.wait_for(process.wait(), 0.05) == 0
