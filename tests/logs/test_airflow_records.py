"""Records on their way to the supervisor, written by Airflow's own renderer among those of another thread."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time

import pytest

from kpo_async.logs.lines import CONTINUED
from tests.logs.triggerer_process import LINE, LINES

POD_LOG = "kpo_async.pod_log"
READ_BYTES = 4096
"""As Airflow's supervisor does (airflow/sdk/execution_time/supervisor.py, make_buffered_socket_reader)."""
READ_PAUSE = 0.02
"""A supervisor that reads 200 KB/s."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other kernels split what is written to such sockets")


def run_triggerer() -> tuple[bytes, float]:
    """What a triggerer's process wrote to its supervisor, and for how long its event loop stood still at most."""
    near, far = socket.socketpair()
    with near, far:
        command = [sys.executable, "-m", "tests.logs.triggerer_process", str(near.fileno())]
        process = subprocess.Popen(command, pass_fds=[near.fileno()], stdout=subprocess.PIPE)
        near.close()
        written = bytearray()
        while data := far.recv(READ_BYTES):
            written += data
            time.sleep(READ_PAUSE)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
    return bytes(written), float(output)


def test_every_record_arrives_whole_and_the_loop_does_not_block() -> None:
    written, blocked = run_triggerer()
    records = written.splitlines()
    assert max(map(len, records)) <= 16 * 1024
    events = [json.loads(record) for record in records]  # raises if a record is torn
    assert {event["level"] for event in events} == {"info"}
    others = [event["number"] for event in events if "number" in event]
    assert others == list(range(len(others)))
    assert len(others) > 100
    lines = [event for event in events if "number" not in event]
    assert {event.get("logger", POD_LOG) for event in lines} == {POD_LOG}  # Airflow 3.1 leaves the logger out
    text = "\n".join(event["event"] for event in lines)
    text = text.replace(f"{CONTINUED}\n{CONTINUED}", "")
    for container in ("c0", "c1", "c2"):
        shown = re.findall(rf"^\[{container}\] <(\w+)> {re.escape(LINE)}$", text, re.MULTILINE)
        assert [number for number in shown if number != "closing"] == [str(number) for number in range(LINES)]
    assert "[c0] DEBUG after all" in text
    # A blocked loop stands still for seconds here: until the supervisor has read hundreds of kilobytes.
    assert blocked < 1.0
