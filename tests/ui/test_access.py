"""Who sees what: nothing without a login, the pods of readable DAGs only, and never a secret."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from kpo_async.pod_task import ClusterRef
from kpo_async.reconciler.places import Place
from kpo_async.ui.known_places import place_id
from tests.ui.conftest import HTML, Site, events

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(180)]

PATHS = ["", "pods.js", "table.js", "pods.css", "stream", "history", "log?place=p&name=n&uid=u&container=base"]


def names(site: Site, user: str, role: str = "viewer") -> set[str]:
    """The pods that a user sees once all watches have made up their minds."""
    return {row["pod"]["name"] for row in snapshot(site, user, role)["pods"]}


def snapshot(site: Site, user: str, role: str = "viewer") -> dict[str, Any]:
    """What the stream has said until all watches were live or failing."""
    found: dict[str, Any] = {}
    with site.server.client(user, role) as client, client.stream("GET", "stream") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for _, data in events(response):
            found = {**data, "pods": [*found.get("pods", ()), *data["pods"]]}
            states = [watch["state"] for watch in data["watches"]] + list(data["hidden"])
            if len(states) > 0 and set(states) <= {"live", "failing"}:
                break
    return found


def log_query(site: Site, pod: str, **changes: str) -> str:
    """The request for the log of a pod, with other parameters in it."""
    place = place_id(Place(site.cluster.namespace, ClusterRef(conn_id="kubernetes_default")))
    uid = site.pod(pod)["metadata"]["uid"]
    return "log?" + urlencode({"place": place, "name": pod, "uid": uid, "container": "base", **changes})


def status(client: httpx.Client, query: str) -> int:
    """The status of a response that may never end."""
    with client.stream("GET", query) as response:
        return response.status_code


def log_lines(client: httpx.Client, query: str, enough: int) -> list[str]:
    lines: list[str] = []
    with client.stream("GET", query) as response:
        assert response.status_code == 200, response.read()
        for name, data in events(response):
            lines += data.get("lines", [f"{name}: {data.get('reason')}"])
            if len(lines) >= enough or name == "end":
                break
    return lines


@pytest.mark.parametrize("path", PATHS)
def test_without_a_login_every_request_is_refused(site: Site, path: str) -> None:
    with site.server.client(None) as client:
        assert client.get(path).status_code == 401
        client.headers["Authorization"] = "Bearer forged"
        assert client.get(path).status_code == 403


@pytest.mark.parametrize("path", ["plugin.py", "..%2Fplugin.py", "..%2F__init__.py", "static/pods.js", "pods.html"])
def test_no_other_file_is_served(site: Site, path: str) -> None:
    with site.server.client("root", "admin") as client:
        assert client.get(path).status_code == 404


def test_a_user_sees_the_pods_of_readable_dags_only(site: Site) -> None:
    assert names(site, "root", "admin") == {"billing-invoices", "billing-waits", "reports-monthly"}
    assert names(site, "ann") == {"billing-invoices", "billing-waits"}
    assert names(site, "nobody") == set()


def test_a_log_is_refused_across_dags_and_without_the_right_to_logs(site: Site) -> None:
    invoices, monthly = log_query(site, "billing-invoices"), log_query(site, "reports-monthly")
    with site.server.client("ann") as ann, site.server.client("lena") as lena:
        assert status(ann, invoices) == 200
        assert status(ann, monthly) == 403
        assert status(lena, invoices) == 403
        assert status(lena, monthly) == 403


@pytest.mark.parametrize(
    "changes", [{"uid": "another"}, {"place": "another"}, {"name": "../pods"}, {"name": "reports-foreign"}]
)
def test_a_pod_that_is_not_of_this_installation_is_not_found(site: Site, changes: dict[str, str]) -> None:
    if changes.get("name") == "reports-foreign":
        changes = {**changes, "uid": site.pod("reports-foreign")["metadata"]["uid"]}
    with site.server.client("root", "admin") as client:
        assert status(client, log_query(site, "billing-invoices", **changes)) == 404


def test_a_log_is_streamed_with_the_secrets_of_the_tasks_connections_masked(site: Site) -> None:
    with site.server.client("ann") as client:
        lines = log_lines(client, log_query(site, "billing-invoices"), enough=6)
    assert lines[:3] == [HTML, "password ***", "caf\u00e9"]
    assert "tick" in lines[3:]


def test_a_container_that_the_tasks_log_does_not_show_is_not_shown(site: Site) -> None:
    with site.server.client("ann") as client:
        (reason,) = log_lines(client, log_query(site, "billing-invoices", container="airflow-xcom-sidecar"), enough=1)
    assert reason.startswith("end: The task's log does not show container 'airflow-xcom-sidecar'")


def test_no_secret_and_no_environment_variable_is_sent(site: Site) -> None:
    with site.server.client("root", "admin") as client, client.stream("GET", "stream") as response:
        text = ""
        for chunk in response.iter_text():
            text += chunk
            if text.count("event: ") >= 3:
                break
    assert "billing-invoices" in text
    assert "s3cr3t" not in text
    assert "KEY" not in text
    assert HTML not in text


def test_a_cluster_that_cannot_be_reached_is_named_and_the_rest_is_shown(site: Site) -> None:
    seen = snapshot(site, "root", "admin")
    states = {watch["connection"]: watch for watch in seen["watches"]}
    assert states["kubernetes_default"]["state"] == "live"
    failing = states["moved_away"]
    assert failing["state"] == "failing"
    assert "127.0.0.1:9" in failing["problem"]
    assert len(seen["pods"]) == 3


def test_what_is_wrong_with_a_connection_is_for_those_who_may_read_it(site: Site) -> None:
    seen = snapshot(site, "ann")
    assert [watch["connection"] for watch in seen["watches"]] == ["kubernetes_default"]
    assert seen["hidden"] == {"failing": 1}
    assert "127.0.0.1:9" not in str(seen)


def test_every_response_has_a_strict_content_security_policy(site: Site) -> None:
    with site.server.client("ann") as client, site.server.client(None) as stranger:
        for response in (client.get(""), client.get("pods.js"), client.get("history"), stranger.get("")):
            policy = response.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert "*" not in policy
            assert response.headers["x-content-type-options"] == "nosniff"


def test_the_watch_is_shared_and_ends_some_seconds_after_the_last_page(site: Site) -> None:
    site.until("no watch to be open", lambda: site.watches() == 0, 30)
    with (
        site.server.client("ann") as ann,
        site.server.client("root", "admin") as root,
        ann.stream("GET", "stream") as one,
        root.stream("GET", "stream") as two,
    ):
        streams = events(one), events(two)
        for stream in streams:
            next(stream)
        site.until("a watch to be open", lambda: site.watches() == 1, 10)
        for stream in streams:
            next(stream)
        assert site.watches() == 1
    site.until("the watch to end", lambda: site.watches() == 0, 30)


def test_the_api_server_stops_at_once_while_a_page_and_a_log_are_open(site: Site) -> None:
    """Uvicorn waits for open responses, by default for two minutes."""
    with (
        site.server.client("root", "admin") as client,
        client.stream("GET", "stream") as page,
        client.stream("GET", log_query(site, "billing-invoices")) as log,
    ):
        next(events(page))
        next(events(log))
        assert site.restart() < 10
