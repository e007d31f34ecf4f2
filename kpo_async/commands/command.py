"""What all subcommands share: options, exit codes, and errors as one sentence.

Results go to stdout, everything else goes to stderr: what `--output json` prints is JSON and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import warnings
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import Any

from kpo_async.commands.table import results, results_apart
from kpo_async.exceptions import KpoError
from kpo_async.kube.client import aclose_all


class Exit(IntEnum):
    """Exit codes. `cli.main` adds 130 for what Ctrl-C ended."""

    DONE = 0
    PROBLEM = 1
    """The command has looked, and something is wrong: its output says what."""
    UNABLE = 2
    """The command could not look: one sentence on stderr says why, and what to do."""


class UnableError(Exception):
    """The command cannot do what it was asked for. The message says why and what to do."""


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where to look."""
    parser.add_argument("-n", "--namespace", help="look in this namespace only")
    parser.add_argument("--conn-id", help="look in the cluster of this connection (default: all that tasks have used)")
    parser.add_argument("--kubeconfig", help="look in the cluster of this kubeconfig, without Airflow's database")
    parser.add_argument("--context", help="a context of the kubeconfig, instead of its current one")


def add_output_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--output`."""
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="for people or for programs")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the words that name a pod or a task, and the options that say which pod of a task."""
    parser.usage = f"{parser.prog} [options] (POD | DAG TASK RUN)"
    parser.add_argument("target", nargs="+", metavar="POD|DAG TASK RUN", help="[NAMESPACE/]POD, or a task of a run")
    parser.add_argument("--map-index", type=int, default=-1, help="which instance of a mapped task")
    parser.add_argument("--try", type=int, dest="try_number", help="which try of the task (default: the last one)")


def run_command(name: str, work: Callable[[argparse.Namespace], Coroutine[Any, Any, int]], args: Any) -> int:
    """Run an asynchronous subcommand and return its exit code. Errors become a sentence on stderr."""

    async def run() -> int:
        try:
            code = await work(args)
        finally:
            await aclose_all()
        results().flush()
        return code

    _prepare_for_airflow()
    try:
        with results_apart():
            return asyncio.run(run())
    except BrokenPipeError:
        # The reader has left: `kpo-async logs ... | head`. Python would complain while it flushes stdout at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (UnableError, KpoError) as error:
        complain(name, str(error))
        return Exit.UNABLE


def _prepare_for_airflow() -> None:
    """Set what Airflow looks at when it is imported: no log lines, no warnings, and connections of its database."""
    # What matters of its errors is raised.
    os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    # As `airflow connections test` does: `ensure_secrets_backend_loaded` looks at it.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    if not sys.warnoptions:
        sys.warnoptions.append("ignore")
        warnings.simplefilter("ignore")


def complain(name: str, sentence: str) -> None:
    """Print one line to stderr."""
    print(f"kpo-async {name}: {sentence.partition(chr(10))[0][:1000]}", file=sys.stderr, flush=True)
