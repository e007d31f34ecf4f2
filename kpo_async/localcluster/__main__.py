"""`python -m kpo_async.localcluster`."""

from __future__ import annotations

import argparse
import sys

from kpo_async.localcluster import command

parser = argparse.ArgumentParser(prog="python -m kpo_async.localcluster", description=command.__doc__)
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
