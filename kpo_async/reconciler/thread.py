"""Run the reconciler in a daemon thread of the triggerer's main process, which has Airflow's database.

The triggers run in a child of that process, where user code is, and where Airflow gives no access to the database. The
thread starts after that child was forked, so that the fork copies no running thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from kpo_async.exceptions import ConfigError
from kpo_async.hooks.installation import DESCRIPTION, VARIABLE, checked_id, configured_id, new_id
from kpo_async.hooks.metrics import publishing
from kpo_async.hooks.settings import switch

log = logging.getLogger(__name__)

START_PAUSE = 60.0
"""Seconds until another attempt when the reconciler has failed."""


def start() -> None:
    """Start the thread, unless `[kpo_async] reconcile` is off. It ends with its process."""
    if switch("reconcile"):
        threading.Thread(target=_run, name="kpo-async reconciler", daemon=True).start()


def _run() -> None:
    asyncio.run(_supervise())


async def _supervise() -> None:
    """Run the reconciler and start it again should it fail."""
    from kpo_async.reconciler.runner import Reconciler

    while True:
        try:
            installation = await asyncio.to_thread(stored_installation_id)
            log.info("Looking for abandoned pods of installation %s", installation)
            async with publishing():
                await Reconciler(installation).run()
        except (ConfigError, SQLAlchemyError) as error:
            log.warning("Abandoned pods are not looked for: %s", error)
        except Exception:  # pods left behind must not depend on a fault that one of them causes
            log.exception("The reconciler of pods failed and is started again in %.0f s", START_PAUSE)
        await asyncio.sleep(START_PAUSE)


def stored_installation_id() -> str:
    """Return the installation's id from the configuration or Airflow's database, where it is created if missing.

    For processes that have the database. Raises `ConfigError` and SQLAlchemy's errors.
    """
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    if configured := configured_id():
        return configured
    found = Variable.get(VARIABLE, default_var=None)
    if found is None:
        # `Variable.get` takes a database that does not answer for a Variable that is missing: ask that itself.
        with create_session() as session:
            stored = session.scalar(select(Variable).where(Variable.key == VARIABLE))
            if stored is None:
                Variable.set(VARIABLE, new_id(), description=DESCRIPTION, session=session)
        found = Variable.get(VARIABLE)
    return checked_id(found, f"the Variable {VARIABLE}")
