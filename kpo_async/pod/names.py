"""Pod names, label values, and the labels and annotations that mark a pod as one try's of one task.

The same try always gets the same name, so the API server can say whether an earlier create succeeded. All results are
valid in Kubernetes: names are DNS-1123 subdomains, label values at most 63 characters of `[A-Za-z0-9._-]`. Everything
is deterministic except `random_suffix`, for pods that belong to no task.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from kpo_async.exceptions import ManifestError

PREFIX = "kpo-async/"
MANAGED_LABEL = PREFIX + "managed"
DONE_LABEL = PREFIX + "done"
INSTALLATION_LABEL = PREFIX + "installation"
"""Which Airflow the pod belongs to; see `hooks.installation`."""
ATTEMPT_LABEL = PREFIX + "attempt"
"""On a pod that was created again within its try: 2 for the second one."""
DISRUPTIONS_ANNOTATION = PREFIX + "disruptions"
"""How many of the pods before this one, in the same try, were lost to the cluster."""
OWNER_ANNOTATION = PREFIX + "owner"
TASK_ANNOTATION = PREFIX + "task"
"""What the task wants done with the pod, as JSON; see `lifecycle.record.TaskRecord`."""
CURSORS_ANNOTATION = PREFIX + "log-cursors"
"""The log positions that a triggerer had reached when it stopped."""
UNGATED_ANNOTATION = PREFIX + "ungated-at"
"""When a triggerer saw the pod's last scheduling gate removed."""
TRUE = "true"
SELECTOR = f"{MANAGED_LABEL}={TRUE},{DONE_LABEL}!={TRUE}"
"""The shared watch's selector: pods of this library that are not done."""

NAME_LIMIT = 63
"""Longest name with a suffix: a pod's hostname is its name, cut at 63."""
SUBDOMAIN_LIMIT = 253
LABEL_LIMIT = 63
USER_NAME_LIMIT = 220
SUFFIX_LENGTH = 8

_ALPHABET = string.digits + string.ascii_lowercase
_USER_NAME = re.compile(r"[\w.-]+")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_ASCII_TASK_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class TaskIdentity:
    """One try of one task instance: `id` is the task instance's UUID, `map_index` is -1 when it is not mapped."""

    id: str
    dag_id: str
    task_id: str
    run_id: str
    try_number: int
    map_index: int = -1

    @property
    def owner(self) -> str:
        """The value of `OWNER_ANNOTATION`."""
        return f"{self.id}/{self.try_number}"


def mark(metadata: dict[str, Any], owner: str, *, installation: str | None = None, record: str | None = None) -> None:
    """Mark a pod's `metadata` as managed by this library and owned by `owner` (`TaskIdentity.owner`).

    `installation` is the value of `INSTALLATION_LABEL`, `record` that of `TASK_ANNOTATION`.
    """
    labels = {MANAGED_LABEL: TRUE, INSTALLATION_LABEL: installation}
    annotations = {OWNER_ANNOTATION: owner, TASK_ANNOTATION: record}
    for field, marks in (("labels", labels), ("annotations", annotations)):
        given = {key: value for key, value in marks.items() if value is not None}
        metadata[field] = {**(metadata.get(field) or {}), **given}


