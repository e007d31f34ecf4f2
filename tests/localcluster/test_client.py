"""The in-process client: it follows the rules of the API, without HTTP."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from kpo_async.localcluster import events
from kpo_async.localcluster.api import registry
from kpo_async.localcluster.api.authentication import TokenAuthenticator
from kpo_async.localcluster.api.authorization import Authorizer
from kpo_async.localcluster.api.registry import Registry
from kpo_async.localcluster.api.reviews import Reviews
from kpo_async.localcluster.client import InProcessClient, NotFound, StatusError
from kpo_async.localcluster.controllers.controllers import Controllers
from kpo_async.localcluster.store.objects import Object
from kpo_async.localcluster.store.store import Store
from tests.conformance.api import pod

NODE = "local-1"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def authenticator(store: Store) -> TokenAuthenticator:
    return TokenAuthenticator(store)


@pytest.fixture
def client(store: Store, authenticator: TokenAuthenticator) -> InProcessClient:
    """A client of a cluster that has its namespaces."""
    rules = Registry(store)
    made = InProcessClient(rules, Reviews(rules, authenticator, Authorizer(store)))
    Controllers(made).create_namespaces()
    return made


def create(client: InProcessClient, name: str, **metadata: Any) -> Object:
    body = pod(name, "true")
    return client.create("pods", {**body, "metadata": {**body["metadata"], "namespace": "default", **metadata}})


def test_a_created_pod_gets_the_defaults_of_the_api(client: InProcessClient) -> None:
    assert create(client, "one")["spec"]["serviceAccountName"] == "default"
    with pytest.raises(StatusError, match='Pod "Bad_Name" is invalid'):
        create(client, "Bad_Name")


def test_a_missing_object_is_not_found(client: InProcessClient) -> None:
    with pytest.raises(NotFound, match='pods "none" not found'):
        client.get("pods", "default", "none")


def test_a_status_update_changes_the_status_only(client: InProcessClient) -> None:
    created = create(client, "one")
    changed = {**created, "spec": {}, "status": {"phase": "Running"}}
    assert client.update_status("pods", changed)["status"] == {"phase": "Running"}
    assert client.get("pods", "default", "one")["spec"] == created["spec"]


def test_an_update_of_an_old_version_is_refused(client: InProcessClient) -> None:
    created = create(client, "one")
    client.update_status("pods", {**created, "status": {"phase": "Running"}})
    with pytest.raises(StatusError, match="the object has been modified"):
        client.update_status("pods", {**created, "status": {"phase": "Failed"}})


def test_a_running_pod_is_removed_when_its_deletion_is_confirmed(client: InProcessClient) -> None:
    created = create(client, "one")
    client.bind(created, NODE)
    client.delete("pods", "default", "one")
    assert client.get("pods", "default", "one")["metadata"]["deletionGracePeriodSeconds"] == 2
    with pytest.raises(StatusError, match="does not match the UID in record"):
        client.delete("pods", "default", "one", grace_seconds=0, uid="another")
    client.delete("pods", "default", "one", grace_seconds=0, uid=created["metadata"]["uid"])
    assert client.list("pods") == []


async def test_a_watch_starts_with_the_current_objects_and_follows_its_selector(client: InProcessClient) -> None:
    client.bind(create(client, "bound"), NODE)
    create(client, "unbound")
    async with aclosing(client.watch("pods", f"spec.nodeName={NODE}")) as watch:
        first = await anext(watch)
        assert (first.type, first.object["metadata"]["name"]) == ("ADDED", "bound")
        client.bind(client.get("pods", "default", "unbound"), NODE)
        second = await anext(watch)
        assert (second.type, second.object["metadata"]["name"]) == ("ADDED", "unbound")


def test_a_token_authenticates_its_service_account(client: InProcessClient, authenticator: TokenAuthenticator) -> None:
    token = client.create_token("default", "default", 600)
    assert authenticator.authenticate(f"Bearer {token}").name == "system:serviceaccount:default:default"
    with pytest.raises(NotFound, match='serviceaccounts "none" not found'):
        client.create_token("default", "none", 600)


def test_a_finalized_namespace_is_removed_with_objects_that_have_finalizers(client: InProcessClient) -> None:
    client.create("namespaces", {"metadata": {"name": "doomed"}})
    kept = {"metadata": {"name": "kept", "namespace": "doomed", "finalizers": ["example.com/hold"]}}
    client.create("configmaps", kept)
    client.finalize_namespace("doomed")
    assert client.list("configmaps", "doomed") == []
    with pytest.raises(NotFound):
        client.get("namespaces", "", "doomed")


def test_a_repeated_event_is_counted(client: InProcessClient, store: Store) -> None:
    created = create(client, "one")
    recorder = events.EventRecorder(client, store.clock)
    for _ in range(3):
        recorder.record(created, "Warning", "BackOff", "again", "spec.containers{base}")
    recorder.record(created, "Warning", "BackOff", "another message")
    found = {event["message"]: event for event in client.list("events")}
    assert (found["again"]["count"], found["another message"]["count"]) == (3, 1)
    assert found["again"]["involvedObject"]["fieldPath"] == "spec.containers{base}"


def test_an_event_about_a_pod_with_the_longest_name_has_a_valid_name(client: InProcessClient, store: Store) -> None:
    created = create(client, "p" * 253)
    events.EventRecorder(client, store.clock).record(created, "Normal", "Started", "started")
    [event] = client.list("events")
    assert event["involvedObject"]["name"] == "p" * 253


def test_an_event_in_a_terminating_namespace_is_dropped(client: InProcessClient, store: Store) -> None:
    created = create(client, "one")
    client.delete("namespaces", "", "default")
    events.EventRecorder(client, store.clock).record(created, "Normal", "Started", "started")
    assert client.list("events") == []


def test_the_oldest_events_expire_when_there_are_too_many(
    client: InProcessClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "EVENTS_LIMIT", 20)
    created = create(client, "one")
    recorder = events.EventRecorder(client, store.clock)
    for number in range(21):
        recorder.record(created, "Normal", "Started", f"message {number}")
    assert [event["message"] for event in client.list("events")] == [f"message {n}" for n in range(2, 21)]
