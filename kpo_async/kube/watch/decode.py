"""Decode the bytes of lists and watches to typed pods. Pure: no connections, no logic of versions.

msgspec decodes a line to a slim `Pod` in one pass and skips the fields that the library does not read (managedFields,
volumes, env). A line on which that fails is decoded again, `type` first: an ERROR carries a Status instead of a pod.
A list is decoded pod by pod while it arrives: ten thousand of them neither stall the loop nor take up memory twice.
A pod that cannot be decoded is left out with a warning: it is better to miss one than to miss all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from enum import Enum

import msgspec

from kpo_async.api_types import ObjectMeta, Pod
from kpo_async.compat import StrEnum
from kpo_async.exceptions import ApiError
from kpo_async.kube.errors import Action, from_response

log = logging.getLogger(__name__)

MAX_LINE = 16 * 2**20
"""Bytes without a line end after which a stream is not a watch; etcd keeps objects below 1.5 MB."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark after the last initial event (KEP-3157)."""


class EventType(StrEnum):
    """`type` of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a watch. The object of a bookmark has only a version and annotations."""

    type: EventType
    object: Pod

    @property
    def ends_initial_events(self) -> bool:
        annotations = self.object.metadata.annotations
        return annotations is not None and annotations.get(INITIAL_EVENTS_END) == "true"


class _AnyLine(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Identified(msgspec.Struct):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)


class _Status(msgspec.Struct):
    code: int = 0


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


_line = msgspec.json.Decoder(WatchLine)
_any_line = msgspec.json.Decoder(_AnyLine)
_pod = msgspec.json.Decoder(Pod)


def decode_line(line: bytes, action: Action) -> WatchLine | None:
    """Decode one line of a watch; None for a pod that cannot be decoded.

    Raises the `ApiError` that an ERROR line carries, or one with the reason "Malformed".
    """
    try:
        return _line.decode(line)
    except msgspec.DecodeError:
        _decode_error_line(line, action)
        return None


def _decode_error_line(line: bytes, action: Action) -> None:
    try:
        kind = _any_line.decode(line)
        if kind.type == "ERROR":
            code = msgspec.json.decode(kind.object, type=_Status).code
            raise from_response(action, code, bytes(kind.object))
        _warn_undecodable(kind.object)
    except msgspec.DecodeError as error:
        raise malformed(action, error) from error


def _warn_undecodable(pod: bytes | msgspec.Raw) -> None:
    metadata = msgspec.json.decode(pod, type=_Identified).metadata
    log.warning("pod %s/%s cannot be decoded and is left out: %.200r", metadata.namespace, metadata.name, bytes(pod))


def malformed(action: Action, error: Exception) -> ApiError:
    """The error for a response that no API server sends. A proxy in between may have sent it."""
    return ApiError(
        f"{action}: the response is not what an API server sends ({error}); is there a proxy in between?",
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        reason="Malformed",
    )


class LineSplitter:
    """Splits a stream of chunks into lines, at a cost linear in the bytes however small the chunks are."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes. Raises `ValueError` for a line longer than `MAX_LINE`."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        lines = chunk.split(b"\n")
        if self._pieces:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces, self._size = [], 0
        self._keep(lines.pop())
        return [line for line in lines if line]

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_LINE:
            raise ValueError(f"no line end in {self._size} bytes")


_HEAD = re.compile(rb'\{"kind":"PodList","apiVersion":"v1","metadata":(\{[^{}]*\}),"items":\[(?=\]\}|\{"metadata":\{)')
_HEAD_SIZE = 4096
_BATCH = 2**16
_OPENING = b'{"metadata":{'
_BETWEEN = b"}," + _OPENING
"""The boundary of two pods in a list as Go encodes it. It cannot occur inside a pod: in a string its quotes would be
escaped, and no list in a pod holds objects that begin with `metadata`. A wrong split would not be valid JSON."""


class _Layout(Enum):
    """How the JSON of a list is laid out, and so how it is decoded."""

    UNKNOWN = "unknown"
    """The beginning has not arrived yet."""
    GO = "go"
    """As Kubernetes encodes it: split into pods while it arrives."""
    OTHER = "other"
    """Any other JSON: collected, and decoded at its end."""


class PodListDecoder:
    """Decodes the response to one LIST while it arrives."""

    def __init__(self) -> None:
        self.version = ""
        self.continue_token = ""
        self._layout = _Layout.UNKNOWN
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Pod]:
        """Yield the pods that `chunk` completes. Exhaust it. Raises `msgspec.DecodeError`."""
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._layout is _Layout.UNKNOWN:
            self._detect_layout(b"".join(self._pieces))
        if self._layout is _Layout.GO and self._size >= _BATCH:
            *whole, rest = b"".join(self._pieces).split(_BETWEEN)
            self._pieces, self._size = [rest], 0
            yield from _decode_pods(b"".join((_OPENING, piece, b"}")) for piece in whole)

    def finish(self) -> Iterator[Pod]:
        """Yield the rest at the end of the response. Raises `msgspec.DecodeError` if the list is not complete."""
        body = b"".join(self._pieces)
        self._pieces = []
        if self._layout is not _Layout.GO:
            decoded = msgspec.json.decode(body, type=_List)
            self._take_metadata(decoded.metadata)
            yield from _decode_pods(decoded.items or ())
            return
        body = body.rstrip()
        if not body.endswith(b"]}"):
            raise msgspec.DecodeError("the list ends early")
        if body != b"]}":
            *whole, last = body[:-2].split(_BETWEEN)
            yield from _decode_pods(b"".join((_OPENING, piece, b"}")) for piece in whole)
            yield from _decode_pods((_OPENING + last,))

    def _detect_layout(self, beginning: bytes) -> None:
        if head := _HEAD.match(beginning):
            self._take_metadata(msgspec.json.decode(head[1], type=_ListMeta))
            self._pieces = [beginning[head.end() :].removeprefix(_OPENING)]
            self._layout = _Layout.GO
        elif len(beginning) > _HEAD_SIZE:
            self._layout = _Layout.OTHER

    def _take_metadata(self, metadata: _ListMeta) -> None:
        self.version, self.continue_token = metadata.resource_version, metadata.continue_


def _decode_pods(pods: Iterable[bytes | msgspec.Raw]) -> Iterator[Pod]:
    for pod in pods:
        try:
            yield _pod.decode(pod)
        except msgspec.ValidationError:
            _warn_undecodable(pod)
