"""The page and the links of tasks in a whole Airflow: what a user sees of tasks that Airflow itself runs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from kpo_async.demo.airflow import Airflow, DagRun
from kpo_async.demo.cluster import Cluster, open_cluster
from tests.deployments.airflow import WholeAirflow, in_a_thread
from tests.ui.api_server import INSTALLATION, pod_of
from tests.ui.browser import chromium, open_page, picture

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]

DAGS = Path(__file__).parent / "dags"
DASHBOARD = "https://dashboard.example.com/{namespace}/{name}"
OTHERS = [
    *(pod_of("nightly_report", f"render_{country}", sim={}) for country in ("ch", "de", "fr", "it", "nl", "se", "uk")),
    *(pod_of("train", f"fold_{number}", sim={"start-after": "1h"} if number > 8 else {}) for number in range(12)),
    pod_of("train", "publish", image="invalid.example/publisher:2.1"),
    pod_of("ingest", "orders", sim={}, resources={"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "4"}}),
]
"""Pods for the documentation's pictures."""
TASKS = {("deferred", -1), ("mapped", 0), ("mapped", 1), ("workerless", -1)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeAirflow[Airflow]]:
    with in_a_thread(_with_dashboard(tmp_path_factory.mktemp("cluster"))) as found:
        yield found


@contextlib.asynccontextmanager
async def _with_dashboard(folder: Path) -> AsyncIterator[tuple[Airflow, Cluster]]:
    async with open_cluster(None, folder) as cluster:
        settings = {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": cluster.connection,
            "AIRFLOW__KPO_ASYNC__POD_LINK": DASHBOARD,
            "AIRFLOW__KPO_ASYNC__INSTALLATION": INSTALLATION,
            "KPO_KUBECONFIG": str(cluster.kubeconfig),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            # It would delete the pods of `OTHERS`, which no task owns.
            "AIRFLOW__KPO_ASYNC__RECONCILE": "off",
        }
        async with Airflow(DAGS, environment=settings) as airflow:
            yield airflow, cluster


@pytest.fixture(scope="module")
def run(whole: WholeAirflow[Airflow]) -> DagRun:
    """A run whose four pods run."""
    found = whole.start("shown_pods")
    whole.until("four pods", lambda: len(whole.pods()) == len(TASKS), 120)
    return found


def links(whole: WholeAirflow[Airflow], run: DagRun, task_id: str, map_index: int) -> dict[str, str]:
    path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/links?map_index={map_index}"
    found: dict[str, str] = whole.airflow.request(path, {}, method="GET")["extra_links"]
    return found


def test_every_task_has_a_link_to_its_pod_and_to_the_dashboard_while_it_runs(
    whole: WholeAirflow[Airflow], run: DagRun
) -> None:
    named = set()
    for task_id, map_index in TASKS:
        whole.until("the task to name its pod", lambda: bool(links(whole, run, task_id, map_index)["Pod"]), 60)  # noqa: B023
        found = links(whole, run, task_id, map_index)
        namespace, name = found["Pod"].removeprefix("plugin/kpo-async-pods?pod=").split("/")
        assert found["Pod dashboard"] == DASHBOARD.format(namespace=namespace, name=name)
        named.add(name)
    assert named == whole.pods()


def test_a_task_leads_to_its_pods_live_log_and_the_pod_back_to_the_task(
    whole: WholeAirflow[Airflow], run: DagRun
) -> None:
    task = f"{whole.airflow.url}/dags/{run.dag_id}/runs/{run.run_id}/tasks/deferred"
    token = whole.airflow.request("/auth/token")["access_token"]
    with chromium() as browser, open_page(browser, f"{task}/details", token) as page:
        page.get_by_role("link", name="Pod", exact=True).click()
        frame = page.frame_locator("iframe")
        expect(frame.locator("#total")).to_have_text("1 of 4 pods")
        expect(frame.locator("#log")).to_contain_text("begun")
        expect(frame.locator("#detail-facts")).to_contain_text("cpu 50m, memory 32Mi")
        expect(frame.locator("#history-caption")).to_contain_text("at most 4 at once")
        frame.locator("#detail-links a", has_text="Log").click()
        expect(page).to_have_url(re.compile("/dags/shown_pods/runs/.*/tasks/deferred\\?try_number=1"))


@pytest.fixture
def others(whole: WholeAirflow[Airflow]) -> Iterator[None]:
    for pod in OTHERS:
        whole.create(pod)
    yield
    for pod in OTHERS:
        whole.delete_pod(pod["metadata"]["name"])


@pytest.mark.usefixtures("others")
def test_the_pictures_of_the_documentation_show_many_pods(whole: WholeAirflow[Airflow], run: DagRun) -> None:
    token, total = whole.airflow.request("/auth/token")["access_token"], len(TASKS) + len(OTHERS)
    with chromium() as browser, open_page(browser, f"{whole.airflow.url}/plugin/kpo-async-pods", token) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("#total")).to_have_text(f"{total} pods")
        expect(frame.locator(".row", has_text="train.publish")).to_contain_text("cannot be pulled")
        expect(frame.locator("#connection")).to_have_text("live")
        picture(page, "pods-light")
        page.evaluate("localStorage.setItem('theme', 'dark')")
        page.reload()
        expect(frame.locator("#total")).to_have_text(f"{total} pods")
        frame.locator("#head button", has_text="Age").click()  # the oldest first, for only rows in sight can be clicked
        frame.locator(".row:visible", has_text="shown_pods.deferred").click()
        expect(frame.locator("#log")).to_contain_text("begun")
        expect(frame.locator("#connection")).to_have_text("live")
        picture(page, "pods-dark")


def test_the_page_says_that_it_does_not_know_the_clusters_of_hooks(whole: WholeAirflow[Airflow], run: DagRun) -> None:
    namespace = f"{whole.namespace}-hooked"
    whole.wait(whole.client.create("namespaces", {"metadata": {"name": namespace}}))
    hooked = whole.start("hooked_pods", {"namespace": namespace})
    whole.until("the task to be deferred", lambda: whole.airflow.task_states(hooked)["deferred"] == 1)
    token, link = whole.airflow.request("/auth/token")["access_token"], links(whole, hooked, "hooked", -1)["Pod"]
    with chromium() as browser, open_page(browser, f"{whole.airflow.url}/{link}", token) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("#hooked")).to_contain_text("1 deferred task has a cluster_hook (DAG hooked_pods)")
        # The hook leads to a cluster that a connection leads to, too, so the pod itself is shown.
        expect(frame.locator("#total")).to_have_text(f"1 of {len(TASKS) + 1} pods")
        whole.wait(whole.airflow.set_run_state(hooked, "failed"))
        expect(frame.locator("#hooked")).to_be_hidden()
    whole.wait(whole.client.delete("namespaces", namespace))


def test_a_pod_leaves_the_page_when_its_task_ends(whole: WholeAirflow[Airflow], run: DagRun) -> None:
    token = whole.airflow.request("/auth/token")["access_token"]
    with chromium() as browser, open_page(browser, f"{whole.airflow.url}/plugin/kpo-async-pods", token) as page:
        frame = page.frame_locator("iframe")
        expect(frame.locator("#total")).to_have_text("4 pods")
        whole.wait(whole.airflow.set_run_state(run, "failed"))
        expect(frame.locator("#total")).to_have_text("0 pods", timeout=60_000)
