"""`kpo-async doctor`: whether what tasks need works on this host. Each line says ok, or what to do.

Run it where the component in question runs, with its configuration: on a triggerer's host it tries what a triggerer
does. It changes nothing, except that an Airflow without an installation id gets one, as with its first task.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from importlib.metadata import PackageNotFoundError, entry_points, version

from packaging.version import Version

from kpo_async._version import __version__
from kpo_async.commands.command import Exit, UnableError, add_cluster_options, add_output_option, run_command
from kpo_async.commands.rights import allowed, components_in_use, features_in_use, rights_of
from kpo_async.commands.sites import Site, open_sites
from kpo_async.commands.table import print_json, print_table
from kpo_async.compat import StrEnum, timeout
from kpo_async.exceptions import ApiError, ConfigError, KpoError
from kpo_async.kube.watch import InitDone, watch_pods

COLUMNS = ("status", "check", "result")
OLDEST_AIRFLOW = "3.1.8"
SIDECAR_SINCE = (1, 29)
"""Kubernetes with native sidecars."""
SKEW = 2.0
"""Seconds by which the clocks may differ."""
WATCH_TIMEOUT = 15.0
SLOW_WATCH = 2.0
"""Seconds until a watch is synced that are worth a look."""
FILES = 4096
"""Open files that a triggerer with its 1,000 triggers may need: a log stream for each pod, and Airflow's own."""


class Status(StrEnum):
    """What a check found."""

    OK = "ok"
    WARNING = "warning"
    """It works, and could be better."""
    PROBLEM = "problem"


Check = tuple[Status, str, str]
"""The status, what was looked at, and what was found or what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    add_cluster_options(parser)
    add_output_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the checks and return the exit code."""
    return run_command("doctor", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    checks = [*_versions(), *_configuration(), *_airflow_settings(), *_host()]
    async with AsyncExitStack() as stack:
        try:
            sites = await open_sites(stack, arguments)
        except (UnableError, KpoError) as error:
            checks.append((Status.PROBLEM, "clusters", str(error)))
        else:
            checks += [(Status.PROBLEM, "connection", problem) for problem in sites.problems]
            for site in sites.sites:
                checks += [check async for check in _cluster(site)]
    if arguments.output == "json":
        print_json([dict(zip(COLUMNS, check, strict=True)) for check in checks])
    else:
        print_table(COLUMNS, checks)
    return Exit.PROBLEM if any(status is Status.PROBLEM for status, _, _ in checks) else Exit.DONE


def _versions() -> Iterator[Check]:
    from kpo_async.get_provider_info import INCUMBENT
    from kpo_async.hooks.airflow import AIRFLOW_VERSION

    found = f"kpo-async {__version__}, Airflow {AIRFLOW_VERSION}, Python {platform.python_version()}"
    if Version(AIRFLOW_VERSION) < Version(OLDEST_AIRFLOW):
        yield Status.PROBLEM, "versions", f"{found}: upgrade Airflow to {OLDEST_AIRFLOW} or newer"
    else:
        yield Status.OK, "versions", f"{found}; workers and triggerers need the same kpo-async"
    plugins = [plugin for plugin in entry_points(group="airflow.plugins") if plugin.value.startswith("kpo_async.")]
    if plugins:
        yield Status.OK, "plugin", "installed: triggerers look for abandoned pods"
    else:
        yield (
            Status.PROBLEM,
            "plugin",
            "the entry point is not installed: install kpo-async with pip, not by PYTHONPATH",
        )
    try:
        theirs = f"{version(INCUMBENT)} is installed: the connection type and @task.kubernetes are its own"
    except PackageNotFoundError:
        theirs = "is not installed: the connection type and @task.kubernetes are this package's"
    yield Status.OK, "provider", f"{INCUMBENT} {theirs}"


def _configuration() -> Iterator[Check]:
    from kpo_async.hooks import settings
    from kpo_async.options import OPTIONS, SECTION

    readers = {
        "boolean": settings.switch,
        "integer": settings.integer,
        "float": settings.seconds,
        "string": settings.text,
    }
    changed = []
    for name, option in OPTIONS.items():
        if settings.text(name) == option.default or settings.text(name).lower() == "none":
            continue
        try:
            readers[option.type](name)
            changed.append(name)
        except ConfigError as error:
            yield Status.PROBLEM, "configuration", str(error)
    yield Status.OK, "configuration", f"[{SECTION}] {', '.join(changed) or 'has only defaults'}"


def _airflow_settings() -> Iterator[Check]:
    from airflow.configuration import conf

    from kpo_async.hooks.airflow import remote_logging

    if not conf.getboolean("operators", "default_deferrable", fallback=False):
        advice = "a task holds a worker while its pod runs unless it says deferrable=True: set it to True"
        yield Status.WARNING, "[operators] default_deferrable", advice
    heartbeat = conf.getint("workers", "min_heartbeat_interval", fallback=5)
    if heartbeat > 5:
        advice = f"is {heartbeat}: tasks resume that many seconds after they were deferred at the earliest; set it to 5"
        yield Status.WARNING, "[workers] min_heartbeat_interval", advice
    if not remote_logging():
        advice = (
            "is off: where triggerers share no log folder with the rest, a worker ends each task for its page to show "
            "the log, and the page of a task without a worker may lack it"
        )
        yield Status.WARNING, "[logging] remote_logging", advice
    capacity = conf.getint("triggerer", "capacity", fallback=1000)
    if capacity < 200:
        advice = f"is {capacity}: further pods of one triggerer wait unwatched; 1000 is Airflow's default"
        yield Status.WARNING, "[triggerer] capacity", advice
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):
        advice = "is set: every process of Airflow compiles all modules again, for seconds; unset it"
        yield Status.WARNING, "PYTHONDONTWRITEBYTECODE", advice


