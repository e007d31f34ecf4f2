"""`kpo-async cluster` and `python -m kpo_async.localcluster`: an embedded cluster in its own process."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from kpo_async.localcluster.cluster import LocalCluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--port", type=int, default=0, help="loopback port of the API server (default: a free one)")
    parser.add_argument("--kubeconfig", type=Path, help="where to write the kubeconfig (default: in the directory)")
    parser.add_argument("--directory", type=Path, help="where containers keep their files (default: a temporary one)")
    parser.add_argument("--no-tls", action="store_true", help="plain HTTP; kubectl then sends no credentials")


def run(arguments: argparse.Namespace) -> int:
    """Start a cluster, print the path of its kubeconfig as the first line, and run until SIGTERM or SIGINT."""
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        print(f"The embedded cluster cannot start: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with LocalCluster(
        port=arguments.port,
        directory=arguments.directory,
        kubeconfig_path=arguments.kubeconfig,
        tls=not arguments.no_tls,
    ) as cluster:
        print(cluster.kubeconfig, flush=True)
        print(f"API server at {cluster.url}; Ctrl-C ends it and its pods", file=sys.stderr, flush=True)
        await stopping.wait()
