"""A process that logs as a triggerer does: Airflow's own renderer, a socket to a supervisor, a thread that logs too.

Run by `test_airflow_records.py` with the socket's descriptor. Prints the longest time that its event loop stood still.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading

import structlog

LINES = 150
LINE = "\x01\x02 \x1b[31mred\x1b[0m " + "\x00" * 150
"""As JSON, six times as long."""


def other_thread(stopped: threading.Event) -> None:
    log = structlog.get_logger("airflow")
    number = 0
    while not stopped.wait(0.005):
        log.info("another thread's record", number=number, padding="y" * 500)
        number += 1


async def longest_block(done: asyncio.Event) -> float:
    longest, interval = 0.0, 0.01
    loop = asyncio.get_running_loop()
    while not done.is_set():
        before = loop.time()
        await asyncio.sleep(interval)
        longest = max(longest, loop.time() - before - interval)
    return longest


async def log_lines() -> float:
    from kpo_async.logs.emitter import Emitter
    from kpo_async.logs.lines import LogLine
    from kpo_async.logs.plan import line_format
    from kpo_async.logs.records import LogRecord

    log = logging.getLogger("kpo_async.pod_log")

    def sink(record: LogRecord) -> None:
        log.log(record.level, "%s", record.text)

    done = asyncio.Event()
    watching = asyncio.create_task(longest_block(done))
    emitters = [Emitter(line_format(), sink) for _ in range(3)]
    for number in range(LINES):
        for name, emitter in enumerate(emitters):
            emitter.put([LogLine(f"c{name}", "", f"<{number}> {LINE}")])
    emitters[0].put([LogLine("c0", "", "DEBUG after all")])
    for emitter in emitters:
        await emitter.wait_until_empty()
    for number, emitter in enumerate(emitters):
        emitter.put([LogLine(f"c{number}", "", f"<closing> {LINE}")] * 400)
        await emitter.aclose()
    done.set()
    return await watching


def main() -> None:
    from airflow.sdk.log import configure_logging, reset_logging

    reset_logging()
    output = os.fdopen(int(sys.argv[1]), "wb", buffering=0)
    configure_logging(json_output=True, output=output, sending_to_supervisor=True)
    stopped = threading.Event()
    thread = threading.Thread(target=other_thread, args=(stopped,))
    thread.start()
    blocked = asyncio.run(log_lines())
    stopped.set()
    thread.join()
    print(blocked)


if __name__ == "__main__":
    main()
