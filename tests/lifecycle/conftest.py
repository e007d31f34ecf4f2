"""The embedded cluster, as `client`."""

from __future__ import annotations

import pytest

from kpo_async.kube.client import Client


@pytest.fixture
def client(local_client: Client) -> Client:
    return local_client
