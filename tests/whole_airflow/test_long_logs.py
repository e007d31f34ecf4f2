"""The end of a pod's log arrives in its task's log, however much it is.

A triggerer's supervisor closes a trigger's log file as soon as it learns that the trigger has ended. Records that it
has not read by then are lost: the end of the log, which says why a program failed.
"""

from __future__ import annotations

import re

import pytest

from tests.whole_airflow.conftest import WholeAirflow
from tests.whole_airflow.dags.chatty import LINES

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_the_end_of_a_long_log_is_shown_before_the_trigger_ends(whole_airflow: WholeAirflow) -> None:
    run = whole_airflow.run("chatty")
    assert whole_airflow.failures(run) == {}
    for task in whole_airflow.airflow.task_instances(run):
        log = "\n".join(whole_airflow.log(run, task))
        shown = [int(number) for number in re.findall(r"^\[base\] this is line (\d+) of many$", log, re.MULTILINE)]
        assert shown == list(range(1, LINES + 1))
