"""Images are known by their name alone: whether one can be pulled, and its command. Nothing is pulled."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"(?:(?P<host>localhost|(?=[^/]*[.:])[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?",
)
"""The first component is a registry's host if it is `localhost`, or has a dot or a port."""

_UNREACHABLE_HOST = "invalid.example"
"""Images of this registry can never be pulled."""

_DEFAULT_COMMANDS = (
    (re.compile(r"(^|/)python"), ("python3",)),
    (re.compile(r"(^|/)(debian|ubuntu)"), ("bash",)),
    (re.compile(r"(^|/)(busybox|alpine)"), ("sh",)),
    (re.compile(r"(^|/)pause"), ("sleep", "infinity")),
)


class ImageError(Exception):
    """An image cannot be used. `reason` is the container's waiting reason, the text its message."""

    def __init__(self, reason: str, message: str, *, pull: bool = False) -> None:
        self.reason = reason
        self.pull = pull
        """A pull has failed and will be repeated."""
        super().__init__(message)


@dataclass(frozen=True)
class Image:
    """An image that can be used."""

    name: str
    default_command: tuple[str, ...]


def find(name: str) -> Image:
    """Return the image of a name. Raises ImageError."""
    found = _REFERENCE.fullmatch(name)
    if found is None:
        raise ImageError(
            "InvalidImageName",
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {_problem(name)}',
        )
    host, path, tag = found["host"], found["path"], found["tag"] or "latest"
    if host == _UNREACHABLE_HOST:
        full = f"{host}/{path}:{tag}"
        raise ImageError(
            "ErrImagePull",
            f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": failed to do request: '
            f'Head "https://{host}/v2/{path}/manifests/{tag}": dial tcp: lookup {host}: no such host',
            pull=True,
        )
    for pattern, command in _DEFAULT_COMMANDS:
        if pattern.search(path):
            return Image(name, command)
    return Image(name, ())


def _problem(name: str) -> str:
    repository = name.split(":")[0]
    if repository != repository.lower():
        return f"invalid reference format: repository name (library/{repository}) must be lowercase"
    return "invalid reference format"
