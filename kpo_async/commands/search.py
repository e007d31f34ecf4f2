"""Find the pod that the user names, by its own name or by its task; or what is still known when it is gone."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from kpo_async.commands.command import UnableError
from kpo_async.commands.sites import Site, ask, open_sites
from kpo_async.commands.tasks import Story, TaskName, story_of_pod, story_of_task
from kpo_async.exceptions import NotFoundError
from kpo_async.json_types import Json
from kpo_async.kube.client import Client
from kpo_async.lifecycle.record import TaskRecord
from kpo_async.pod.again import attempt_of
from kpo_async.pod.names import MANAGED_LABEL

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@dataclass(frozen=True)
class Found:
    """A pod that exists."""

    client: Client
    pod: Json

    @property
    def name(self) -> str:
        return str(self.pod["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.pod["metadata"]["namespace"])

    @property
    def record(self) -> TaskRecord | None:
        """What the pod says about its task; None of a pod that is not this package's."""
        return TaskRecord.of_pod(self.pod)

    @property
    def base(self) -> str:
        """The container that decides: the task's, or the one that kubectl takes."""
        if (record := self.record) is not None:
            return record.base_container
        annotations = self.pod["metadata"].get("annotations") or {}
        return str(annotations.get(DEFAULT_CONTAINER) or self.pod["spec"]["containers"][0]["name"])


async def search(stack: AsyncExitStack, arguments: argparse.Namespace) -> Found | Story:
    """Return the pod of `arguments.target`, or the story of its task when the pod is gone.

    Raises `UnableError` when neither is known, and when a cluster where the pod may be cannot be asked.
    """
    words = arguments.target
    if len(words) == 1:
        return await _by_name(stack, arguments, *words[0].rpartition("/")[::2])
    if len(words) != 3:
        raise UnableError("name a pod ([NAMESPACE/]POD), or a task with three words: DAG TASK RUN")
    dag_id, task_id, run_id = words
    return await _by_task(stack, arguments, TaskName(dag_id, task_id, run_id, arguments.map_index))


async def _by_name(stack: AsyncExitStack, arguments: argparse.Namespace, namespace: str, name: str) -> Found | Story:
    arguments.namespace = namespace or arguments.namespace
    sites = await open_sites(stack, arguments)

    async def get(site: Site) -> Json | None:
        try:
            return await site.client.get("pods", name, site.namespace)
        except NotFoundError:
            return None

    pods, problems = await ask(sites, get)
    for site, pod in pods:
        if pod is not None:
            return Found(site.client, pod)
    if problems:
        raise UnableError("; ".join(problems))
    where = ", ".join(map(str, sites.sites))
    try:
        story = await asyncio.to_thread(story_of_pod, name)
    except UnableError as error:
        raise UnableError(f"there is no pod {name!r} in {where}, and no story of it: {error}") from error
    if story is None:
        raise UnableError(
            f"there is no pod {name!r} in {where}, and no task of this Airflow had one of that name last: "
            "`kpo-async ps` lists pods; name the task instead: DAG TASK RUN"
        )
    return story


async def _by_task(stack: AsyncExitStack, arguments: argparse.Namespace, task: TaskName) -> Found | Story:
    try:
        sites = await open_sites(stack, arguments)
    except UnableError:
        # Rather say that the task is unknown than that there is no cluster; raises if the database is the problem.
        await asyncio.to_thread(story_of_task, task)
        raise

    async def pods_of_task(site: Site) -> list[Json]:
        pods = (await site.client.list("pods", site.namespace, label_selector=MANAGED_LABEL))["items"]
        return [pod for pod in pods if _is_of(TaskRecord.of_pod(pod), task, arguments.try_number)]

    lists, problems = await ask(sites, pods_of_task)
    found = [Found(site.client, pod) for site, pods in lists for pod in pods]
    has_database = not (arguments.kubeconfig or arguments.context)
    if found:
        newest = max(found, key=_age_of)
        return (await _later_story(newest, task) if has_database and arguments.try_number is None else None) or newest
    if problems:
        raise UnableError("; ".join(problems))
    try:
        return await asyncio.to_thread(story_of_task, task)
    except UnableError as error:
        if has_database:
            raise
        where = ", ".join(map(str, sites.sites))
        raise UnableError(f"there is no pod of task {task} in {where}, and no story of it: {error}") from error


async def _later_story(newest: Found, task: TaskName) -> Story | None:
    """Return the task's story if it has had a later try, whose pod is gone; None if the pod is the last try's."""
    try:
        story = await asyncio.to_thread(story_of_task, task)
    except UnableError:  # a run that was deleted
        return None
    return story if newest.record is not None and story.try_number > newest.record.try_number else None


def _is_of(record: TaskRecord | None, task: TaskName, try_number: int | None) -> bool:
    if record is None or try_number not in (None, record.try_number):
        return False
    return TaskName(record.dag_id, record.task_id, record.run_id, record.map_index) == task


def _age_of(found: Found) -> tuple[int, int, str]:
    """Return what orders the pods of a task: the last try's last attempt comes last."""
    record = found.record
    attempt, _ = attempt_of(found.pod)
    return (record.try_number if record else 0, attempt, found.pod["metadata"].get("creationTimestamp") or "")
