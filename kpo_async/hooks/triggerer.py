"""How a process finds out that it is a triggerer, and what of it may be adapted. Imports nothing of Airflow."""

from __future__ import annotations

import sys
from typing import Any

TRIGGERER_MODULE = "airflow.jobs.triggerer_job_runner"
"""Loaded in a triggerer, and not in schedulers, dag-processors or tasks."""


def triggerer_module() -> Any:
    """Return Airflow's module of the triggerer; None in other processes."""
    return sys.modules.get(TRIGGERER_MODULE)
