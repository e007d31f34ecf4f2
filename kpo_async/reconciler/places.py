"""Where this Airflow's tasks have created pods, from Airflow's database.

A deferred task names its cluster and namespace in its trigger's row; one that no worker has started names the cluster
there, unless that is a template, and the namespace in its XCom `pod_namespace`. Any other has both in its rendered
template fields and in that XCom, which stay when the task has ended; `in_cluster` is not among them, so there a place
is what the connection says. What was found is kept in an Airflow Variable, because a deleted DAG run takes its traces
with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.configuration import conf
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import Trigger
from airflow.models.variable import Variable
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import State
from sqlalchemy import and_, select
from sqlalchemy.engine import make_url

from kpo_async.exceptions import ConfigError, KpoError
from kpo_async.hooks.airflow import trigger_arguments
from kpo_async.hooks.fields import DEFAULT_CONNECTION_ID
from kpo_async.hooks.installation import VARIABLE as INSTALLATION_VARIABLE
from kpo_async.hooks.installation import configured_id
from kpo_async.json_types import Json
from kpo_async.models import is_unrendered
from kpo_async.operators.start_from_trigger import TRIGGER
from kpo_async.pod_task import ClusterRef, PodTask

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

VARIABLE = "kpo_async_reconciler"
TRIGGERS = "kpo_async.triggers."
COPIED = (
    f"this database may be a copy: the Variable {VARIABLE} was written in another one, whose Airflow may still run and "
    "own the pods. No pod is touched. If this is the only Airflow with it (the database has moved), delete that "
    f"Variable; if it is a copy, delete the Variables {VARIABLE} and {INSTALLATION_VARIABLE} here"
)
CLUSTER_FIELDS = {"conn_id": "kubernetes_conn_id", "config_file": "config_file", "context": "cluster_context"}


class Place(msgspec.Struct, frozen=True, order=True):
    """A namespace of a cluster."""

    namespace: str
    cluster: ClusterRef

    def __str__(self) -> str:
        """Return words for people."""
        given = msgspec.to_builtins(self.cluster)
        words = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        return f"namespace {self.namespace!r} ({words or 'default kubeconfig'})"


class Memory(msgspec.Struct):
    """What the Variable holds. `database` names the database, as a digest, in which it was first written."""

    database: str
    places: list[Place] = []


class Places:
    """All places that are known. `read` looks for new ones; it blocks, and raises SQLAlchemy's errors."""

    def __init__(self) -> None:
        self.known: set[Place] = set()
        self._last_trigger = -1
        self._start_triggers: set[int] = set()
        self._hooked: set[int] = set()
        """Ids of triggers whose task has a `cluster_hook`."""
        self._read_before = False

    def read(self) -> set[Place]:
        """Return all known places. The first call looks at all tasks, later ones at those that have not ended.

        Raises `ConfigError` in a copy of the database whose pods are another Airflow's.
        """
        with create_session() as session:
            memory = _stored(session)
            if memory.database != database_digest() and not configured_id():
                raise ConfigError(COPIED)
            found = self._find(session, memory)
            if found - set(memory.places):
                memory.places = sorted(found, key=str)
                description = "kpo-async: where pods were created; its reconciler looks there for abandoned ones"
                Variable.set(VARIABLE, msgspec.json.encode(memory).decode(), description=description, session=session)
        return found

    def look(self) -> set[Place]:
        """Return what `read` does, and write nothing. For processes that only show the pods."""
        with create_session() as session:
            return self._find(session, _stored(session))

    def hooked(self) -> Counter[str]:
        """Return how many tasks of each DAG are deferred with a `cluster_hook`, as of the last look. Blocks."""
        if not self._hooked:
            return Counter()
        with create_session() as session:
            query = select(TaskInstance.trigger_id, TaskInstance.dag_id)
            found = session.execute(query.where(TaskInstance.trigger_id.in_(self._hooked))).tuples().all()
        return Counter(dag_id for _, dag_id in found)

    def _find(self, session: Session, memory: Memory) -> set[Place]:
        found = self.known | set(memory.places) | set(self._of_triggers(session))
        found |= set(self._of_start_triggers(session))
        found |= set(_of_task_instances(session, unfinished=self._read_before))
        self._read_before, self.known = True, found
        return found

    def _of_triggers(self, session: Session) -> Iterator[Place]:
        """Yield the places of the triggers that are new since the last call."""
        query = select(Trigger).where(Trigger.classpath.startswith(TRIGGERS), Trigger.id > self._last_trigger)
        for trigger in session.scalars(query.order_by(Trigger.id)):
            self._last_trigger = trigger.id
            try:
                task = PodTask.from_dict(trigger_arguments(trigger)["pod_task"])
            except (KeyError, TypeError, KpoError):  # another version's row, or a subclass's
                continue
            if task.cluster_hook:  # users' code does not run in a scheduler
                self._hooked.add(trigger.id)
            else:
                yield Place(task.namespace, task.cluster)

    def _of_start_triggers(self, session: Session) -> Iterator[Place]:
        """Yield the places of deferred tasks that no worker has rendered: their namespace is an XCom by now."""
        trigger, ti, xcom = Trigger, TaskInstance, XComModel
        query = (
            select(trigger.id, xcom.value)
            .join(ti, ti.trigger_id == trigger.id)
            .join(xcom, and_(_same_task_instance(xcom, ti), xcom.key == "pod_namespace"))
            .where(trigger.classpath == TRIGGER)
        )
        deferred: dict[int, Any] = dict(session.execute(query).tuples().all())
        for found in session.scalars(select(trigger).where(trigger.id.in_(deferred.keys() - self._start_triggers))):
            namespace, cluster = _namespace(deferred[found.id]), _unrendered_cluster(trigger_arguments(found))
            if namespace and cluster:
                yield Place(namespace, cluster)
        self._start_triggers = set(deferred)


