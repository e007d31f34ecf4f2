"""Watch the pods of all places, ask the database about their tries, and act on the verdicts.

No request is made for a pod that is left alone: a watch shows the pods, one query every `PERIOD` tells about all their
tries. A verdict must stand for `PATIENCE` before it is carried out, so that the process whose job it is comes first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timezone

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from kpo_async.api_types import Pod
from kpo_async.compat import TaskGroup
from kpo_async.exceptions import ApiError, ConflictError, KpoError, NotFoundError
from kpo_async.hooks.kubernetes import resolve
from kpo_async.kube.client import Client, connect
from kpo_async.kube.pod_handle import PodHandle
from kpo_async.kube.watch import Apply, Delete, Init, InitApply, InitDone, WatchEvent, watch_pods
from kpo_async.lifecycle.disposal import DONE
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.metrics import ORPHANS, RECONCILED, count, provide_gauges
from kpo_async.pod.companions import assess_all
from kpo_async.pod.names import INSTALLATION_LABEL, OWNER_ANNOTATION, SELECTOR, TASK_ANNOTATION
from kpo_async.pod.status import assess
from kpo_async.reconciler.places import Place, Places
from kpo_async.reconciler.tries import read_tries
from kpo_async.reconciler.verdict import Action, Decision, decide

log = logging.getLogger(__name__)

PERIOD = 2.0
"""Seconds between two looks at the database."""
PLACES_PERIOD = 9.0
"""Seconds between two looks for new places."""
PATIENCE = 4.0
"""Seconds for which a verdict must stand before it is carried out."""
REPEAT_AFTER = 60.0
"""Seconds after which a deletion that the watch does not show is requested again."""
UNREACHABLE_PAUSE = 60.0
"""Seconds until a place whose cluster cannot be configured is tried again: its connection may have been mended."""


def selector(installation: str) -> str:
    """Return the label selector for the pods of this Airflow that are not done."""
    return f"{SELECTOR},{INSTALLATION_LABEL}={installation}"


@dataclass(frozen=True)
class OwnedPod:
    """A pod, where it is, and what it says about the try that owns it."""

    client: Client
    pod: Pod

    @property
    def handle(self) -> PodHandle:
        metadata = self.pod.metadata
        return PodHandle(self.client, metadata.namespace, metadata.name, metadata.uid)

    @property
    def try_id(self) -> str:
        """The id of the task instance in that try; empty for a pod without an owner."""
        return (self.pod.metadata.annotations or {}).get(OWNER_ANNOTATION, "").partition("/")[0]

    def is_in(self, client: Client, namespace: str) -> bool:
        return self.client is client and self.pod.metadata.namespace == namespace

    @property
    def record(self) -> TaskRecord | None:
        try:
            return msgspec.json.decode((self.pod.metadata.annotations or {})[TASK_ANNOTATION], type=TaskRecord)
        except (KeyError, msgspec.MsgspecError):
            return None


async def judge(pods: Iterable[OwnedPod]) -> list[tuple[OwnedPod, Decision]]:
    """Return what becomes of each pod. Raises the database's errors; nothing is decided then."""
    owned = [pod for pod in pods if pod.try_id]
    tries = await asyncio.to_thread(read_tries, {pod.try_id for pod in owned})
    now = datetime.now(timezone.utc)
    found = []
    for pod in owned:
        record = pod.record
        state = assess(pod.pod, "base") if record is None else assess_all(pod.pod, record)
        if (owner := tries.get(pod.try_id)) is not None:
            found.append((pod, decide(record, state, owner, now)))
    return found


async def carry_out(pod: OwnedPod, decision: Decision, *, quietly: bool = False) -> None:
    """Do with the pod what was decided, and log it unless `quietly`.

    Raises `ConflictError` when the pod has changed since: the next try may have adopted it. Raises `ApiError`.
    """
    record = pod.record
    if record is None or decision.action is Action.LEAVE:
        return
    task = f"{record.dag_id}.{record.task_id} (run {record.run_id}, map index {record.map_index})"
    what = "Deleting" if decision.action is Action.DELETE else "Keeping"
    if not quietly:
        log.info("%s pod %s of task %s, try %s: %s", what, pod.handle, task, record.try_number, decision.reason)
    metadata = pod.pod.metadata
    try:
        if decision.action is Action.DELETE:
            await pod.client.delete(
                "pods",
                metadata.name,
                metadata.namespace,
                uid=metadata.uid,
                resource_version=metadata.resource_version,
                grace_period_seconds=record.grace_period,
            )
        else:
            await pod.handle.patch(DONE)
        count(RECONCILED, metadata.namespace, decision.action)
    except NotFoundError:
        log.debug("Pod %s is gone", pod.handle)


