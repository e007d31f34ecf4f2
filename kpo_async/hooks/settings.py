"""The options of the section `[kpo_async]` of Airflow's configuration, other than the defaults of parameters."""

from __future__ import annotations

from airflow.configuration import conf

from kpo_async.exceptions import ConfigError

SECTION = "kpo_async"
_SWITCH = {"on": True, "off": False, "true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def is_on(option: str, *, default: bool) -> bool:
    """Return whether a switch is on. Raises `ConfigError` for a value that is no switch."""
    value = str(conf.get(SECTION, option, fallback="") or "").strip().lower()
    if not value:
        return default
    if value not in _SWITCH:
        raise ConfigError(f"[{SECTION}] {option} is {value[:80]!r}: write on or off")
    return _SWITCH[value]


def diagnosis_is_pushed() -> bool:
    """Whether a task whose pod failed gets the XCom `pod_diagnosis`: `push_diagnosis`, on by default."""
    return is_on("push_diagnosis", default=True)


def quota_time_limit() -> float:
    """Return the seconds that a worker waits for room in a namespace's quota: `wait_for_quota`, 0 by default.

    Raises `ConfigError` for a value that is not a number of seconds.
    """
    value = str(conf.get(SECTION, "wait_for_quota", fallback="") or "0")
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"[{SECTION}] wait_for_quota is {value[:80]!r}: write a number of seconds")
    return seconds
