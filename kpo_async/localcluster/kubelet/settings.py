"""A kubelet's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from kpo_async.localcluster.node import NODE_NAME


@dataclass(frozen=True)
class KubeletSettings:
    """Delays are in seconds; the defaults are a real kubelet's, tests shorten them."""

    node_name: str = NODE_NAME
    restart_delay: float = 10.0
    """The delay of a container's second restart; each further one doubles it."""
    restart_delay_limit: float = 300.0
    restart_reset: float = 600.0
    """A run of this length resets the restart delay."""
    pull_delay: float = 10.0
    """The delay after the first failed pull; each further one doubles it."""
    pull_report: float = 1.0
    """How long ErrImagePull is reported before ImagePullBackOff."""
    mount_delay: float = 120.0
    """The delay until a failed mount is tried again, if no config map or secret changes before."""
    sidecar_grace: float = 2.0
    """The time that a sidecar has after SIGTERM at least, even if the main containers used up the pod's grace."""


def go_duration(seconds: float) -> str:
    """Return `1m20s`, as Go prints whole seconds."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
