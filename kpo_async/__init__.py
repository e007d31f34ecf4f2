"""The deferrable KubernetesPodOperator for Apache Airflow: one shared watch, live logs, no worker slot held.

    worker     execute      build the manifest -> create the pod (or adopt it) -> defer, giving the slot back
    triggerer  trigger.run  subscribe to the shared informer -> stream logs live -> know the verdict -> one event
    worker     resume       the rest of the logs, the XCom, callbacks -> on_finish_action -> success / failed / skipped

`deferrable=False`: the worker does all of it, with the same code. `end_from_trigger=True`: the triggerer does the last
line too. There is one telling of the story, `lifecycle`, and it is async: workers run it, triggers await it.

Layers; each may import what is below it, and import-linter holds them to it:

    cli, demo, migrate                     kpo-async ...
    decorators                             @task.kubernetes_async, @task.kubernetes_cmd_async
    operators                              parameters and templates; a worker's part of the story
    triggers                               a triggerer's part of the story
    hooks                                  connections; what is particular to Airflow's versions.   Airflow ends here.
    lifecycle                              ensure_pod -> wait -> collect -> finish
    ownership, showing, narrator, deadlines   its parts: one pod for one try; logs; one line per change; time limits
    logs, xcom, callbacks                  what comes out of a pod, and the user's code along the way
    kube                                   one API server: config, client, watch, informer. A pod is a slim Struct
    pod                                    pure: build and merge manifests, names, status, diagnosis
    handover, import_path                  PodTask and Outcome, the only values that cross between worker and triggerer
    models, secret, resources              users' objects as plain dicts; typed views of the API's JSON
    exceptions, compat

    localcluster                           an API server and kubelet for tests and demos. Shares no code with the rest

aiohttp is imported in `kube` and `localcluster` only, `kubernetes` inside functions that hand its objects to users'
code, `kubernetes_asyncio` nowhere. Importing `kpo_async.operators.pod` loads none of them: DAGs are parsed all day.
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
    """The public names, imported when they are asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
