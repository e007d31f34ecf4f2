"""`kpo-async`. A subcommand is a module with `add_arguments(parser)` and `run(arguments) -> int`, loaded when used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as shells have it."""


@dataclass(frozen=True)
class Command:
    """A subcommand, whose module is loaded only when it is used."""

    name: str
    module: str
    help: str
    extra: str = ""
    """The extra of this distribution that the subcommand needs."""

    def load(self) -> ModuleType:
        """Import the module. Exit with a hint about what to install if a package is missing."""
        try:
            return import_module(self.module)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            sys.exit(f"kpo-async {self.name} needs {error.name}: pip install 'kpo-async[{self.extra}]'")


COMMANDS = (
    Command("ps", "kpo_async.commands.ps", "list living pods and their tasks; --watch shows them live"),
    Command("logs", "kpo_async.commands.logs", "print the log of a pod or of a task"),
    Command("diagnose", "kpo_async.commands.diagnose", "say why a pod failed, or what it waits for"),
    Command("gc", "kpo_async.commands.gc", "list or delete pods whose task is over"),
    Command("rbac", "kpo_async.commands.rbac", "print the Roles that Airflow needs, or check which rights are missing"),
    Command("doctor", "kpo_async.commands.doctor", "check versions, configuration, connections, rights and watches"),
    Command("render", "kpo_async.commands.render", "print the manifest of a task's pod as it would be created"),
    Command("cluster", "kpo_async.localcluster.command", "run the embedded Kubernetes cluster"),
    Command("demo", "kpo_async.demo.command", "run hundreds of deferred pods in a whole Airflow, and watch", "demo"),
    Command(
        "migrate", "kpo_async.migrate.command", "rewrite the imports of a DAG folder from the incumbent to kpo_async"
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="kpo-async", description="Tools around the deferrable KubernetesPodOperator.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = next((word for word in words if not word.startswith("-")), None)
    for command in COMMANDS:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        if command.name == wanted:
            command.load().add_arguments(subparser)
    arguments = parser.parse_args(words)
    chosen = next(command for command in COMMANDS if command.name == arguments.command)
    code: int = chosen.load().run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
