"""Read kubeconfigs as kubectl does: typed, merged over several files, paths relative to the file that holds them.

This module only reads and checks; `config.py` decides what a context means for a client. Parsed files are cached until
they change on disk, since hundreds of triggers name the same one. Messages name the place of a value, never the value.
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
    """Kubeconfig keys are kebab-case, with a few exceptions in camelCase."""


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


class AuthInfo(_Struct):
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


class _NamedAuthInfo(_Struct):
    name: str
    user: AuthInfo | None = None


class _NamedContext(_Struct):
    name: str
    context: Context | None = None


class _Kubeconfig(_Struct):
    current_context: str | None = None
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedAuthInfo] | None = None
    contexts: list[_NamedContext] | None = None


@dataclass(frozen=True)
class SelectedContext:
    """One context of a kubeconfig, with its cluster and user sections. `origin` names its place in messages."""

    origin: str
    context: Context
    cluster: Cluster
    auth_info: AuthInfo


def select(documents: Sequence[_Kubeconfig], origin: str, context: str | None) -> SelectedContext:
    """The context called `context`, or the current one. The first document with an entry of a name wins.

    Raises `ConfigError` when a name is missing or has no entry.
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
    auth_info = (_find(users, chosen.user, "user", origin).user if chosen.user else None) or AuthInfo()
    return SelectedContext(origin, chosen, cluster, auth_info)


def read_files(paths: Sequence[str], *, required: bool) -> tuple[list[_Kubeconfig], str]:
    """Parsed kubeconfigs, and a description of their origin for error messages. Raises `ConfigError`.

    Missing files are skipped unless all are missing, as with `$KUBECONFIG`. `required`: the user named these files.
    """
    found = [str(path) for path in (Path(name).expanduser() for name in paths) if path.exists()]
    if not found:
        missing = ", ".join(paths)
        advice = (
            "it must exist on every host that runs this task: workers, and triggerers for deferrable tasks"
            if required
            else "give the connection a kubeconfig, or run inside the cluster with a service account"
        )
        raise ConfigError(f"no kubeconfig at {missing} on {this_host()}; {advice}")
    documents = [_read(path, _stamp(path)) for path in found]
    return documents, f"kubeconfig {', '.join(found)} on {this_host()}"


def read_inline(document: Mapping[str, Any]) -> tuple[list[_Kubeconfig], str]:
    """Like `read_files`, for a kubeconfig given as a dict. Its paths are relative to the working directory."""
    origin = "the inline kubeconfig"
    return [_convert(dict(document), origin, Path.cwd())], origin


def decode_data(value: str, field: str, origin: str) -> bytes:
    """Decode the base64 of a `...-data` field. Raises `ConfigError`, which does not hold the value."""
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{origin}: {field} is not base64") from None


def this_host() -> str:
    """The name of this host, for messages: a file or program may be missing on one host only."""
    return f'host "{socket.gethostname()}"'


def _stamp(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


@functools.lru_cache(maxsize=64)
def _read(path: str, stamp: tuple[int, int, int]) -> _Kubeconfig:
    """The kubeconfig at `path`. `stamp` is part of the cache's key: a changed file is read again."""
    origin = f"kubeconfig {path} on {this_host()}"
    try:
        content = yaml.load(Path(path).read_bytes(), _YAML_LOADER)
    except OSError as error:
        raise ConfigError(f"{origin} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{origin} is not valid YAML: {error.problem}{line}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{origin} is not valid YAML") from None
    return _convert(content or {}, origin, Path(path).absolute().parent)


def _convert(content: Any, origin: str, directory: Path) -> _Kubeconfig:
    try:
        document = msgspec.convert(content, _Kubeconfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{origin} is malformed: {error}") from None
    clusters = [
        msgspec.structs.replace(entry, cluster=_absolute(entry.cluster, directory, "certificate_authority"))
        for entry in document.clusters or ()
    ]
    users = [
        msgspec.structs.replace(entry, user=_absolute_auth_info(entry.user, directory))
        for entry in document.users or ()
    ]
    return msgspec.structs.replace(document, clusters=clusters, users=users)


def _absolute_auth_info(auth_info: AuthInfo | None, directory: Path) -> AuthInfo | None:
    auth_info = _absolute(auth_info, directory, "client_certificate", "client_key", "token_file")
    if auth_info is not None and auth_info.exec is not None and os.sep in auth_info.exec.command:
        command = str(directory / auth_info.exec.command)
        auth_info = msgspec.structs.replace(auth_info, exec=msgspec.structs.replace(auth_info.exec, command=command))
    return auth_info


_Section = TypeVar("_Section", Cluster, AuthInfo)


def _absolute(section: _Section | None, directory: Path, *fields: str) -> _Section | None:
    """The section with these paths resolved against `directory`, that of its file."""
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
