"""`kpo-async rbac`: service accounts, Roles and RoleBindings from the features in use; or which rights are missing.

`--check` asks the API server what the identity in use may do: that of the process that runs it, or of the kubeconfig.
"""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack

import yaml

from kpo_async.commands.command import Exit, UnableError, add_cluster_options, complain, run_command
from kpo_async.commands.rights import allowed, components_in_use, features_in_use, rights_of
from kpo_async.commands.sites import ask, open_sites
from kpo_async.commands.table import print_json, print_table, results
from kpo_async.pod.rights import Component, Feature, manifests

COLUMNS = ("namespace", "right", "status", "without it")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this subcommand's options to `parser`."""
    parser.add_argument("--check", action="store_true", help="ask the API server which rights are missing")
    parser.add_argument("--component", choices=tuple(map(str, Component)), help="check the rights of this one only")
    parser.add_argument(
        "--feature",
        action="append",
        choices=tuple(map(str, Feature)),
        help="with the rights for a feature that single tasks use; those that are on by configuration are included",
    )
    parser.add_argument("--airflow-namespace", help="where Airflow runs (default: in the pods' namespace)")
    parser.add_argument(
        "--prefix", default="kpo-async", help="of the names, before -worker, -triggerer and -api-server"
    )
    add_cluster_options(parser)
    parser.add_argument("-o", "--output", choices=("yaml", "table", "json"), help="default: yaml; with --check: table")


def run(arguments: argparse.Namespace) -> int:
    """Print the manifests, or what is missing, and return the exit code."""
    return run_command("rbac", _check if arguments.check else _print, arguments)


async def _print(arguments: argparse.Namespace) -> int:
    if not arguments.namespace:
        raise UnableError("give --namespace, the namespace in which tasks create their pods")
    items = manifests(
        arguments.namespace,
        airflow_namespace=arguments.airflow_namespace or "",
        components=components_in_use(),
        features=features_in_use(arguments.feature or ()),
        prefix=arguments.prefix,
    )
    if arguments.output == "json":
        print_json({"apiVersion": "v1", "kind": "List", "items": items})
    else:
        yaml.dump_all(items, results(), Dumper=_NoAliases, sort_keys=False)
    return Exit.DONE


class _NoAliases(yaml.SafeDumper):
    """Writes equal values in full, as people do."""

    def ignore_aliases(self, data: object) -> bool:
        return True


async def _check(arguments: argparse.Namespace) -> int:
    components = [Component(arguments.component)] if arguments.component else components_in_use()
    wanted = rights_of(components, features_in_use(arguments.feature or ()))
    async with AsyncExitStack() as stack:
        sites = await open_sites(stack, arguments)
        answers, problems = await ask(sites, lambda site: allowed(site.client, site.namespace, wanted))
    for problem in problems:
        complain("rbac", problem)
    rows = [
        (site.namespace, f"{right.verb} {right.resource}", "ok" if may else "missing", "" if may else right.lost)
        for site, verdicts in answers
        for right, may in zip(wanted, verdicts, strict=True)
    ]
    if arguments.output == "json":
        print_json([dict(zip(COLUMNS, row, strict=True)) for row in rows])
    else:
        print_table(COLUMNS, rows)
    return Exit.PROBLEM if problems or any(status == "missing" for _, _, status, _ in rows) else Exit.DONE
