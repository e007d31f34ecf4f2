"""The two values that cross between worker and triggerer: `PodTask` goes in, `Outcome` comes back.

Both are stored as JSON in Airflow's database, so neither may hold a credential, a kubeconfig's content or the value of
an environment variable: a connection is named by its id and resolved where it is used, callables are named by their
import paths.

Both carry the version of their format. Within one major version every reader accepts every writer: a reader ignores the
fields it does not know and takes defaults for those it misses, so a new field needs a default that keeps the old
meaning and raises `MINOR`. Renaming a field, or adding a value to an enum, breaks the older readers: raise `VERSION`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from kpo_async.compat import Self, StrEnum
from kpo_async.exceptions import IncompatibleError
from kpo_async.logs.lines import Cursor
from kpo_async.logs.plan import LogPlan
from kpo_async.pod.again import MemoryGrowth
from kpo_async.pod.names import TaskIdentity
from kpo_async.pod.xcom_sidecar import XComTransport

VERSION = 1
"""The major version of the format, `version` in JSON. Another one is refused."""
MINOR = 7
"""The minor version, `minor` in JSON (absent in 1.0). Written for people who look at a row."""
FIRST_START = 5.0
"""Seconds from when a pod was left to the triggerers, in which a trigger that starts is the first one to follow it."""
RESULT_LIMIT = 256 * 1024
"""Characters of a result that are sent with the outcome."""


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
    """How the task ended, as its pod shows."""

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


class _Stored(msgspec.Struct, frozen=True):
    """A value that is stored as JSON, with its version."""

    def to_dict(self) -> dict[str, Any]:
        """Return this value as JSON types, with its version."""
        return {"version": VERSION, "minor": MINOR, **msgspec.to_builtins(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the value that `to_dict` wrote.

        Raises `IncompatibleError` when its major version is another one, or when it is not such a value.
        """
        version = data.get("version")
        if version != VERSION:
            raise IncompatibleError(
                f"{cls.__name__} version {version!r} cannot be read here (this host speaks version {VERSION}): "
                "install the same kpo-async on workers and triggerers, then clear the task"
            )
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as error:
            raise IncompatibleError(
                f"{cls.__name__} cannot be read here: {error}; "
                "install the same kpo-async on workers and triggerers, then clear the task"
            ) from None


class ClusterRef(msgspec.Struct, frozen=True):
    """Which cluster, by reference only. Fields are the operator's parameters; None means not given."""

    conn_id: str | None = None
    in_cluster: bool | None = None
    config_file: str | None = None
    context: str | None = None


