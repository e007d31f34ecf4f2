"""The id that distinguishes the pods of this Airflow from those of other Airflows on the same cluster."""

from __future__ import annotations

import logging
import math
import secrets

from airflow.sdk import Variable
from asgiref.sync import sync_to_async

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.airflow import database_answers, get_variable
from kpo_async.hooks.settings import text
from kpo_async.kube.shared import SingleFlight
from kpo_async.pod.names import INSTALLATION_LABEL, is_label_value

log = logging.getLogger(__name__)

VARIABLE = "kpo_async_installation"
"""The Airflow Variable that holds the id where the configuration has none. The first task creates it."""

DESCRIPTION = "kpo-async: the label kpo-async/installation of its pods"

_FETCHES: SingleFlight[str, str | None] = SingleFlight("installation id", fresh_for=math.inf)


async def installation_id() -> str | None:
    """Return the value of the label `kpo-async/installation`, in a worker as in a triggerer.

    It is `[kpo_async] installation`, or else the Variable `kpo_async_installation`, which is created if it is missing.
    None where it cannot be: outside of a task, or when Airflow refuses. Raises `ConfigError` for an id that cannot be a
    label's value.
    """
    return configured_id() or await _FETCHES.run(VARIABLE, _from_variable)


def configured_id() -> str | None:
    """Return `[kpo_async] installation`, None if it is not set. Raises `ConfigError` like `installation_id`."""
    configured = text("installation")
    return checked_id(configured, "[kpo_async] installation") if configured else None


def new_id() -> str:
    """Return an id for an installation that has none: 12 random hexadecimal digits."""
    return secrets.token_hex(6)


def checked_id(value: str, origin: str) -> str:
    """Return `value` if it can be a label's value. Raises `ConfigError`, naming `origin`."""
    if value and is_label_value(value):
        return value
    raise ConfigError(
        f"{origin} is {value[:80]!r}, which cannot be the value of the label {INSTALLATION_LABEL}: use at most 63 "
        "letters, digits, dashes, dots and underscores, with a letter or digit at both ends"
    )


async def _from_variable() -> str | None:
    try:
        found = await get_variable(VARIABLE)
        if found is None:  # by a database that is away?
            await database_answers()
            found = await get_variable(VARIABLE)
        if found is None:
            await sync_to_async(Variable.set)(VARIABLE, new_id(), description=DESCRIPTION)
            # Another task may have created it at the same time: the stored one counts.
            found = await get_variable(VARIABLE)
    except Exception as error:  # ImportError outside of a task, AirflowRuntimeError when Airflow refuses or is away
        log.debug("The Variable %s is not to be had, so pods get no label for it: %r", VARIABLE, error)
        return None
    return None if found is None else checked_id(found, f"the Variable {VARIABLE}")
