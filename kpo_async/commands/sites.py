"""Which clusters and namespaces a subcommand looks at.

`--kubeconfig` and `--context` name a cluster without Airflow. A connection needs Airflow's configuration or database,
and without any of these options the database says where tasks have created pods.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from kpo_async.commands.command import UnableError
from kpo_async.exceptions import ApiError, KpoError
from kpo_async.kube.auth import ClusterSource, load
from kpo_async.kube.client import Client
from kpo_async.pod.names import SELECTOR
from kpo_async.pod_task import ClusterRef

T = TypeVar("T")

BUDGET = 6.0
"""Seconds in which a call is retried: a person waits."""


@dataclass(frozen=True)
class Site:
    """A namespace of a cluster, and a client for it."""

    client: Client
    source: ClusterSource
    """Where the client's configuration comes from."""
    namespace: str
    selector: str
    """For the pods of this Airflow that are not done; where that is not known, for those of every Airflow."""

    def __str__(self) -> str:
        """Return words for people."""
        return f"namespace {self.namespace!r} of {self.client.config.server}"


@dataclass(frozen=True)
class Sites:
    """The sites that can be asked, and why others cannot."""

    sites: list[Site]
    problems: list[str]

    def __post_init__(self) -> None:
        if not self.sites:
            raise UnableError("; ".join(self.problems))


async def open_sites(stack: AsyncExitStack, arguments: argparse.Namespace) -> Sites:
    """Open clients for what the options name. They are closed with `stack`.

    Raises `UnableError` when there is no site, or when Airflow's database is needed and cannot be read.
    """
    if arguments.kubeconfig or arguments.context:
        return await open_places(stack, [(arguments.namespace, cluster_of(arguments))], SELECTOR)
    return await open_places(stack, *await asyncio.to_thread(_known_places, arguments.conn_id, arguments.namespace))


def cluster_of(arguments: argparse.Namespace) -> ClusterRef:
    """Return the cluster that the options name. Raises `UnableError` when they name two."""
    if arguments.conn_id and (arguments.kubeconfig or arguments.context):
        raise UnableError("give either --conn-id or --kubeconfig and --context, not both")
    return ClusterRef(conn_id=arguments.conn_id, config_file=arguments.kubeconfig, context=arguments.context)


async def open_places(stack: AsyncExitStack, places: Iterable[tuple[str | None, ClusterRef]], selector: str) -> Sites:
    """Open clients for these namespaces and clusters; without a namespace, for the cluster's own."""
    found = await asyncio.gather(*(_open(stack, *place, selector) for place in places), return_exceptions=True)
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, KpoError):
            raise error
    # Two connections may name the same cluster.
    sites = {(site.client.config.server, site.namespace): site for site in found if isinstance(site, Site)}
    return Sites(list(sites.values()), [str(error) for error in found if isinstance(error, KpoError)])


async def ask(sites: Sites, question: Callable[[Site], Awaitable[T]]) -> tuple[list[tuple[Site, T]], list[str]]:
    """Return the answers of all sites that answer, and why the others do not. Raises `UnableError` if none does."""
    answers: list[Any] = await asyncio.gather(*(question(site) for site in sites.sites), return_exceptions=True)
    found, problems = [], list(sites.problems)
    for site, answer in zip(sites.sites, answers, strict=True):
        if isinstance(answer, ApiError):
            problems.append(f"{site}: {answer}")
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found.append((site, answer))
    if not found:
        raise UnableError("; ".join(problems))
    return found, problems


async def _open(stack: AsyncExitStack, namespace: str | None, cluster: ClusterRef, selector: str) -> Site:
    if cluster.conn_id is None and (cluster.config_file or cluster.context):
        source = ClusterSource(config_file=cluster.config_file, context=cluster.context)
    else:
        # Airflow takes seconds to import, and the other way does without it.
        from kpo_async.hooks.kubernetes import resolve

        source, defaults = await resolve(cluster)
        namespace = namespace or defaults.namespace
    client = await stack.enter_async_context(Client(await load(source), retry_budget=BUDGET))
    return Site(client, source, namespace or client.config.namespace, selector)


def _known_places(conn_id: str | None, namespace: str | None) -> tuple[list[tuple[str | None, ClusterRef]], str]:
    """Return the places of this Airflow's tasks, and the selector of its pods. Blocks."""
    from kpo_async.commands.tasks import reading_database
    from kpo_async.reconciler.places import Places
    from kpo_async.reconciler.runner import selector
    from kpo_async.reconciler.thread import stored_installation_id

    with reading_database():
        known = Places().read()
        own = selector(stored_installation_id())
    fitting = [place for place in known if conn_id in (None, place.cluster.conn_id)]
    fitting = [place for place in fitting if namespace in (None, place.namespace)]
    if conn_id and not fitting:
        return [(namespace, ClusterRef(conn_id=conn_id))], own
    if not fitting:
        where = f" in namespace {namespace!r}" if namespace else ""
        raise UnableError(
            f"no task of this Airflow has created a pod{where} yet, as far as its database knows: "
            "give --namespace and --conn-id, or --kubeconfig"
        )
    return [(place.namespace, place.cluster) for place in sorted(fitting, key=str)], own
