"""Reads kubeconfigs as kubectl does: typed, merged over several files, paths relative to the file they stand in.

Only reads and checks; what a context means for a client is `config.py`'s business. Parsed files are kept until they
change on disk, since hundreds of triggers name the same one. Messages never hold a value, only where it stands.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import yaml

from kpo_async.exceptions import ConfigError

_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Struct(msgspec.Struct, rename="kebab"):
    """Kubeconfig keys are kebab-case, but for those that are not."""


class Extension(_Struct):
    name: str = ""
    extension: Any = None


class Cluster(_Struct):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: str | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None
    extensions: list[Extension] | None = None


class ExecVariable(_Struct):
    name: str
    value: str


class Exec(_Struct):
    command: str
    api_version: str | None = msgspec.field(default=None, name="apiVersion")
    args: list[str] | None = None
    env: list[ExecVariable] | None = None
    install_hint: str | None = msgspec.field(default=None, name="installHint")
    provide_cluster_info: bool | None = msgspec.field(default=None, name="provideClusterInfo")
    interactive_mode: str | None = msgspec.field(default=None, name="interactiveMode")


class AuthProvider(_Struct):
    name: str
    config: dict[str, Any] | None = None


class User(_Struct):
    client_certificate: str | None = None
    client_certificate_data: str | None = None
    client_key: str | None = None
    client_key_data: str | None = None
    token: str | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    username: str | None = None
    password: str | None = None
    exec: Exec | None = None
    auth_provider: AuthProvider | None = None
    impersonate: str | None = msgspec.field(default=None, name="as")
    impersonate_uid: str | None = msgspec.field(default=None, name="as-uid")
    impersonate_groups: list[str] | None = msgspec.field(default=None, name="as-groups")
    impersonate_extra: dict[str, list[str]] | None = msgspec.field(default=None, name="as-user-extra")


class Context(_Struct):
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None


class _NamedCluster(_Struct):
    name: str
    cluster: Cluster | None = None


class _NamedUser(_Struct):
    name: str
    user: User | None = None


class _NamedContext(_Struct):
    name: str
    context: Context | None = None


class _Document(_Struct):
    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None


@dataclass(frozen=True)
class Selected:
    """One context of a kubeconfig with what it points at. `origin` says for messages where it was read."""

    origin: str
    context: Context
    cluster: Cluster
    user: User


def select(documents: Sequence[_Document], origin: str, context: str | None) -> Selected:
    """The context called `context`, or the current one. The first document that says a thing wins.

    Raises `ConfigError` for names that lead nowhere.
    """
    name = context or next((document.current_context for document in documents if document.current_context), None)
    if not name:
        raise ConfigError(f"{origin} has no current-context; name a context in the connection or the kubeconfig")
    contexts = _by_name(entry for document in documents for entry in document.contexts or ())
    chosen = _find(contexts, name, "context", origin).context or Context()
    clusters = _by_name(entry for document in documents for entry in document.clusters or ())
    users = _by_name(entry for document in documents for entry in document.users or ())
    if not chosen.cluster:
        raise ConfigError(f'{origin}: context "{name}" names no cluster')
    cluster = _find(clusters, chosen.cluster, "cluster", origin).cluster or Cluster()
    user = (_find(users, chosen.user, "user", origin).user if chosen.user else None) or User()
    return Selected(origin, chosen, cluster, user)


def read_files(paths: Sequence[str], *, required: bool) -> tuple[list[_Document], str]:
    """The documents of these files, and the words for where they are.

    Missing files are passed over unless all are missing, as with `$KUBECONFIG`. `required`: somebody named this file.
    Raises `ConfigError`.
    """
    found = [str(path) for path in (Path(name).expanduser() for name in paths) if path.exists()]
    if not found:
        missing = ", ".join(paths)
        advice = (
            "it must exist on every host that runs this task: workers, and triggerers for deferrable tasks"
            if required
            else "give the connection a kubeconfig, or run inside the cluster with a service account"
        )
        raise ConfigError(f"no kubeconfig at {missing} on {here()}; {advice}")
    documents = [_read(path, _stamp(path)) for path in found]
    return documents, f"kubeconfig {', '.join(found)} on {here()}"


def read_inline(document: Mapping[str, Any]) -> tuple[list[_Document], str]:
    """The document of a kubeconfig that came as a dict. Its relative paths are relative to the working directory."""
    origin = "the inline kubeconfig"
    return [_convert(dict(document), origin, Path.cwd())], origin


def decode_data(value: str, field: str, origin: str) -> bytes:
    """Base64 of a `...-data` field. Raises `ConfigError` without showing it."""
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{origin}: {field} is not base64") from None


def here() -> str:
    """This host, for messages: a file or a program is missing in one place and not in another."""
    return f'host "{socket.gethostname()}"'


def _stamp(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


@functools.lru_cache(maxsize=64)
def _read(path: str, stamp: tuple[int, int, int]) -> _Document:
    """The document at `path` as of `stamp`, which is there to be part of the cache's key."""
    origin = f"kubeconfig {path} on {here()}"
    try:
        content = yaml.load(Path(path).read_bytes(), _YAML_LOADER)
    except OSError as error:
        raise ConfigError(f"{origin} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{origin} is no YAML: {error.problem}{line}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{origin} is no YAML") from None
    return _convert(content or {}, origin, Path(path).absolute().parent)


def _convert(content: Any, origin: str, directory: Path) -> _Document:
    try:
        document = msgspec.convert(content, _Document)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin} is malformed: {error}") from None
    clusters = [
        msgspec.structs.replace(entry, cluster=_absolute(entry.cluster, directory, "certificate_authority"))
        for entry in document.clusters or ()
    ]
    users = [
        msgspec.structs.replace(entry, user=_absolute_user(entry.user, directory)) for entry in document.users or ()
    ]
    return msgspec.structs.replace(document, clusters=clusters, users=users)


def _absolute_user(user: User | None, directory: Path) -> User | None:
    user = _absolute(user, directory, "client_certificate", "client_key", "token_file")
    if user is not None and user.exec is not None and os.sep in user.exec.command:
        command = str(directory / user.exec.command)
        user = msgspec.structs.replace(user, exec=msgspec.structs.replace(user.exec, command=command))
    return user


_Section = TypeVar("_Section", Cluster, User)


def _absolute(section: _Section | None, directory: Path, *fields: str) -> _Section | None:
    """The section with these paths resolved against the directory of its file."""
    if section is None:
        return None
    paths = {field: str(directory / path) for field in fields if (path := getattr(section, field))}
    return msgspec.structs.replace(section, **paths)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Entry = TypeVar("_Entry", bound=_Named)


def _by_name(entries: Iterable[_Entry]) -> dict[str, _Entry]:
    named: dict[str, _Entry] = {}
    for entry in entries:
        named.setdefault(entry.name, entry)
    return named


def _find(entries: Mapping[str, _Entry], name: str, kind: str, origin: str) -> _Entry:
    if name not in entries:
        others = ", ".join(f'"{other}"' for other in list(entries)[:10]) or "none"
        raise ConfigError(f'{origin} has no {kind} "{name}"; it has {others}')
    return entries[name]
