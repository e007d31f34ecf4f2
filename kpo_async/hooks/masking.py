"""Mask in a triggerer's logs the secrets that a task's templates read on its worker.

A pod may print what its `env_vars` were given. Airflow masks the secrets of those connections and variables that a
process has fetched; a worker has fetched those of its templates, a triggerer has not. A trigger is given their names
only, and fetches them before it shows a log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from kpo_async.hooks.airflow import get_connection, get_extra, get_variable
from kpo_async.hooks.connection import FRESH_FOR
from kpo_async.kube.shared import PerLoop, SingleFlight

log = logging.getLogger(__name__)

_FETCHES: SingleFlight[tuple[str, str], None] = SingleFlight("secret to mask", fresh_for=FRESH_FOR)
_LOCKS = PerLoop(asyncio.Lock)


async def mask_secrets_of(connections: Iterable[str], variables: Iterable[str]) -> None:
    """Fetch these connections and variables, by which Airflow learns what to mask. What is gone is logged."""
    # One after the other: Airflow's masker loses a secret that another thread adds at the same moment
    # (`SecretsMasker.add_mask` compiles its pattern without a lock).
    async with _LOCKS.get():
        for name in connections:
            await _fetch("connection", name, _fetch_connection)
        for name in variables:
            await _fetch("variable", name, get_variable)


async def _fetch(kind: str, name: str, fetch: Callable[[str], Awaitable[Any]]) -> None:
    try:
        await _FETCHES.run((kind, name), partial(fetch, name))
    except Exception as error:  # of a secrets backend, too: the pod must be followed all the same
        log.warning("Secrets of the %s %r are not masked in this log: %s", kind, name, type(error).__name__)


async def _fetch_connection(conn_id: str) -> None:
    await get_extra(await get_connection(conn_id))
