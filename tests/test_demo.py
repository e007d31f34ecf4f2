"""The demo: what it reads, what it shows, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from kpo_async.demo.airflow import Airflow, ProgramError
from kpo_async.demo.cluster import Traffic, parse_metrics
from kpo_async.demo.observe import GONE, Sample, duration
from kpo_async.demo.picture import draw
from kpo_async.demo.processes import Program
from kpo_async.demo.view import LiveView, PlainView, plain_line, summary

FORKING = """
import os, sys, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # as Airflow's supervisors do to their tasks
    if os.fork():
        os._exit(0)  # and one whose parent has ended
else:
    os.waitpid(child, 0)
    open(sys.argv[1], "w").close()  # a FIFO: this is the sign that all is set up
time.sleep(600)
"""


def sample(elapsed: float = 1.5, running: int = 3) -> Sample:
    return Sample(
        elapsed,
        pods=Counter({"Running": running, GONE: 2}),
        tasks=Counter({"running": 1, "deferred": 3, "success": 2}),
        traffic=Traffic(Counter(POST=5, LIST=1), watches=1),
        log_lines=17,
        faults=("503", "429"),
    )


def sessions_of(parent: int) -> set[int]:
    """The sessions that descendants of a process live in."""
    return {os.getsid(child.pid) for child in psutil.Process(parent).children(recursive=True)}


def living_members(sessions: set[int]) -> list[str]:
    """What still runs in these sessions."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                members.append(f"{process.pid} {process.name()}")
        except (OSError, psutil.Error):
            continue
    return members


def test_requests_and_watches_about_pods_of_a_namespace_are_counted() -> None:
    text = "\n".join(
        [
            'apiserver_request_total{code="200",resource="pods",scope="namespace",subresource="",verb="LIST"} 2',
            'apiserver_request_total{code="201",resource="pods",scope="resource",subresource="",verb="POST"} 3',
            'apiserver_request_total{code="409",resource="pods",scope="resource",subresource="",verb="POST"} 1',
            'apiserver_request_total{code="200",resource="pods",scope="resource",subresource="log",verb="CONNECT"} 4',
            'apiserver_request_total{code="200",resource="pods",scope="cluster",subresource="",verb="LIST"} 90',
            'apiserver_request_total{code="200",resource="pods",scope="resource",subresource="status",verb="PATCH"} 90',
            'apiserver_request_total{code="200",resource="nodes",scope="resource",subresource="",verb="GET"} 90',
            'apiserver_longrunning_requests{resource="pods",scope="namespace",subresource="",verb="WATCH"} 1',
            'apiserver_longrunning_requests{resource="pods",scope="cluster",subresource="",verb="WATCH"} 5',
        ]
    )
    assert parse_metrics(text) == Traffic(Counter(POST=4, LOG=4, LIST=2), watches=1)


def test_a_plain_line_has_everything() -> None:
    assert plain_line(sample()).strip().split("  ") == [
        "1.5 s",
        "pods: 3 Running, 2 gone",
        "tasks: 1 running, 3 deferred, 2 success",
        "watches open: 1",
        "requests: 5 POST, 1 LIST",
        "log lines: 17",
        "fault 2: 429",
    ]


def test_the_plain_view_prints_a_line_every_five_seconds() -> None:
    screen = io.StringIO()
    view = PlainView(Console(width=300, file=screen))
    for elapsed in (0.0, 0.5, 4.9, 5.0, 9.9, 10.0):
        view.show(sample(elapsed))
    assert len(screen.getvalue().splitlines()) == 3


def test_the_live_view_draws_pods_tasks_slots_and_requests() -> None:
    screen = io.StringIO()
    view = LiveView(Console(width=100, height=40, file=screen, force_terminal=True), pods=5, slots=4)
    view.show(sample())
    view.close()
    text = screen.getvalue()
    assert "Slots held, of 4" in text
    assert "requests: 5 POST, 1 LIST" in text
    assert "Log lines 17" in text


