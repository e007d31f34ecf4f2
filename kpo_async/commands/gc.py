"""`kpo-async gc`: list the pods of this Airflow and what the reconciler would do with each, or do it with `--yes`.

It needs Airflow's database, so run it where a scheduler or a triggerer runs.
"""

from __future__ import annotations

import argparse

from kpo_async.commands.command import add_cluster_options, add_output_option, run_command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    parser.add_argument("--yes", action="store_true", help="delete the pods; without it they are only listed")
    add_cluster_options(parser)
    add_output_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """List pods and verdicts, carry them out with `--yes`, and return the exit code."""
    return run_command("gc", _run, arguments)


async def _run(arguments: argparse.Namespace) -> int:
    from kpo_async.commands.garbage import collect

    return await collect(arguments)
