"""The options of the section `[kpo_async]` of Airflow's configuration."""

from __future__ import annotations

import math
from typing import Literal

from airflow.configuration import conf

from kpo_async.exceptions import ConfigError

SECTION = "kpo_async"
_SWITCH = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def is_on(option: str, *, default: bool) -> bool:
    """Return whether a switch is on. Raises `ConfigError` for a value that is no switch."""
    value = _get(option).lower()
    if not value:
        return default
    if value not in _SWITCH:
        raise ConfigError(f"[{SECTION}] {option} is {value[:80]!r}: write on or off")
    return _SWITCH[value]


def diagnosis_is_pushed() -> bool:
    """Whether a task whose pod failed gets the XCom `pod_diagnosis`: `push_diagnosis`, on by default."""
    return is_on("push_diagnosis", default=True)


def active_deadline_is_set() -> bool:
    """Whether pods get an activeDeadlineSeconds from their execution_timeout: `active_deadline`, on by default."""
    return is_on("active_deadline", default=True)


def quota_time_limit() -> float:
    """Return the seconds that a worker waits for room in a namespace's quota: `wait_for_quota`, 0 by default."""
    return _seconds("wait_for_quota", default=0.0)


def companion_grace() -> float | None:
    """Return the default of the parameter `companion_grace_seconds`: 60, unless set; None for `none`."""
    if _get("companion_grace_seconds").lower() == "none":
        return None
    return _seconds("companion_grace_seconds", default=60)


def ignored_companions() -> list[str] | Literal[True] | None:
    """Return the default of the parameter `ignore_companions`: names, separated by commas; True for `true`."""
    value = _get("ignore_companions")
    if value.lower() in ("true", "on"):
        return True
    return [name.strip() for name in value.split(",") if name.strip()] or None


def _seconds(option: str, *, default: float) -> float:
    """Return a number of seconds. Raises `ConfigError` for a value that is none."""
    value = _get(option)
    try:
        seconds = float(value) if value else default
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ConfigError(f"[{SECTION}] {option} is {value[:80]!r}: write a number of seconds")
    return seconds


def _get(option: str) -> str:
    return str(conf.get(SECTION, option, fallback="") or "").strip()
