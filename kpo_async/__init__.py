"""The deferrable KubernetesPodOperator for Apache Airflow: one shared watch, live logs, no worker slot held.

    worker     execute      build the manifest, create the pod (or adopt it), defer: the worker slot is free again
    triggerer  trigger.run  subscribe to the shared informer, stream logs, wait for the result, fire one event
    worker     resume       emit the remaining logs, read the XCom, run callbacks, apply on_finish_action, end the task

With `deferrable=False` the worker does all of it, with the same code. With `end_from_trigger=True` the triggerer does
the last line too, and with `start_from_trigger=True` the first. The story is written once, in `lifecycle`, and is
async: workers run it, triggers await it.

Layers. Each imports only what is below it; import-linter enforces this for every module (pyproject.toml):

    cli, demo, migrate               the command `kpo-async`
    commands                         its subcommands that look at pods, tasks and clusters
    testing                          fixtures for pytest: users' DAGs on the embedded cluster
    plugin                           what Airflow's processes load: the reconciler, the page, links
    ui                               the page "Pods" in Airflow's API server
    reconciler                       delete pods whose try is over, once no worker or trigger is left to do it
    workerless                       tasks that start in a triggerer
    decorators                       @task.kubernetes_async, @task.kubernetes_cmd_async
    preload                          imports before Airflow forks tasks and triggers
    operators                        parameters, templates, and what a worker does
    triggers                         what a triggerer does
    hooks                            connections; differences between Airflow's versions. Nothing below imports Airflow
    lifecycle                        ensure_pod, wait, collect, finish: the story of one pod for one try
    pod_task, import_path            PodTask and Outcome, the values sent between worker and triggerer
    logs, callbacks                  follow containers' logs; call the user's code
    lease                            whether this process still has its triggers
    kube                             one API server: auth, transport, client, watch (the informer)
    pod                              pure functions: build and merge manifests, names, status, diagnosis
    secret, models                   users' objects as plain dicts
    api_types, json_types            the API's objects as slim Structs; the type of JSON objects
    metrics                          what is measured, as a table, kept until a process publishes it
    exceptions, compat, options      errors; differences between Pythons; the options of `[kpo_async]`

    localcluster                     an API server and a kubelet for tests and demos. Shares no code with the rest

Only `kube` and `localcluster` import aiohttp. `kubernetes_asyncio` exchanges OIDC tokens and defines V1Pod for hooks
and callbacks, `kubernetes` the synchronous client for callbacks; each is imported inside the function that needs it.
Importing `kpo_async.operators.pod` loads none of them, because Airflow parses DAG files again and again.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kpo_async._version import __version__

if TYPE_CHECKING:
    from kpo_async.callbacks import KubernetesPodOperatorCallback
    from kpo_async.operators.pod import KubernetesPodOperator
    from kpo_async.secret import Secret

__all__ = ["KubernetesPodOperator", "KubernetesPodOperatorCallback", "Secret", "__version__"]

_HOMES = {
    "KubernetesPodOperator": "kpo_async.operators.pod",
    "KubernetesPodOperatorCallback": "kpo_async.callbacks",
    "Secret": "kpo_async.secret",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