class PodTask(_Stored, frozen=True):
    """Everything a triggerer needs to see a pod through to its end."""

    name: str
    namespace: str
    uid: str
    owner: str = ""
    """The pod's owner annotation: the try that it belongs to. Empty in 1.1 and older."""
    cluster: ClusterRef = ClusterRef()
    base_container: str = "base"
    logs: LogPlan | None = msgspec.field(default_factory=LogPlan)
    """None when no log is wanted (`get_logs=False`)."""
    xcom: XComTransport | None = None
    """How the result leaves the pod; None when none is wanted."""
    schedule_timeout: float = 120
    """Seconds from the pod's creation to its being scheduled."""
    startup_timeout: float = 120
    """Seconds from being scheduled to the base container running."""
    deadline: float | None = None
    """The task's execution_timeout as seconds since the epoch."""
    deferred_at: float = 0.0
    """When the pod was left to triggerers, in seconds since the epoch: the worker deferred, or a triggerer created it.
    0 in a worker."""
    poll_interval: float = 2.0
    """Seconds between GETs where the rights allow no watch."""
    on_finish_action: OnFinishAction = OnFinishAction.DELETE_POD
    on_kill_action: OnKillAction = OnKillAction.DELETE_POD
    grace_period: int | None = None
    """Seconds between SIGTERM and SIGKILL on deletion; None leaves it to the pod."""
    skip_on_exit_code: list[int] = []
    companions: list[str] = []
    """Containers that the manifest declares besides the base container and the sidecars: they may still have work."""
    companion_grace: float | None = 0.0
    """Seconds that companions may run on after a base container that has ended well; None means until they end."""
    ignore_companions: bool | list[str] = False
    """The companions that may fail; True for all of them."""
    callbacks: list[str] = []
    """Import paths of callback classes that are called in the triggerer."""
    multiple_outputs: bool = False
    """Whether each key of a result that is an object becomes an XCom of its own."""
    mapped_over: bool = False
    """Whether other tasks are mapped over the result: Airflow's scheduler then needs its length."""
    end_from_trigger: bool = msgspec.field(default=False, name="end_here")
    """The triggerer ends the task itself, without a worker."""
    worker_ends_failure: bool = False
    """But if the task fails, a worker ends it."""
    spec_on_failure: bool = True
    """Log the pod, without its variables' values, when it did not succeed."""
    events_on_failure: bool = False
    events_on_startup: bool = True
    cluster_hook: str = ""
    """Import path of the class that finds the cluster, instead of `cluster`. Empty when there is none."""
    cluster_hook_kwargs: dict[str, Any] = {}
    masked_connections: list[str] = []
    """Ids of the connections that the task's templates read. Fetching them has Airflow mask their secrets in logs."""
    masked_variables: list[str] = []
    """Keys of the variables that they read, likewise."""
    identity: TaskIdentity | None = None
    """The try, from which the names of its further attempts follow; None if there are none."""
    attempt: int = 1
    """How many pods the try has had, with this one."""
    disruptions: int = 0
    """How many of those before it were lost to the cluster."""
    retry_on_disruption: int = 0
    on_oom: MemoryGrowth | None = None
    worker_shows_log: bool = False
    """A worker shows the log from its beginning: the task's page does not show the triggerer's lines. Not stored."""
    user_event: dict[str, Any] = {}
    """The operator's `trigger_kwargs`: keys that are added to the event."""

    def to_dict(self) -> dict[str, Any]:
        """See `_Stored.to_dict`. What the user gave is left as it is, for Airflow to serialize."""
        own = super(PodTask, msgspec.structs.replace(self, user_event={})).to_dict()
        return {**own, "user_event": dict(self.user_event)}

    def may_have_been_followed(self) -> bool:
        """Whether a process before this one may have followed the pod."""
        return bool(self.deferred_at) and time.time() - self.deferred_at > FIRST_START

    def may_have_result(self, status: OutcomeStatus) -> bool:
        """Whether a result is wanted and a pod that ended like this may have left one."""
        return self.xcom is not None and status in (OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED)

    def skips(self, outcome: Outcome) -> bool:
        """Whether the exit code is one of those by which a pod has its task skipped."""
        companion_failed = outcome.exit_code == 0 and not outcome.succeeded
        in_time = outcome.status is not OutcomeStatus.TIMED_OUT
        return outcome.exit_code in self.skip_on_exit_code and in_time and not companion_failed


class PodDiagnosis(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a pod did not succeed, as programs read it in the XCom `pod_diagnosis`. Absent: unknown, or not the cause."""

    category: str
    """A stable word (`pod.causes.Category`)."""
    message: str
    """One line for people, at most 1 KiB."""
    pod: str = ""
    """`namespace/name`."""
    node: str = ""
    container: str = ""
    """The container that is the cause. The next two are about it."""
    exit_code: int | None = None
    signal: str = ""
    """Such as `SIGKILL`."""
    reason: str = ""
    """Kubernetes' word for the cause, such as `OOMKilled`."""
    hints: list[str] = []
    """What to do."""

    def to_dict(self) -> dict[str, Any]:
        """Return the value of the XCom."""
        return dict(msgspec.to_builtins(self))


class Outcome(_Stored, frozen=True):
    """How it went. `message` is one sentence for people, `category` a stable word for programs (`pod.diagnose`)."""

    status: OutcomeStatus = msgspec.field(name="ending")
    exit_code: int | None = None
    category: str = ""
    message: str = ""
    result: str | None = None
    """The task's XCom as JSON text."""
    result_known: bool = False
    """Whether the result was read: then None means that the pod left none."""
    cursors: dict[str, Cursor] = {}
    """Container -> how much of its log was emitted."""
    logs_complete: bool = True
    """Whether all the logs were emitted; otherwise the worker emits the remaining ones."""
    diagnosis: PodDiagnosis | None = None
    """None of a pod that succeeded, and for older writers."""
    disrupted: bool = False
    """Whether the cluster is the cause, not the program: another pod of the same manifest may succeed."""
    node: str = ""

    def storable(self) -> Outcome:
        """Return this outcome as Airflow's database can store it: without a large result, which is then read again."""
        if self.result is not None and len(self.result) > RESULT_LIMIT:
            return msgspec.structs.replace(self, result=None, result_known=False)
        return self

    def diagnosis_of(self, task: PodTask) -> PodDiagnosis:
        """Return why the task's pod did not succeed, as far as it is known."""
        return self.diagnosis or PodDiagnosis(self.category, self.message, f"{task.namespace}/{task.name}")

    @property
    def succeeded(self) -> bool:
        """Whether the base container exited with 0."""
        return self.status == OutcomeStatus.SUCCEEDED
