"""A pod's volumes, as directories of the host, and their mounts in its containers.

A volume is created when the pod starts, and is not refreshed when its config map or secret changes.
"""

from __future__ import annotations

import os
import posixpath
import shutil
from pathlib import Path

from kpo_async.localcluster.client import InProcessClient, NotFound
from kpo_async.localcluster.kubelet import downward, env
from kpo_async.localcluster.runtime.runtime import Mount
from kpo_async.localcluster.store.objects import Object

_DEFAULT_MODE = 0o644
_TOKEN_SECONDS = 3600
_RESOURCES = {"configMap": ("configmaps", "configmap"), "secret": ("secrets", "secret")}


class MountFailed(Exception):
    """A volume cannot be created for now: the message of a FailedMount event."""

    def __init__(self, volume: str, reason: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {reason}')


def mounted_volumes(pod: Object) -> list[Object]:
    """Return the volumes that a container mounts: a kubelet does not wait for the others."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    used = {mount["name"] for container in containers for mount in container.get("volumeMounts") or ()}
    return [volume for volume in spec.get("volumes") or () if volume["name"] in used]


class Volumes:
    """The volumes of one pod, in `directory`. Claims are in `claims`, and outlive their pods."""

    def __init__(self, client: InProcessClient, directory: Path, claims: Path) -> None:
        self._client = client
        self._directory = directory
        self._claims = claims
        self._sources: dict[str, Path] = {}

    def prepare(self, pod: Object) -> None:
        """Create each volume that a container mounts and that does not exist yet. Raises MountFailed."""
        for volume in mounted_volumes(pod):
            if volume["name"] in self._sources:
                continue
            try:
                self._sources[volume["name"]] = self._create(pod, volume)
            except (OSError, downward.UnknownField) as error:
                raise MountFailed(volume["name"], str(error)) from error

    def mounts(self, pod: Object, container: Object, values: env.Values) -> list[Mount]:
        """Return a container's mounts, outer paths first. Raises ContainerConfigError."""
        mounts = []
        for entry in container.get("volumeMounts") or ():
            source = self._sources[entry["name"]]
            below = entry.get("subPath") or env.expand(entry.get("subPathExpr") or "", values)
            if below:
                source = self._sub_path(source, below)
            target = posixpath.normpath(posixpath.join("/", entry["mountPath"]))
            mounts.append(Mount(os.path.realpath(source), target, bool(entry.get("readOnly"))))
        return sorted(mounts, key=lambda mount: mount.target.count("/"))

    @staticmethod
    def _sub_path(source: Path, below: str) -> Path:
        found = source / below
        if not found.resolve().is_relative_to(source.resolve()):
            raise env.ContainerConfigError(f'failed to prepare subPath for volumeMount: "{below}" leaves its volume')
        try:
            if not found.exists():
                found.mkdir(parents=True)
                found.chmod(0o777)
        except OSError as error:
            raise env.ContainerConfigError(f"failed to create subPath directory for volumeMount: {error}") from error
        return found

    def _create(self, pod: Object, volume: Object) -> Path:
        name = str(volume["name"])
        directory = self._directory / name
        if "hostPath" in volume:
            return self._host_path(volume)
        if "persistentVolumeClaim" in volume:
            return self._claim(pod, volume)
        entries: list[_File] = []
        for kind in ("configMap", "secret", "downwardAPI"):
            if kind in volume:
                mode = volume[kind].get("defaultMode") or _DEFAULT_MODE
                entries = self._files(pod, name, kind, volume[kind], mode)
        if "projected" in volume:
            mode = volume["projected"].get("defaultMode") or _DEFAULT_MODE
            for source in volume["projected"].get("sources") or ():
                for kind, settings in source.items():
                    entries += self._files(pod, name, kind, settings, mode)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)
        for entry in entries:
            entry.write(directory)
        return directory

    def _host_path(self, volume: Object) -> Path:
        path, kind = Path(volume["hostPath"]["path"]), volume["hostPath"].get("type") or ""
        if kind == "DirectoryOrCreate":
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.touch()
        elif kind == "Directory" and not path.is_dir():
            raise MountFailed(volume["name"], f"hostPath type check failed: {path} is not a directory")
        elif kind == "File" and not path.is_file():
            raise MountFailed(volume["name"], f"hostPath type check failed: {path} is not a file")
        elif not path.exists():
            path.mkdir(parents=True)  # A container runtime does so for the source of a bind mount.
        return path

    def _claim(self, pod: Object, volume: Object) -> Path:
        claim = str(volume["persistentVolumeClaim"]["claimName"])
        path = self._claims / str(pod["metadata"]["namespace"]) / claim
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        return path

    def _files(self, pod: Object, volume: str, kind: str, settings: Object, mode: int) -> list[_File]:
        if kind in _RESOURCES:
            return self._object_files(pod, volume, kind, settings, mode)
        if kind == "downwardAPI":
            return [_File(item["path"], _downward(pod, item), item.get("mode") or mode) for item in settings["items"]]
        if kind == "serviceAccountToken":
            seconds = settings.get("expirationSeconds") or _TOKEN_SECONDS
            return [_File(settings["path"], self._token(pod, volume, seconds).encode(), 0o600)]
        raise MountFailed(volume, f"volume source {kind} is not supported")

    def _object_files(self, pod: Object, volume: str, kind: str, settings: Object, mode: int) -> list[_File]:
        resource, word = _RESOURCES[kind]
        name = settings.get("secretName") or settings.get("name", "")
        namespace, optional = pod["metadata"]["namespace"], settings.get("optional", False)
        try:
            found = env.content(resource, self._client.get(resource, namespace, name))
        except NotFound:
            if optional:
                return []
            raise MountFailed(volume, f'{word} "{name}" not found') from None
        items = settings.get("items")
        if not items:
            return [_File(key, value, mode) for key, value in found.items()]
        missing = [item["key"] for item in items if item["key"] not in found]
        if missing and not optional:
            raise MountFailed(volume, f"references non-existent {word} key: {missing[0]}")
        return [
            _File(item["path"], found[item["key"]], item.get("mode") or mode) for item in items if item["key"] in found
        ]

    def _token(self, pod: Object, volume: str, seconds: int) -> str:
        account = pod["spec"].get("serviceAccountName") or "default"
        try:
            return self._client.create_token(pod["metadata"]["namespace"], account, seconds)
        except NotFound as error:
            raise MountFailed(volume, f"failed to fetch token: {error}") from None

    def remove(self) -> None:
        """Delete the volumes, except claims and host paths."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _downward(pod: Object, item: Object) -> bytes:
    if "fieldRef" in item:
        return downward.field_value(pod, item["fieldRef"]["fieldPath"]).encode()
    return downward.resource_value(pod, {}, item["resourceFieldRef"]).encode()


class _File:
    """A file of a volume."""

    def __init__(self, path: str, data: bytes, mode: int) -> None:
        self.path = path
        self.data = data
        self.mode = mode

    def write(self, directory: Path) -> None:
        path = directory / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.data)
        path.chmod(self.mode)
