"""Causes of failures: a stable category for programs, and hints that tell people what to do."""

from __future__ import annotations

import signal as signals

from kpo_async.compat import StrEnum


class Category(StrEnum):
    """Stable names of causes. Never rename one: users filter on them."""

    SUCCEEDED = "Succeeded"
    EXIT_CODE = "ExitCode"
    SIGNAL = "Signal"
    OOM_KILLED = "OOMKilled"
    COMMAND = "CannotRun"
    """The image does not have the program, or the program is not executable."""
    INIT_FAILED = "InitFailed"
    COMPANION_FAILED = "CompanionFailed"
    """The base container succeeded, and a container that the manifest declares beside it did not."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    IMAGE_PULL = "ImagePull"
    CONFIG = "Config"
    VOLUME = "Volume"
    CRASH_LOOP = "CrashLoop"
    UNSCHEDULABLE = "Unschedulable"
    SCHEDULING_GATED = "SchedulingGated"
    QUOTA = "Quota"
    FORBIDDEN = "Forbidden"
    START_TIMEOUT = "StartTimeout"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    NODE_SHUTDOWN = "NodeShutdown"
    REJECTED = "Rejected"
    """The node refused a pod that the scheduler had assigned to it."""
    DELETED = "Deleted"
    LOST = "Lost"
    RUNNING = "Running"
    UNKNOWN = "Unknown"


HINTS: dict[Category, str] = {
    Category.EXIT_CODE: "see the program's output in the task's log",
    Category.SIGNAL: "something outside or the program itself sent the signal; see the log and the node's events",
    Category.OOM_KILLED: "raise the memory limit in container_resources, or use less memory",
    Category.COMMAND: "check cmds, arguments and the image's entry point",
    Category.INIT_FAILED: "show that container's log with init_container_logs=True",
    Category.COMPANION_FAILED: "container_logs=True shows its output; ignore_companions lets it fail",
    Category.DEADLINE_EXCEEDED: "raise active_deadline_seconds, or make the program faster",
    Category.IMAGE_PULL: "check the image's name and tag, the registry, and image_pull_secrets",
    Category.CONFIG: "create the missing ConfigMap or Secret (or key) in the namespace, or correct its name",
    Category.VOLUME: "check that the ConfigMap, Secret or claim of the volume exists and can be attached to the node",
    Category.CRASH_LOOP: "see that container's log",
    Category.UNSCHEDULABLE: "lower the requests, correct node_selector, affinity and tolerations, add nodes, "
    "or raise schedule_timeout_seconds",
    Category.SCHEDULING_GATED: "the controller that set the scheduling gates (a queue such as Kueue) must remove them",
    Category.QUOTA: "lower the requests, raise the quota, or run fewer pods at once with an Airflow pool",
    Category.FORBIDDEN: "add the missing right to the Role of this identity",
    Category.START_TIMEOUT: "raise startup_timeout_seconds, or see the node's events for what takes so long",
    Category.EVICTED: "retry the task; if it happens again, request what the pod really uses",
    Category.PREEMPTED: "retry the task, or give it a higher priority_class_name",
    Category.NODE_LOST: "retry the task; the node stopped answering",
    Category.NODE_SHUTDOWN: "retry the task; the node was shut down",
    Category.REJECTED: "retry the task; the node no longer had room for it",
    Category.DELETED: "find out who deleted the pod (audit log, clean-up jobs), then retry",
    Category.LOST: "retry the task",
}

EXIT_CODE_HINTS: dict[int, str] = {
    126: "126: a shell found the command, but may not run it, as the file is not executable",
    127: "127: a shell did not find the command in the image",
    255: "255: the program exited with -1; ssh does when its connection fails",
}
"""Exit codes that most programs use for the same. They say more than `HINTS`."""
SIGNAL_HINTS: dict[int, str] = {
    signals.SIGHUP: "SIGHUP: a terminal or session was closed; the program sent it, or a parent in the container",
    signals.SIGINT: "SIGINT: the program was interrupted as by Ctrl-C; its image or entry point may send that to stop",
    signals.SIGQUIT: "SIGQUIT: the image may use this signal (STOPSIGNAL) to stop its program",
    signals.SIGILL: "SIGILL: the CPU does not know an instruction; is the image built for the node's architecture?",
    signals.SIGABRT: "SIGABRT: the program aborted itself, after a failed assertion or for lack of memory",
    signals.SIGBUS: "SIGBUS: often /dev/shm is full, 64 MiB; mount an emptyDir with medium Memory there",
    signals.SIGFPE: "SIGFPE: the program divided by zero or the like",
    signals.SIGKILL: "SIGKILL: a process in the container used too much memory, a probe failed, or the program did "
    "not end within the grace period after SIGTERM; compare its memory with the limit in container_resources",
    signals.SIGSEGV: "SIGSEGV: the program, or a native library that it uses, read memory that is not its own",
    signals.SIGPIPE: "SIGPIPE: the program wrote into a pipe that its reader had closed",
    signals.SIGTERM: "SIGTERM: something asked the program to stop: a failed liveness probe, or a process in the "
    "container",
}
