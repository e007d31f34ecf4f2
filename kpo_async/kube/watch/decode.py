"""From the bytes of a list or a watch to typed pods. Pure; knows no connection and no version logic.

One pass of msgspec over a line yields a slim `Pod`; what nobody reads (managedFields, volumes, env) is skipped, never
built. Only when that pass fails is the line looked at twice, `type` first: an ERROR carries a Status, not a pod.
A list is cut into its pods while it arrives: ten thousand of them neither stall the loop nor lie in memory twice.
A pod that cannot be read is left out with a warning: blind to one is better than blind to all.
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
"""Bytes without a line end after which a stream is no watch; etcd keeps objects below 1.5 MB."""
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
"""Annotation of the bookmark after the last initial event (KEP-3157)."""


class Change(StrEnum):
    """`type` of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a watch. The object of a bookmark has nothing but a version and annotations."""

    type: Change
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
    """What one line of a watch says, None if it is about a pod that cannot be read.

    Raises the `ApiError` that an ERROR line carries, or one with the reason "Malformed".
    """
    try:
        return _line.decode(line)
    except msgspec.DecodeError:
        _look_again(line, action)
        return None


def _look_again(line: bytes, action: Action) -> None:
    try:
        kind = _any_line.decode(line)
        if kind.type == "ERROR":
            code = msgspec.json.decode(kind.object, type=_Status).code
            raise from_response(action, code, bytes(kind.object))
        _warn_of(kind.object)
    except msgspec.DecodeError as error:
        raise malformed(action, error) from error


def _warn_of(pod: bytes | msgspec.Raw) -> None:
    metadata = msgspec.json.decode(pod, type=_Identified).metadata
    log.warning("pod %s/%s cannot be read and is left out: %.200r", metadata.namespace, metadata.name, bytes(pod))


def malformed(action: Action, error: Exception) -> ApiError:
    """The error for an answer that is not what Kubernetes sends; something between us and it may be."""
    return ApiError(
        f"{action}: the answer is not what an API server sends ({error}); is there a proxy in between?",
        verb=action.verb,
        resource=action.resource,
        name=action.name,
        namespace=action.namespace,
        reason="Malformed",
    )


class Lines:
    """Cuts a stream of chunks into lines, at a cost linear in the bytes however small the chunks are."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes. Raises `ValueError` beyond `MAX_LINE`."""
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
"""Stands between two pods of a list as Go encodes it, and nowhere inside a pod: within a string its quotes would be
escaped, and no list in a pod has objects that begin with `metadata`. A wrong cut would not be JSON and show."""


class _Layout(Enum):
    UNKNOWN = "the beginning is not there yet"
    GO = "as Kubernetes encodes it: cut into pods on the fly"
    OTHER = "somebody else's JSON: collected, decoded at the end"


class PodList:
    """Decodes one LIST answer while it arrives."""

    def __init__(self) -> None:
        self.version = ""
        self.continue_token = ""
        self._layout = _Layout.UNKNOWN
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[Pod]:
        """The pods that `chunk` completes. Exhaust it. Raises `msgspec.DecodeError`."""
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._layout is _Layout.UNKNOWN:
            self._recognise(b"".join(self._pieces))
        if self._layout is _Layout.GO and self._size >= _BATCH:
            *whole, rest = b"".join(self._pieces).split(_BETWEEN)
            self._pieces, self._size = [rest], 0
            yield from _decode_pods(b"".join((_OPENING, piece, b"}")) for piece in whole)

    def finish(self) -> Iterator[Pod]:
        """The pods that are left when the answer has ended. Raises `msgspec.DecodeError` if it is not whole."""
        body = b"".join(self._pieces)
        self._pieces = []
        if self._layout is not _Layout.GO:
            decoded = msgspec.json.decode(body, type=_List)
            self._read(decoded.metadata)
            yield from _decode_pods(decoded.items or ())
            return
        body = body.rstrip()
        if not body.endswith(b"]}"):
            raise msgspec.DecodeError("the list ends early")
        if body != b"]}":
            *whole, last = body[:-2].split(_BETWEEN)
            yield from _decode_pods(b"".join((_OPENING, piece, b"}")) for piece in whole)
            yield from _decode_pods((_OPENING + last,))

    def _recognise(self, begun: bytes) -> None:
        if head := _HEAD.match(begun):
            self._read(msgspec.json.decode(head[1], type=_ListMeta))
            self._pieces = [begun[head.end() :].removeprefix(_OPENING)]
            self._layout = _Layout.GO
        elif len(begun) > _HEAD_SIZE:
            self._layout = _Layout.OTHER

    def _read(self, metadata: _ListMeta) -> None:
        self.version, self.continue_token = metadata.resource_version, metadata.continue_


def _decode_pods(pods: Iterable[bytes | msgspec.Raw]) -> Iterator[Pod]:
    for pod in pods:
        try:
            yield _pod.decode(pod)
        except msgspec.ValidationError:
            _warn_of(pod)
