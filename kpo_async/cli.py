"""`kpo-async`: a subcommand is a module with `add_arguments(parser)` and `run(arguments) -> int`, loaded when used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """A subcommand; its module is loaded only when it is the one that was asked for."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("cluster", "kpo_async.localcluster.command", "run the embedded Kubernetes cluster"),
    Command("demo", "kpo_async.demo.command", "run hundreds of deferred pods in a whole Airflow, and watch"),
    Command("migrate", "kpo_async.migrate.command", "rewrite a DAG folder's imports from the incumbent's to these"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="kpo-async", description="Tools around the deferrable KubernetesPodOperator.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in words if not word.startswith("-")), None)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        if command.name == wanted:
            import_module(command.module).add_arguments(subparser)
    arguments = parser.parse_args(words)
    chosen = next(command for command in COMMANDS if command.name == arguments.command)
    code: int = import_module(chosen.module).run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
