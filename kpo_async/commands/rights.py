"""Which rights are in use here, and which of them an identity has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from kpo_async.kube.client import Client
from kpo_async.pod.rights import Component, Feature, Right, rights


def features_in_use(given: Iterable[str] = ()) -> set[Feature]:
    """Return the features that are given, and those that Airflow's configuration has on for all tasks."""
    from kpo_async.hooks.settings import integer, switch

    features = {Feature(name) for name in given}
    if switch("start_from_trigger"):
        features.add(Feature.START_FROM_TRIGGER)
    if integer("retry_on_disruption"):
        features.add(Feature.RETRY)
    return features


def components_in_use() -> list[Component]:
    """Return the components that need rights. The API server needs some for the page "Pods" alone."""
    from kpo_async.hooks.settings import page_is_on

    return [component for component in Component if component is not Component.API_SERVER or page_is_on()]


def rights_of(components: Collection[Component], features: Collection[Feature]) -> list[Right]:
    """Return the rights of these components, each once, with what the first of them loses without it."""
    found: dict[tuple[str, str], Right] = {}
    for component in components:
        for right in rights(component, features):
            found.setdefault((right.verb, right.resource), right)
    return list(found.values())


async def allowed(client: Client, namespace: str, wanted: Sequence[Right]) -> list[bool]:
    """Return which of the rights the client's identity has, as the API server decides. Raises `ApiError`."""
    reviews = (client.review_access(right.verb, right.resource, namespace) for right in wanted)
    return list(await asyncio.gather(*reviews))
