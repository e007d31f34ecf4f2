"""Read the options of the section `[kpo_async]`, which `kpo_async.options` declares.

An option that is missing or empty has its default. Each reader raises `ConfigError` for a value of another type.
"""

from __future__ import annotations

import math
from typing import Literal

from airflow.configuration import conf

from kpo_async.compat import StrEnum
from kpo_async.exceptions import ConfigError
from kpo_async.options import OPTIONS, SECTION

_SWITCH = {
    **dict.fromkeys(("on", "true", "t", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "f", "no", "0"), False),
}


class LogSource(StrEnum):
    """Who shows a pod's log on the page of a finished task."""

    AUTO = "auto"
    """The triggerer; a worker, too, where the triggerer's lines cannot be seen."""
    TRIGGER = "trigger"
    """The triggerer alone."""
    WORKER = "worker"
    """A worker, too, which therefore ends every task. While the pod runs, the triggerer shows the log."""


def log_source() -> LogSource:
    """Return the option `logs`."""
    value = text("logs")
    if value.lower() not in set(LogSource):
        raise _refused("logs", value, " or ".join(LogSource))
    return LogSource(value.lower())


def switch(option: str) -> bool:
    """Return whether a switch is on."""
    value = text(option)
    if value.lower() not in _SWITCH:
        raise _refused(option, value, "on or off")
    return _SWITCH[value.lower()]


def integer(option: str) -> int:
    """Return a whole number, 0 or more."""
    value = text(option)
    if not value.isdecimal():
        raise _refused(option, value, "a whole number, 0 or more")
    return int(value)


def seconds(option: str) -> float:
    """Return a number of seconds, 0 or more."""
    value = text(option)
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise _refused(option, value, "a number of seconds")
    return number


def names(option: str) -> list[str]:
    """Return names that stand with commas or spaces between."""
    return text(option).replace(",", " ").split()


def text(option: str) -> str:
    """Return a text without space around it."""
    return str(conf.get(SECTION, option, fallback="") or "").strip() or OPTIONS[option].default


def dags_are_shared() -> bool:
    """Whether a triggerer deserializes each DAG once: `share_dags`, on by default."""
    return switch("share_dags")


def serves_in_batches() -> bool:
    """Whether a triggerer answers all requests of its triggers that have arrived: `serve_in_batches`, on by default."""
    return switch("serve_in_batches")


def page_is_on() -> bool:
    """Whether the API server has the page "Pods": `ui`, on by default."""
    return switch("ui")


def pod_link() -> str:
    """Return the URL of a pod in a dashboard, with `{namespace}` and `{name}`: `pod_link`, empty by default."""
    value = text("pod_link")
    if value and not value.startswith(("http://", "https://")):
        raise _refused("pod_link", value, "a URL that begins with https:// or http://")
    return value


def pools_of_triggerer() -> dict[str, int]:
    """Return the pools whose tasks a triggerer may start, and how many pods of each it runs; 0: no limit.

    The name `*` stands for all pools that are not named.
    """
    found = {}
    for given in names("start_from_trigger_pools"):
        name, colon, limit = given.partition(":")
        if colon and not (limit.isdecimal() and int(limit)):
            raise _refused("start_from_trigger_pools", given, "names of pools, each alone or with a limit, `narrow:16`")
        found[name] = int(limit or 0)
    return found


def diagnosis_is_pushed() -> bool:
    """Whether a task whose pod failed gets the XCom `pod_diagnosis`."""
    return switch("push_diagnosis")


def active_deadline_is_set() -> bool:
    """Whether pods get an activeDeadlineSeconds from their execution_timeout."""
    return switch("active_deadline")


def quota_time_limit() -> float:
    """Return the seconds that a worker waits for room in a namespace's quota."""
    return seconds("wait_for_quota")


def companion_grace() -> float | None:
    """Return the default of the parameter `companion_grace_seconds`; None: no limit."""
    return None if text("companion_grace_seconds").lower() == "none" else seconds("companion_grace_seconds")


def ignored_companions() -> list[str] | Literal[True] | None:
    """Return the default of the parameter `ignore_companions`; True: all of them."""
    if text("ignore_companions").lower() in ("true", "on"):
        return True
    return names("ignore_companions") or None


def _refused(option: str, value: str, wanted: str) -> ConfigError:
    return ConfigError(f"[{SECTION}] {option} is {value[:80]!r}: write {wanted}")