def suffix(task: TaskIdentity, number: int = 0, *, attempt: int = 1) -> str:
    """Return eight characters of [a-z0-9], always the same for this attempt of this try.

    Another `number` gives it another name, for when that one is taken.

    Task instances have a new `id` in each try. It is not used, so that a try can name the pods of the earlier ones.
    """
    parts = [task.dag_id, task.task_id, task.run_id, str(task.map_index), str(task.try_number)]
    parts += [str(number)] if number else []
    parts += [f"attempt {attempt}"] if attempt > 1 else []
    seed = "\n".join(parts)
    value = int.from_bytes(hashlib.sha256(seed.encode("utf-8", "surrogatepass")).digest(), "big")
    digits = []
    for _ in range(SUFFIX_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def names_of_try(name: str, task: TaskIdentity) -> Iterator[str]:
    """Yield `name`, a pod's of this try, and then those that take its place when another pod has it.

    There is none in its place for `is_users_own` names.
    """
    yield name
    if not is_users_own(name, task):
        head = name.removesuffix(suffix(task))
        yield from (head + suffix(task, number) for number in itertools.count(1))


def is_users_own(name: str, task: TaskIdentity) -> bool:
    """Whether the name does not end in the try's suffix: the same in all tries."""
    return not name.endswith(suffix(task))


def name_in_try(name: str, task: TaskIdentity, try_number: int) -> str:
    """Return the first name that the pod called `name` in the try `task` has in another one."""
    if is_users_own(name, task):
        return name
    return name.removesuffix(suffix(task)) + suffix(replace(task, try_number=try_number))


def name_of_attempt(name: str, task: TaskIdentity, attempt: int) -> str:
    """Return the name of the pod that takes the place of the one called `name`, which an earlier attempt had."""
    ends = (f"-{suffix(task, attempt=number)}" for number in range(1, attempt))
    head = next((name.removesuffix(end) for end in ends if name.endswith(end)), name)
    return pod_name(head, suffix(task, attempt=attempt))


def random_suffix() -> str:
    """Return eight random characters of [a-z0-9], for a pod that belongs to no task."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(SUFFIX_LENGTH))


def clean(name: object) -> str:
    """Return the user's `name` in lower case, with one dash for each run of characters outside [a-z0-9-].

    Raise ManifestError for a name that has anything but letters, digits, dashes, dots and underscores, that is longer
    than 220 characters, or that has two dots in a row.
    """
    if not isinstance(name, str):
        raise ManifestError(f"name is {name!r} ({type(name).__name__}): give a string")
    if len(name) > USER_NAME_LIMIT:
        raise ManifestError(f"name has {len(name)} characters, at most {USER_NAME_LIMIT} are allowed: {name[:40]!r}...")
    if not _USER_NAME.fullmatch(name.removesuffix("\n")):
        raise ManifestError(f"name {name!r}: use letters, digits, dashes, dots and underscores only")
    if ".." in name:
        raise ManifestError(f"name {name!r}: two dots in a row are not allowed")
    return re.sub(r"[^a-z0-9-]+", "-", name.lower())


def from_task_id(task_id: str) -> str:
    """Return a name of at most 63 characters made from the task's id; Unicode is transliterated."""
    if _ASCII_TASK_ID.fullmatch(task_id):
        slug = re.sub(r"[^a-z0-9]+", "-", task_id.lower())
    else:
        from slugify import slugify  # one of Airflow's dependencies, imported only where it is needed

        slug = slugify(task_id)
    return slug.strip("-")[:NAME_LIMIT].strip("-")


def pod_name(base: str, unique: str | None) -> str:
    """Return `base` with `-` and `unique` appended, within 63 characters, and repaired where it is not legal."""
    if unique is None:
        return _legal(base)
    head = base[: NAME_LIMIT - len(unique) - 1].strip("-.")
    return _legal(f"{head}-{unique}")


def label_value(value: str) -> str:
    """Return `value` as a valid label value; if it had to change, it ends in a hash of the original."""
    safe = re.sub(r"^[^a-zA-Z0-9]*|[^a-zA-Z0-9_.-]|[^a-zA-Z0-9]*$", "", value)
    if safe == value and len(safe) <= LABEL_LIMIT:
        return safe
    tail = hashlib.md5(value.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:9]
    head = safe[: LABEL_LIMIT - len(tail) - 1]
    return f"{head}-{tail}" if head else tail


@lru_cache(maxsize=1024)
def is_label_key(key: str) -> bool:
    """Whether the API server accepts `key` as a label's key: a name, optionally after a DNS prefix and a slash."""
    owner, slash, name = key.rpartition("/")
    return bool(name) and is_label_value(name) and (not slash or is_pod_name(owner))


@lru_cache(maxsize=1024)
def is_label_value(value: str) -> bool:
    """Whether the API server accepts `value` as a label's value."""
    return len(value) <= LABEL_LIMIT and _LABEL_VALUE.fullmatch(value) is not None


def is_dns_label(name: str) -> bool:
    """Whether the API server accepts `name` as a namespace or a hostname."""
    return "." not in name and len(name) <= NAME_LIMIT and is_pod_name(name)


def is_pod_name(name: str) -> bool:
    """Whether the API server accepts `name` as a pod's name."""
    return len(name) <= SUBDOMAIN_LIMIT and _SUBDOMAIN.fullmatch(name) is not None


OVERWRITTEN_LABELS = frozenset(
    {
        *("dag_id", "task_id", "run_id", "kubernetes_pod_operator", "try_number"),
        *("airflow_version", "airflow_kpo_in_cluster", MANAGED_LABEL),
    }
)
"""Labels that every pod of a task gets, whatever value the user gives them."""


def task_labels(task: TaskIdentity) -> dict[str, str]:
    """Return the incumbent's labels, by which people and dashboards find a task's pods."""
    labels = {
        "dag_id": task.dag_id,
        "task_id": task.task_id,
        "run_id": task.run_id,
        "kubernetes_pod_operator": "True",
        "try_number": str(task.try_number),
    }
    if task.map_index >= 0:
        labels["map_index"] = str(task.map_index)
    return {key: label_value(value) for key, value in labels.items()}


def siblings(task: TaskIdentity) -> str:
    """Return a label selector for the unfinished pods of all tries of this task instance."""
    labels = task_labels(task)
    del labels["try_number"]
    terms = [f"{key}={value}" for key, value in labels.items()]
    if task.map_index < 0:
        terms.append("!map_index")
    return ",".join([*terms, SELECTOR])


def _legal(name: str) -> str:
    """Return `name` if the API server accepts it, else the nearest name that it accepts."""
    if is_pod_name(name):
        return name
    parts = re.sub(r"[^a-z0-9.-]+", "-", name.lower())[:SUBDOMAIN_LIMIT].split(".")
    return ".".join(part for part in (part.strip("-") for part in parts) if part) or "pod"