def _host() -> Iterator[Check]:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= files < FILES:
        yield Status.WARNING, "open files", f"at most {files}: a busy triggerer needs {FILES}; raise `ulimit -n`"
    else:
        yield Status.OK, "open files", "no limit" if files < 0 else f"at most {files}"


async def _cluster(site: Site) -> AsyncIterator[Check]:
    """Yield the checks of a site; the first that says that there is no cluster is the last."""
    where = str(site)
    yield _origin(site)
    try:
        major, minor = await site.client.version()
    except ApiError as error:
        yield Status.PROBLEM, where, str(error)
        return
    answers = f"Kubernetes {major}.{minor} answers"
    if (major, minor) < SIDECAR_SINCE:
        advice = f'{answers}: before 1.29 results need xcom_transport="exec"'
        yield Status.WARNING, where, advice
    else:
        yield Status.OK, where, answers
    skew = site.client.clock.ahead.total_seconds()
    if abs(skew) > SKEW:
        direction = "behind" if skew > 0 else "ahead of"
        advice = f"this host's clock is {abs(skew):.0f} s {direction} the API server's: synchronize it (NTP)"
        yield Status.WARNING, f"{where}: clock", advice
    else:
        yield Status.OK, f"{where}: clock", f"agrees within {SKEW:.0f} s"
    async for check in _rights(site):
        yield check
    yield await _watch(site)


def _origin(site: Site) -> Check:
    """Say whether the cluster is found in the same way on other hosts."""
    name, source = f"{site}: connection", site.source
    if source.config_dict is not None:
        return Status.OK, name, "the kubeconfig is in the connection: workers and triggerers find the same cluster"
    if source.config_file is not None:
        advice = f"the kubeconfig {source.config_file} is read on each host: it must be on workers and triggerers alike"
        return Status.OK, name, advice
    if source.in_cluster:
        return Status.OK, name, "in_cluster: each component uses its own pod's service account, whose rights may differ"
    advice = "nothing names a cluster: each component takes its pod's service account, or else its default kubeconfig"
    return Status.WARNING, name, advice


async def _rights(site: Site) -> AsyncIterator[Check]:
    name, wanted = f"{site}: rights", rights_of(components_in_use(), features_in_use())
    try:
        verdicts = await allowed(site.client, site.namespace, wanted)
    except ApiError as error:
        yield Status.WARNING, name, f"cannot be asked for: {error}"
        return
    missing = [right for right, may in zip(wanted, verdicts, strict=True) if not may]
    for right in missing:
        advice = f"may not {right.verb} {right.resource}: {right.lost}; `kpo-async rbac` prints the Roles"
        yield Status.WARNING if right.features else Status.PROBLEM, name, advice
    if not missing:
        yield Status.OK, name, "all that Airflow's components need"


async def _watch(site: Site) -> Check:
    """Open a watch as a triggerer does, and wait for the mark that all present pods have been sent."""
    name, started = f"{site}: watch", time.monotonic()
    problems: list[str] = []

    def on_problem(problem: ApiError | None) -> None:
        problems.append(str(problem))

    try:
        async with timeout(WATCH_TIMEOUT):
            events = watch_pods(site.client, site.namespace, label_selector=site.selector, on_problem=on_problem)
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, InitDone):
                        break
    except asyncio.TimeoutError:
        reason = problems[-1] if problems else "nothing arrives: does a proxy hold answers back?"
        return Status.PROBLEM, name, f"not synced within {WATCH_TIMEOUT:.0f} s: {reason}"
    took = time.monotonic() - started
    status = Status.OK if took <= SLOW_WATCH and not problems else Status.WARNING
    note = f", after: {problems[0]}" if problems else ""
    return status, name, f"opens, and was synced after {took:.2f} s{note}"