def test_the_summary_is_a_table_with_a_column_for_each_mode() -> None:
    screen = io.StringIO()
    runs = {"deferrable": {"pods": "5 of 2 s", "log lines": "17"}, "workerless": {"pods": "6 of 2 s"}}
    Console(width=100, file=screen).print(summary(runs))
    lines = screen.getvalue().splitlines()
    assert next(line for line in lines if "pods" in line).split("│")[1:-1] == [
        " pods      ",
        " 5 of 2 s   ",
        " 6 of 2 s   ",
    ]
    assert any("log lines" in line and "17" in line for line in lines)


@pytest.mark.parametrize("modes", [["workerless"], ["deferrable", "end_from_trigger", "workerless"]])
def test_the_picture_is_a_png(tmp_path: Path, modes: list[str]) -> None:
    picture = tmp_path / "demo.png"
    samples = [sample(0.0), sample(5.0, running=5), sample(9.0)]
    draw(dict.fromkeys(modes, samples), slots=4, path=picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_run_lasts_until_its_end_and_not_until_its_pods_are_gone() -> None:
    samples = [sample(0.0), replace(sample(5.0), run="success"), replace(sample(7.0), run="success")]
    assert duration(samples) == 5.0
    assert duration(samples[:1]) == 0.0


async def test_stopping_a_program_ends_what_it_forked_in_other_groups_and_orphaned(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)

    command = [sys.executable, "-c", FORKING, str(ready)]
    program = await Program.start("forking", command, os.environ, tmp_path / "log")
    await asyncio.to_thread(ready.read_text)
    assert len(living_members({program.pid})) == 2
    await program.stop(grace=0.0)
    assert living_members({program.pid}) == []


async def test_the_error_about_a_programs_end_has_its_last_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "exit('no more')"]
    program = await Program.start("quitter", command, os.environ, tmp_path / "log")
    with pytest.raises(ProgramError, match=r"(?s)quitter ended with 1.*no more"):
        await program.finished()


async def test_an_airflow_that_cannot_start_leaves_no_home_behind(tmp_path: Path) -> None:
    airflow = Airflow(tmp_path, environment={"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "nonsense://"})

    with pytest.raises(ProgramError, match="migration ended with 1"):
        await airflow.__aenter__()
    assert not airflow.home.exists()


@pytest.mark.airflow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("words", "seconds", "options"),
    [
        pytest.param("Starting Airflow", 60, [], id="while-starting"),
        pytest.param("Running", 60, [], id="while-running"),
        pytest.param("Airflow is still at http://127.0.0.1:", 1, ["--keep"], id="kept"),
    ],
)
def test_an_interrupted_demo_leaves_no_process_behind(
    tmp_path: Path, words: str, seconds: int, options: list[str]
) -> None:
    command = [sys.executable, "-m", "kpo_async.cli", "demo", "--pods", "4", "--pod-seconds", str(seconds), "--plain"]
    command += ["--picture", str(tmp_path / "demo.png"), *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if words in line:
                break
        sessions = sessions_of(demo.pid)
        demo.send_signal(signal.SIGINT)
        said += demo.stdout.read()
    assert demo.returncode == 130, said
    assert sessions
    assert living_members(sessions) == []


@pytest.mark.airflow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("options", "slots"),
    [
        # One for the task before the pods, and later one for the task after them.
        pytest.param([], {0, 1}, id="workerless"),
        pytest.param(["--faults"], {0, 1}, id="faults"),
        pytest.param(["--mode", "deferrable"], {2, 3, 4}, id="deferrable"),
    ],
)
def test_the_demo_adds_up_its_pods_results(tmp_path: Path, options: list[str], slots: set[int]) -> None:
    picture = tmp_path / "demo.png"
    command = [sys.executable, "-m", "kpo_async.cli", "demo", "--pods", "12", "--pod-seconds", "3", "--plain"]
    command += ["--picture", str(picture), *options]
    demo = subprocess.run(command, capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "The pods' numbers add up to 650; expected 650" in demo.stdout
    assert "cannot reach the API server" not in demo.stdout or "--faults" in options
    assert int(re.findall(r"(\d+) DELETE", demo.stdout)[-1]) >= 12
    held = re.search(r"most worker slots held at once +│ (\d) of 4", demo.stdout)
    assert held is not None
    assert int(held[1]) in slots
    assert picture.exists()
