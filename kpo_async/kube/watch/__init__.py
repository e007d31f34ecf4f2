"""Follow pods: one shared watch per namespace and selector, however many tasks ask.

informer.py          the shared watch and its promises to subscribers; `follow` is the way in
single_pod.py        one pod by its own watch or by polling, where the shared watch is forbidden or does not show it
subscription.py      the latest view of one pod, and its subscribers
watcher.py           list and watch as a stream of five events (`events.py`) that never ends
decode.py            bytes of lists and watches -> typed pods
resource_version.py  which of two versions is older
"""

from __future__ import annotations

from kpo_async.kube.watch.events import Apply, Delete, Init, InitApply, InitDone, WatchEvent
from kpo_async.kube.watch.informer import follow
from kpo_async.kube.watch.subscription import Presence, Subscription, View
from kpo_async.kube.watch.watcher import Watcher, watch_pods

__all__ = [
    "Apply",
    "Delete",
    "Init",
    "InitApply",
    "InitDone",
    "Presence",
    "Subscription",
    "View",
    "WatchEvent",
    "Watcher",
    "follow",
    "watch_pods",
]
