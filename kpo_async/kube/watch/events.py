"""The five events of a watch. `watcher.py` describes their order and what may be relied on."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from kpo_async.api_types import Pod


class Init(msgspec.Struct, frozen=True):
    """A sync begins: the whole selection follows. A second `Init` before `InitDone` discards the first sync."""


class InitApply(msgspec.Struct, frozen=True, gc=False):
    """`pod` is in the selection as the sync finds it."""

    pod: Pod


class InitDone(msgspec.Struct, frozen=True):
    """The sync is complete. `rewound`: the server is behind an earlier sync, as after a restored etcd."""

    rewound: bool = False


class Apply(msgspec.Struct, frozen=True, gc=False):
    """`pod` was added or changed."""

    pod: Pod


class Delete(msgspec.Struct, frozen=True, gc=False):
    """`pod`, in its last state, left the selection. Without a `deletion_timestamp` it may live on with other labels."""

    pod: Pod


WatchEvent: TypeAlias = Init | InitApply | InitDone | Apply | Delete
