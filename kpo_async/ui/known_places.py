"""Where the pods of this installation may be, as this process of the API server knows it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from dataclasses import dataclass, field

import msgspec

from kpo_async.kube.shared import PerLoop, SingleFlight
from kpo_async.reconciler.places import Place, Places
from kpo_async.reconciler.thread import stored_installation_id

FRESH_FOR = 5.0
"""Seconds for which all requests share what one has read."""


@dataclass(frozen=True)
class KnownPlaces:
    """What Airflow's database says about places."""

    installation: str
    """The installation's id."""
    places: set[Place]
    hooked: Counter[str] = field(default_factory=Counter)
    """How many deferred tasks of each DAG have a `cluster_hook`: only workers and triggerers know their places."""


_PLACES = PerLoop(Places)
_READS: SingleFlight[str, KnownPlaces] = SingleFlight("places for the page", fresh_for=FRESH_FOR)


async def known_places() -> KnownPlaces:
    """Return where the pods are. Raises `ConfigError` and SQLAlchemy's errors."""
    places = _PLACES.get()
    return await _READS.run("", lambda: asyncio.to_thread(_read, places))


def place_id(place: Place) -> str:
    """Return a name for a place in URLs, the same in every process of the API server."""
    return hashlib.sha256(msgspec.json.encode(place)).hexdigest()[:16]


def _read(places: Places) -> KnownPlaces:
    return KnownPlaces(stored_installation_id(), places.look(), places.hooked())
