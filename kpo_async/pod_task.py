"""The two values that cross the border between worker and triggerer: `PodTask` in, `Outcome` back.

Both become JSON and lie in Airflow's database, so neither may hold a credential, a kubeconfig's content or the value of
an environment variable: a connection travels as its id and is resolved where it is used, callables travel as import
paths. Both carry a version: a triggerer that was upgraded before its workers says so instead of misreading a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from kpo_async.compat import Self, StrEnum
from kpo_async.exceptions import KpoError

VERSION = 1
RESULT_LIMIT = 256 * 1024
"""Characters of a result that travel with the outcome."""


class OnFinishAction(StrEnum):
    """What happens to the pod when its task has ended. Values and meaning are the incumbent's."""

    DELETE_POD = "delete_pod"
    DELETE_SUCCEEDED_POD = "delete_succeeded_pod"
    DELETE_ACTIVE_POD = "delete_active_pod"
    KEEP_POD = "keep_pod"


class OnKillAction(StrEnum):
    """What happens to the pod when a user kills its task."""

    DELETE_POD = "delete_pod"
    KEEP_POD = "keep_pod"


class OutcomeStatus(StrEnum):
    """How the pod's story ended, as far as the task is concerned."""

    SUCCEEDED = "succeeded"
    """The base container exited with 0."""
    FAILED = "failed"
    """The base container exited with another code, or the pod failed before it ran."""
    NOT_STARTED = "not_started"
    """The pod cannot start, or did not in time."""
    LOST = "lost"
    """The pod went away (evicted, deleted, node lost) before the base container's end was known."""
    TIMED_OUT = "timed_out"
    """The task's execution_timeout passed."""
    ERROR = "error"
    """The pod could not be followed at all (configuration, rights)."""


@dataclass(frozen=True)
class _Portable:
    """JSON there and back, for frozen dataclasses of scalars, lists, dicts and each other."""

    def to_dict(self) -> dict[str, Any]:
        """This value as JSON types, with its version."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The value that `to_dict` wrote. Raises `KpoError` when another version of this library wrote it."""
        if data.get("version") != VERSION:
            version = data.get("version")
            raise KpoError(
                f"{cls.__name__} version {version!r} cannot be read here (this host speaks version {VERSION}): "
                "install the same kpo-async on workers and triggerers, then clear the task"
            )
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in data.items() if key in known})


@dataclass(frozen=True)
class ClusterRef:
    """Which cluster, by reference only. The same words as the operator's parameters; None means not given."""

    conn_id: str | None = None
    in_cluster: bool | None = None
    config_file: str | None = None
    context: str | None = None


@dataclass(frozen=True)
class LogChoice:
    """Which containers' logs are wanted and how their lines look.

    `containers` and `init_containers` are names, or True for all of them. `formatter` is the import path of a
    `(container, message) -> line` callable.
    """

    containers: bool | list[str] = True
    init_containers: bool | list[str] = False
    prefix: bool = True
    formatter: str | None = None


@dataclass(frozen=True)
class PodTask(_Portable):
    """Everything the triggerer must know to see a pod through to its end."""

    name: str
    namespace: str
    uid: str
    cluster: ClusterRef = field(default_factory=ClusterRef)
    base_container: str = "base"
    logs: LogChoice | None = field(default_factory=LogChoice)
    """None when no log is wanted (`get_logs=False`)."""
    xcom: str | None = None
    """How the result travels (`xcom.XComTransport`), None when none is wanted."""
    schedule_timeout: float = 120
    """Seconds from the pod's creation to its being scheduled."""
    startup_timeout: float = 120
    """Seconds from being scheduled to the base container running."""
    deadline: float | None = None
    """The task's execution_timeout as seconds since the epoch."""
    deferred_at: float = 0.0
    """When the worker deferred, in seconds since the epoch."""
    poll_interval: float = 2.0
    """Seconds between GETs where the rights allow no watch."""
    on_finish_action: str = OnFinishAction.DELETE_POD
    on_kill_action: str = OnKillAction.DELETE_POD
    grace_period: int | None = None
    """Seconds between SIGTERM and SIGKILL on deletion; None leaves it to the pod."""
    skip_on_exit_code: list[int] = field(default_factory=list)
    callbacks: list[str] = field(default_factory=list)
    """Import paths of callback classes that are called in the triggerer."""
    multiple_outputs: bool = False
    """Whether each key of a result that is an object becomes an XCom of its own."""
    end_from_trigger: bool = False
    """The triggerer ends the task itself, without a worker."""
    spec_on_failure: bool = True
    """Show the pod, without its variables' values, when it did not succeed."""
    events_on_failure: bool = False
    events_on_startup: bool = True
    user_event: dict[str, Any] = field(default_factory=dict)
    """The operator's `trigger_kwargs`: keys that are added to the event."""

    def skips(self, outcome: Outcome) -> bool:
        """Whether the pod ended with one of the codes by which it says that the task is to be skipped."""
        return outcome.exit_code in self.skip_on_exit_code

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """See `_Portable.from_dict`; the nested values are restored too."""
        logs = data.get("logs")
        return super().from_dict(
            {
                **data,
                "cluster": ClusterRef(**data.get("cluster", {})),
                "logs": LogChoice(**logs) if logs is not None else None,
            }
        )


@dataclass(frozen=True)
class Outcome(_Portable):
    """How it went. `message` is one sentence for people, `category` a stable word for programs (`pod.diagnose`)."""

    status: str
    exit_code: int | None = None
    category: str = ""
    message: str = ""
    result: str | None = None
    """The task's XCom as JSON text."""
    result_known: bool = False
    """Whether the result was read: then None means that the pod left none."""
    cursors: dict[str, list[Any]] = field(default_factory=dict)
    """Container -> [timestamp, lines seen at it]: what of the logs has been shown."""
    logs_complete: bool = True
    """Whether all the logs were shown, so that the worker need not ask again."""

    def portable(self) -> Outcome:
        """This outcome as far as it fits into a row of Airflow's database: a large result is left to be read again."""
        if self.result is not None and len(self.result) > RESULT_LIMIT:
            return replace(self, result=None, result_known=False)
        return self

    @property
    def succeeded(self) -> bool:
        """Whether the base container exited with 0."""
        return self.status == OutcomeStatus.SUCCEEDED
