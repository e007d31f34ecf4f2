"""Runs one pod as a process of Airflow's would, and publishes its metrics: `publisher.py KUBECONFIG`.

Airflow's metrics are configured by the environment. A call that blocks the event loop ends this with an error.
"""

from __future__ import annotations

import asyncio
import sys

from airflow.configuration import conf
from blockbuster import BlockBuster

from kpo_async.hooks.metrics import publishing
from kpo_async.kube.auth import ClusterSource
from kpo_async.kube.client import connect
from tests.factories import wait_for_pod


def main() -> None:
    initialize()
    asyncio.run(run_pod(sys.argv[1]))


def initialize() -> None:
    """Do what Airflow's components do when they start."""
    try:
        from airflow.observability import stats
        from airflow.observability.metrics.stats_utils import get_stats_factory
    except ModuleNotFoundError:  # Airflow 3.1
        return
    if hasattr(stats, "initialize"):
        stats.initialize(factory=get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on"))
    else:  # Airflow 3.2
        stats.Stats.initialize(factory=get_stats_factory(stats.Stats))


async def run_pod(kubeconfig: str) -> None:
    detector = BlockBuster(scanned_modules=["kpo_async"])
    async with publishing(), connect(ClusterSource(config_file=kubeconfig)) as client:
        detector.activate()
        await wait_for_pod(client, "echo one; echo two; exit 3")
    # The rest is published when the loop is closed.


if __name__ == "__main__":
    main()
