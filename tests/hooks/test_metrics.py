"""What is measured arrives at real receivers under the names of the table, and costs nothing where nobody wants it."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import pytest

from kpo_async import metrics
from kpo_async.hooks import metrics as publication
from kpo_async.hooks.airflow import stats
from kpo_async.kube.client import Client
from kpo_async.kube.watch import InitDone, WatchEvent, watch_pods
from kpo_async.localcluster.cluster import LocalCluster
from kpo_async.metrics import METRICS, PREFIX, Kind
from tests.statsd import StatsdReceiver, statsd_receiver

ROOT = Path(__file__).parents[2]
SEEN_IN_A_POD = {
    "pods.created",
    "pods.ended",
    "pods.schedule_time",
    "pods.start_time",
    "pods.run_time",
    "pods.end_lag",
    "watch.events",
    "api.requests",
}
SEEN_IN_BROKEN_WATCHES = {"watch.relists", "watch.reconnects"}


async def run_pod(cluster: LocalCluster, **environment: str) -> None:
    """Run a pod that fails in another process, which publishes its metrics."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.hooks.publisher",
        str(cluster.kubeconfig),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await program.communicate()
    assert program.returncode == 0, output.decode()
    assert "not published" not in output.decode()


async def test_a_pods_life_arrives_at_a_statsd_receiver_with_tags(local_cluster: LocalCluster) -> None:
    with statsd_receiver() as receiver:
        await run_pod(
            local_cluster,
            AIRFLOW__METRICS__STATSD_ON="True",
            AIRFLOW__METRICS__STATSD_PORT=str(receiver.port),
            AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED="True",
        )
    packets = receiver.packets
    assert receiver.names >= SEEN_IN_A_POD
    assert receiver.names <= {metric.name for metric in METRICS}
    (ended,) = (packet for packet in packets if "pods.ended" in packet)
    assert ended.endswith(",namespace=default,verdict=failed,category=ExitCode:1|c")
    assert not any("://" in packet for packet in packets)
    assert all(packet.count(":") == 1 and packet.endswith(("|c", "|ms", "|g")) for packet in packets)


async def test_without_tags_their_values_are_parts_of_the_name(local_cluster: LocalCluster) -> None:
    with statsd_receiver() as receiver:
        await run_pod(
            local_cluster,
            AIRFLOW__METRICS__STATSD_ON="True",
            AIRFLOW__METRICS__STATSD_PORT=str(receiver.port),
        )
    packets = receiver.packets
    assert any(packet.endswith(".default.failed.ExitCode:1|c") for packet in packets)
    segments = {metric.name: len(metric.tags) + (metric.kind is Kind.GAUGE) for metric in METRICS}
    for packet in packets:
        address = packet.partition(":")[0]
        (name,) = (
            name
            for name, tags in segments.items()
            if address.startswith(name) and address.removeprefix(name).count(".") == tags
        )
        assert name


async def test_a_pods_life_arrives_at_an_opentelemetry_collector(local_cluster: LocalCluster) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    exported = ExportMetricsServiceRequest()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            exported.MergeFromString(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        await run_pod(
            local_cluster,
            AIRFLOW__METRICS__OTEL_ON="True",
            AIRFLOW__METRICS__OTEL_HOST="127.0.0.1",
            AIRFLOW__METRICS__OTEL_PORT=str(server.server_port),
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        )
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
    found = {
        metric.name.removeprefix(f"airflow.{PREFIX}"): metric
        for resource in exported.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert set(found) >= SEEN_IN_A_POD
    (point,) = found["pods.ended"].sum.data_points
    tags = {attribute.key: attribute.value.string_value for attribute in point.attributes}
    assert (tags["verdict"], tags["category"], tags["namespace"]) == ("failed", "ExitCode", "default")


async def test_nothing_is_collected_where_airflow_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in publication.MEANS:
        monkeypatch.setenv(f"AIRFLOW__METRICS__{option.upper()}", "False")
    before = asyncio.all_tasks()
    async with publication.publishing():
        metrics.count(metrics.LOG_LINES)
        metrics.record(metrics.RUN_TIME, 1.0, "cluster", "default")
        assert asyncio.all_tasks() == before
    assert metrics.stop_collecting() == metrics.Measurements()


@pytest.mark.virtual_time
async def test_gauges_go_back_to_zero_when_nothing_provides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with published_here(monkeypatch) as receiver:
        forget = metrics.provide_gauges(lambda: [(metrics.PLACES_WAITING, 3, ())])
        async with publication.publishing():
            await asyncio.sleep(publication.PERIOD + 1)
            forget()
            await asyncio.sleep(publication.PERIOD + 1)
        await publication._PUBLISHERS.aclose()
    values = [packet.partition(":")[2] for packet in receiver.packets if "places.waiting" in packet]
    assert values == ["3|g", "0.0|g"]


async def test_a_watch_that_breaks_and_one_that_has_to_list_again_are_counted(
    monkeypatch: pytest.MonkeyPatch, local_cluster: LocalCluster, local_client: Client
) -> None:
    with published_here(monkeypatch, STATSD_INFLUXDB_ENABLED="True") as receiver:
        async with publication.publishing(), aclosing(watch_pods(local_client, "default")) as events:
            await until_synced(events)
            local_cluster.faults.expire_watches()
            await until_synced(events)
        await publication._PUBLISHERS.aclose()
    assert receiver.names >= SEEN_IN_BROKEN_WATCHES
    assert all("namespace=default" in packet for packet in receiver.of("watch.relists"))
    assert {packet.rpartition("cause=")[2] for packet in receiver.of("watch.reconnects")} == {"error:1|c"}


async def until_synced(events: AsyncIterator[WatchEvent]) -> None:
    async for event in events:
        if isinstance(event, InitDone):
            return


def test_every_metric_is_seen_to_arrive() -> None:
    from tests.whole_airflow.test_metrics import SEEN

    assert {metric.name for metric in METRICS} == SEEN | SEEN_IN_BROKEN_WATCHES


@contextmanager
def published_here(monkeypatch: pytest.MonkeyPatch, **options: str) -> Iterator[StatsdReceiver]:
    """Receive what this process publishes inside the block."""
    if not hasattr(stats(), "_get_backend"):
        pytest.skip("Airflow before 3.3 does not say through what it publishes, so it cannot be closed")
    utils = import_module("airflow.observability.metrics.stats_utils")
    with statsd_receiver() as receiver:
        with monkeypatch.context() as environment:
            environment.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
            environment.setenv("AIRFLOW__METRICS__STATSD_PORT", str(receiver.port))
            for option, value in options.items():
                environment.setenv(f"AIRFLOW__METRICS__{option}", value)
            stats().initialize(factory=utils.get_stats_factory(), export_legacy_names=False)
            yield receiver
            stats()._get_backend().statsd.close()  # Airflow never does
        stats().initialize(factory=utils.get_stats_factory(), export_legacy_names=False)
