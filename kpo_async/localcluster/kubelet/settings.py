"""What a kubelet's timing and place depend on."""

from __future__ import annotations

from dataclasses import dataclass

from kpo_async.localcluster.node import NODE_NAME


@dataclass(frozen=True)
class KubeletSettings:
    """Delays are in seconds, and a real kubelet's; tests shorten them."""

    node_name: str = NODE_NAME
    restart_delay: float = 10.0
    """After the second end of a container; doubled with each further one."""
    restart_delay_limit: float = 300.0
    restart_reset: float = 600.0
    """A container that has run for so long begins with the first delay again."""
    pull_delay: float = 10.0
    """After the first failed pull; doubled with each further one."""
    pull_report: float = 1.0
    """How long ErrImagePull is shown before ImagePullBackOff."""
    mount_delay: float = 120.0
    """How often a volume that cannot be mounted is tried without any change of config maps or secrets."""
    sidecar_grace: float = 2.0
    """The least time that a sidecar has after SIGTERM, also when the main containers used up the pod's grace."""


def go_duration(seconds: float) -> str:
    """`1m20s`, as Go prints whole seconds."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"
