"""What is known of an image by its name alone: whether it can be had, and what it runs. Nothing is pulled."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REFERENCE = re.compile(
    r"(?:(?P<host>localhost|(?=[^/]*[.:])[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?)/)?"
    r"(?P<path>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@[A-Za-z][A-Za-z0-9]*:[0-9a-fA-F]{32,})?",
)
"""A first component is a registry's host if it is `localhost`, or has a dot or a port."""

_REFUSED_HOST = "invalid.example"
"""Images below this registry can never be pulled."""

_DEFAULT_COMMANDS = (
    (re.compile(r"(^|/)python"), ("python3",)),
    (re.compile(r"(^|/)(debian|ubuntu)"), ("bash",)),
    (re.compile(r"(^|/)(busybox|alpine)"), ("sh",)),
    (re.compile(r"(^|/)pause"), ("sleep", "infinity")),
)


class ImageRefused(Exception):
    """An image that no container can be made of. `reason` is the waiting reason, the text its message."""

    def __init__(self, reason: str, message: str, *, pull: bool = False) -> None:
        self.reason = reason
        self.pull = pull
        """It was looked for in a registry, and will be again."""
        super().__init__(message)


@dataclass(frozen=True)
class Image:
    """An image that is there."""

    name: str
    default_command: tuple[str, ...]


def find(name: str) -> Image:
    """The image of that name. Raises ImageRefused."""
    found = _REFERENCE.fullmatch(name)
    if found is None:
        raise ImageRefused(
            "InvalidImageName",
            f'Failed to apply default image tag "{name}": couldn\'t parse image name "{name}": {_flaw(name)}',
        )
    host, path, tag = found["host"], found["path"], found["tag"] or "latest"
    if host == _REFUSED_HOST:
        full = f"{host}/{path}:{tag}"
        raise ImageRefused(
            "ErrImagePull",
            f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": failed to do request: '
            f'Head "https://{host}/v2/{path}/manifests/{tag}": dial tcp: lookup {host}: no such host',
            pull=True,
        )
    for pattern, command in _DEFAULT_COMMANDS:
        if pattern.search(path):
            return Image(name, command)
    return Image(name, ())


def _flaw(name: str) -> str:
    repository = name.split(":")[0]
    if repository != repository.lower():
        return f"invalid reference format: repository name (library/{repository}) must be lowercase"
    return "invalid reference format"
