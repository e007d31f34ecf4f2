"""The five things a watch says. See `watch.py` for their order and what may be relied on."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from kpo_async.api_types import Pod


class Init(msgspec.Struct, frozen=True):
    """The selection is told from the beginning. A second `Init` before `InitDone` throws the first telling away."""


class InitApply(msgspec.Struct, frozen=True, gc=False):
    """`pod` was there when the telling began."""

    pod: Pod


class InitDone(msgspec.Struct, frozen=True):
    """All has been told. `rewound`: the server's history is behind what it told before, as after a restored etcd."""

    rewound: bool = False


class Apply(msgspec.Struct, frozen=True, gc=False):
    """`pod` was added or changed."""

    pod: Pod


class Delete(msgspec.Struct, frozen=True, gc=False):
    """`pod`, in its last state, left the selection. Without a `deletion_timestamp` it may live on with other labels."""

    pod: Pod


WatchEvent: TypeAlias = Init | InitApply | InitDone | Apply | Delete
