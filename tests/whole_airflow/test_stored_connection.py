"""Workers and triggerers find a connection that is in Airflow's database: each asks for it in a way of its own."""

from __future__ import annotations

import json

import pytest

from tests.whole_airflow.conftest import WholeAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(300)]


def test_a_connection_in_the_database_leads_to_its_cluster(whole_airflow: WholeAirflow) -> None:
    connection = json.loads(whole_airflow.connection)
    body = {"connection_id": "stored", **connection, "extra": json.dumps(connection["extra"])}
    whole_airflow.airflow.request("/api/v2/connections", body)
    run = whole_airflow.run("stored_connection")
    assert whole_airflow.failures(run) == {}
