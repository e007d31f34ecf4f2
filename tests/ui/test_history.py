"""The last hour in minutes: who lived at the end of each, and who ended in it."""

from __future__ import annotations

from datetime import datetime, timezone

from kpo_async.ui.history import Interval, count

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
BEGIN = NOW.timestamp() - 3600


def tried(start: float, end: float | None, state: str = "success") -> Interval:
    """A try from minute to minute of the hour."""
    return Interval("d", BEGIN + 60 * start, None if end is None else BEGIN + 60 * end, state)


def test_a_try_lives_from_its_first_minute_to_the_one_before_its_end() -> None:
    found = count([tried(10.5, 13.2)], NOW)
    assert [minute for minute, number in enumerate(found.living) if number] == [10, 11, 12]
    assert [minute for minute, number in enumerate(found.succeeded) if number] == [13]
    assert sum(found.failed) == 0


def test_a_try_that_has_not_ended_lives_until_now() -> None:
    assert count([tried(58, None, "deferred"), tried(-100, None, "running")], NOW).living == [1] * 58 + [2] * 2


def test_whatever_did_not_end_well_has_failed() -> None:
    states = ["success", "skipped", "failed", "up_for_retry", "upstream_failed"]
    found = count([tried(1, 2, state) for state in states], NOW)
    assert (found.succeeded[2], found.failed[2]) == (2, 3)


def test_an_hour_without_tasks_is_sixty_zeros() -> None:
    found = count([], NOW)
    assert found.living == found.succeeded == found.failed == [0] * 60
    assert found.ends_at == NOW.timestamp()


def test_a_try_that_ends_at_this_very_moment_is_in_no_minute_of_the_hour() -> None:
    found = count([tried(59, 60)], NOW)
    assert found.living[59] == 1
    assert sum(found.succeeded) == 0
