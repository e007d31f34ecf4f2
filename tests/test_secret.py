"""`Secret`: the incumbent's behaviour, plain dicts, and the incumbent's own objects accepted."""

from __future__ import annotations

from typing import Any

import pytest

from kpo_async.exceptions import ManifestError
from kpo_async.secret import Secret

POD = {"spec": {"containers": [{"name": "base", "env": [{"name": "A"}]}, {"name": "other"}]}}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("file", "X", "s"), "deploy_type is 'file'"),
        (("env", None, "s", "key"), "a key needs a deploy_target"),
    ],
)
def test_contradicting_arguments_are_refused(parts: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        Secret(*parts)


def test_one_key_becomes_a_variable_in_upper_case() -> None:
    secret = Secret("env", "sql_conn", "airflow-secrets", "key")
    assert secret.to_env_secret() == {
        "name": "SQL_CONN",
        "valueFrom": {"secretKeyRef": {"name": "airflow-secrets", "key": "key"}},
    }
    assert secret.attach_to_pod(POD)["spec"]["containers"][0]["env"] == [{"name": "A"}, secret.to_env_secret()]


def test_without_a_key_every_key_becomes_a_variable() -> None:
    container = Secret("env", None, "all").attach_to_pod(POD)["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "all"}}]


def test_a_volume_is_mounted_in_the_first_container_only() -> None:
    secret = Secret("volume", "/etc/x", "s", items=[{"key": "k", "path": "p"}])
    spec = secret.attach_to_pod(POD)["spec"]
    volume, mount = secret.to_volume_secret()
    assert volume["secret"] == {"secretName": "s", "items": [{"key": "k", "path": "p"}]}
    assert mount == {"name": volume["name"], "mountPath": "/etc/x", "readOnly": True}
    assert spec["volumes"] == [volume]
    assert spec["containers"][0]["volumeMounts"] == [mount]
    assert spec["containers"][1] == {"name": "other"}


def test_volumes_have_different_names_when_they_differ_in_anything() -> None:
    secrets = [
        Secret("volume", "/a", "s"),
        Secret("volume", "/b", "s"),
        Secret("volume", "/a", "t"),
        Secret("volume", "/a", "s", items=[{"key": "k", "path": "p"}]),
    ]
    volumes = {secret.to_volume_secret()[0]["name"] for secret in secrets}
    assert len(volumes) == len(secrets)
    assert all(len(name) <= 63 for name in volumes)


def test_attaching_does_not_change_the_given_pod() -> None:
    before = repr(POD)
    Secret("volume", "/a", "s").attach_to_pod(POD)
    assert repr(POD) == before


def test_equality_hash_and_repr_are_the_incumbents() -> None:
    one, same, other = Secret("env", "a", "s", "k"), Secret("env", "A", "s", "k"), Secret("env", "a", "s", "l")
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != "s"
    assert repr(one) == "Secret(env, A, s, k)"


def test_a_secret_travels_as_a_dict() -> None:
    secret = Secret("volume", "/a", "s", items=[{"key": "k", "path": "p"}])
    travelled = Secret.of(secret.as_dict())
    assert travelled == secret
    assert travelled.items == secret.items


@pytest.mark.parametrize("value", ["s", None, {"secret": "s"}, object], ids=repr)
def test_an_object_that_is_not_a_secret_is_refused(value: Any) -> None:
    with pytest.raises(ManifestError, match="secrets"):
        Secret.of(value)


@pytest.mark.parametrize(
    "parts",
    [("env", "a", "s", "k"), ("env", "a", "s"), ("env", None, "s"), ("volume", "/a", "s"), ("volume", "/a", "s", "k")],
)
def test_the_incumbents_object_is_accepted_and_does_the_same(parts: tuple[Any, ...]) -> None:
    incumbent = pytest.importorskip("tests.incumbent", exc_type=ImportError)
    theirs = incumbent.Secret(*parts)
    ours = Secret.of(theirs)
    assert ours == Secret(*parts)
    assert repr(ours) == repr(theirs)
    pod = incumbent.model(POD, "Pod")
    expected = incumbent.plain(theirs.attach_to_pod(pod))
    found = ours.attach_to_pod(POD)
    for manifest in (expected, found):
        for item in (*manifest["spec"].get("volumes", ()), *manifest["spec"]["containers"][0].get("volumeMounts", ())):
            item["name"] = "secretvol"
    assert found == expected