@dataclass
class Reconciler:
    """Look after the pods of one Airflow until cancelled. Run it once."""

    installation: str
    places: Places = field(default_factory=Places)

    def __post_init__(self) -> None:
        self._pods: dict[str, OwnedPod] = {}
        self._over_since: dict[str, float] = {}
        self._failed: set[str] = set()
        self._database_error = ""

    async def run(self) -> None:
        """Watch each place as soon as it is known, and judge all pods again and again.

        Raises `ConfigError` when this database's Airflow may not be the one that owns the pods, and what the database
        raises at first.
        """
        await asyncio.to_thread(self.places.read)
        forget_gauges = provide_gauges(lambda: [(ORPHANS, len(self._over_since), ())])
        try:
            await self._look_after_places()
        finally:
            forget_gauges()

    async def _look_after_places(self) -> None:
        async with TaskGroup() as group:
            group.create_task(self._judge_forever(), name="kpo-async reconciler")
            watched: set[Place] = set()
            async for _ in _every(PLACES_PERIOD):
                try:
                    new = await asyncio.to_thread(self.places.read) - watched
                except SQLAlchemyError as error:
                    self._report_database(error)
                    continue
                for place in new:
                    log.info("Looking after the pods of this Airflow in %s", place)
                    group.create_task(self._watch(place), name=f"kpo-async reconciler: {place}")
                watched |= new

    async def _judge_forever(self) -> None:
        async for _ in _every(PERIOD):
            if not self._pods:
                continue
            try:
                decisions = await judge(list(self._pods.values()))
            except SQLAlchemyError as error:
                # Nothing is deleted on a doubt. The verdicts that stood before have to stand again.
                self._over_since.clear()
                self._report_database(error)
                continue
            self._database_error = ""
            due = [(pod, decision) for pod, decision in decisions if self._is_due(pod, decision)]
            await asyncio.gather(*(self._carry_out(pod, decision) for pod, decision in due))

    def _is_due(self, pod: OwnedPod, decision: Decision) -> bool:
        """Whether a verdict has stood for long enough."""
        uid = pod.pod.metadata.uid
        if decision.action is Action.LEAVE:
            self._over_since.pop(uid, None)
            return False
        now = asyncio.get_running_loop().time()
        return now - self._over_since.setdefault(uid, now) >= PATIENCE

    async def _carry_out(self, pod: OwnedPod, decision: Decision) -> None:
        uid = pod.pod.metadata.uid
        try:
            await carry_out(pod, decision, quietly=uid in self._failed)
        except ConflictError:
            log.debug("Pod %s has changed: judging it again", pod.handle)
        except ApiError as error:
            if uid not in self._failed:
                log.warning("Pod %s is left behind for now, trying again: %s", pod.handle, error)
            self._failed.add(uid)
        else:
            # Its end arrives by the watch. Until then the verdict need not be carried out again.
            self._over_since[uid] = asyncio.get_running_loop().time() + REPEAT_AFTER - PATIENCE

    def _report_database(self, error: SQLAlchemyError) -> None:
        """Log the same error once until the database answers."""
        text = f"{type(error).__name__}: {error}".partition("\n")[0][:500]
        if text != self._database_error:
            log.warning("Airflow's database cannot be asked about pods' tasks, trying again: %s", text)
            self._database_error = text

    async def _watch(self, place: Place) -> None:
        """Keep `_pods` up to date with one place."""
        async for _ in _every(UNREACHABLE_PAUSE):
            try:
                source, _ = await resolve(place.cluster)
                async with connect(source) as client:
                    watcher = watch_pods(client, place.namespace, label_selector=selector(self.installation))
                    async with aclosing(watcher) as events:
                        await self._follow(client, place.namespace, events)
            except KpoError as error:
                log.warning("Abandoned pods in %s cannot be looked for, trying again: %s", place, error)

    async def _follow(self, client: Client, namespace: str, events: AsyncIterator[WatchEvent]) -> None:
        listed: set[str] = set()
        async for event in events:
            if isinstance(event, Init):
                listed = set()
            elif isinstance(event, InitApply | Apply):
                listed.add(event.pod.metadata.uid)
                self._pods[event.pod.metadata.uid] = OwnedPod(client, event.pod)
            elif isinstance(event, Delete):
                self._forget(event.pod.metadata.uid)
            elif isinstance(event, InitDone):
                here = (uid for uid, pod in self._pods.items() if pod.is_in(client, namespace))
                for uid in set(here) - listed:
                    self._forget(uid)

    def _forget(self, uid: str) -> None:
        self._pods.pop(uid, None)
        self._over_since.pop(uid, None)
        self._failed.discard(uid)


async def _every(period: float) -> AsyncIterator[None]:
    """Yield now and then every `period` seconds, counted from the end of the caller's work."""
    while True:
        yield
        await asyncio.sleep(period)