def _unrendered_cluster(arguments: Json) -> ClusterRef | None:
    """Return the cluster in a start trigger's arguments, None if it is a template's or a hook's."""
    given = {"kubernetes_conn_id": DEFAULT_CONNECTION_ID, **json.loads(arguments["start"])["parameters"]}
    fields = {name: given.get(parameter) for name, parameter in CLUSTER_FIELDS.items()}
    if given.get("cluster_hook") or any(is_unrendered(value) or isinstance(value, dict) for value in fields.values()):
        return None
    return ClusterRef(**fields, in_cluster=given.get("in_cluster"))


def _of_task_instances(session: Session, *, unfinished: bool) -> Iterator[Place]:
    """Yield the places of tasks that have pushed a pod's namespace."""
    fields, xcom, ti = RenderedTaskInstanceFields, XComModel, TaskInstance
    columns = [fields.rendered_fields[name].as_string() for name in CLUSTER_FIELDS.values()]
    query = (
        select(xcom.value, *columns)
        .join(fields, _same_task_instance(xcom, fields))
        .where(xcom.key == "pod_namespace")
        .distinct()
    )
    if unfinished:
        states = [state for state in State.unfinished if state is not None]
        query = query.join(ti, _same_task_instance(xcom, ti)).where(ti.state.in_(states))
    for value, *cluster in session.execute(query):
        if namespace := _namespace(value):
            given = {
                name: text for name, text in zip(CLUSTER_FIELDS, cluster, strict=True) if text not in (None, "None")
            }
            yield Place(namespace, ClusterRef(**given))


def _same_task_instance(one: Any, other: Any) -> Any:
    return and_(*(getattr(one, name) == getattr(other, name) for name in ("dag_id", "task_id", "run_id", "map_index")))


def _namespace(value: Any) -> str | None:
    """Return a namespace as XComs are stored: JSON text of a string, or that string."""
    if isinstance(value, str) and value.startswith('"'):
        value = json.loads(value)
    return value if isinstance(value, str) and value else None


def _stored(session: Session) -> Memory:
    variable = session.scalar(select(Variable).where(Variable.key == VARIABLE))
    if variable is None:
        return Memory(database_digest())
    try:
        return msgspec.json.decode(variable.get_val() or "", type=Memory)
    except msgspec.MsgspecError as error:
        log.warning("The Variable %s is not valid and is written again: %s", VARIABLE, error)
        return Memory(database_digest())


def database_digest() -> str:
    """Return a digest of the database's host, port and name, which says nothing about its user."""
    url = make_url(conf.get("database", "sql_alchemy_conn"))
    return hashlib.sha256(f"{url.host}/{url.port}/{url.database}".encode()).hexdigest()[:16]
