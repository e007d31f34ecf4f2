"""When waiting for a pod ends, with a cluster whose clock is ahead or behind."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace

from kpo_async.api_types import Pod
from kpo_async.kube.watch import Presence, View
from kpo_async.lifecycle.deadlines import FIRST_LOOK, UNSEEN_LIMIT, Limit, ended_late, limit
from kpo_async.pod.status import assess
from kpo_async.pod_task import OutcomeStatus, PodTask
from tests.pod.samples import pod
from tests.pod.test_status import moment

NOW = moment(20 * 60)
TASK = PodTask("pod", "default", "uid", schedule_timeout=100, startup_timeout=100)
AHEAD = [timedelta(0), timedelta(minutes=10), timedelta(minutes=-10)]


def until(seen: Pod | None, ahead: timedelta, **options: datetime) -> datetime | None:
    view = View(Presence.UNKNOWN) if seen is None else View(Presence.PRESENT, seen)
    found = limit(TASK, view, assess(seen, "base"), since=NOW, ahead=ahead, **options)
    return None if found is None else found.at


def starting(node: str | None) -> Pod:
    """A pod that was created at second 0 and scheduled at second 1, if at all."""
    return pod(phase="Pending", node=node)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize(("node", "second"), [(None, 100), ("node-1", 101)], ids=["unscheduled", "scheduled"])
def test_limits_counted_from_the_clusters_timestamps_end_on_its_clock(
    node: str | None, second: int, ahead: timedelta
) -> None:
    assert until(starting(node), ahead) == moment(second) - ahead


def test_a_task_whose_time_is_over_has_a_moment_to_see_that_its_pod_has_ended_in_time() -> None:
    over = replace(TASK, deadline=(NOW - timedelta(hours=1)).timestamp())
    found = limit(over, View(Presence.UNKNOWN), assess(None, "base"), since=NOW)
    assert found == Limit(NOW + FIRST_LOOK, OutcomeStatus.TIMED_OUT)
    seen = starting("node-1")
    found = limit(over, View(Presence.PRESENT, seen), assess(seen, "base"), since=NOW)
    assert found == Limit(NOW - timedelta(hours=1), OutcomeStatus.TIMED_OUT)


@pytest.mark.parametrize("ahead", AHEAD)
def test_limits_counted_from_what_was_seen_end_on_this_hosts_clock(ahead: timedelta) -> None:
    assert until(None, ahead) == NOW + UNSEEN_LIMIT
    assert until(starting(None), ahead, ungated_at=NOW) == NOW + timedelta(seconds=100)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize(("ended", "late"), [(599, False), (600, False), (601, True)])
def test_a_pod_that_ends_after_the_deadline_ends_late_whenever_that_is_seen(
    ended: int, late: bool, ahead: timedelta
) -> None:
    task = replace(TASK, deadline=moment(600).timestamp())
    state = replace(assess(None, "base"), finished_at=moment(ended) + ahead)
    found = ended_late(task, state, now=NOW, ahead=ahead)
    assert found == (Limit(moment(600), OutcomeStatus.TIMED_OUT) if late else None)


def test_a_pod_whose_end_is_seen_before_the_deadline_is_not_late_whatever_the_clusters_clock_says() -> None:
    task = replace(TASK, deadline=moment(600).timestamp())
    assert ended_late(task, replace(assess(None, "base"), finished_at=moment(700)), now=moment(599)) is None
