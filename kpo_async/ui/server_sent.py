"""Server-sent events: their format, and the end of a stream that has no end of its own.

A stream ends after a minute and the browser opens the next one, so that a user who was logged out or lost a right sees
nothing new from then on. It ends at once when the server stops: uvicorn waits for open responses before it does.
"""

from __future__ import annotations

import signal

import msgspec
from fastapi.responses import StreamingResponse

LIFE = 60.0
"""Seconds for which a stream stays open."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second has nginx pass events on at once."""


class EventStream(StreamingResponse):
    """A response of server-sent events."""

    media_type = "text/event-stream"


def event(name: str, data: object) -> bytes:
    """Return an event whose data is JSON."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def retry_after(seconds: float) -> bytes:
    """Return the line that says when the browser opens the stream again after its end."""
    return b"retry: %d\n\n" % (seconds * 1000)


def server_is_stopping() -> bool:
    """Whether the uvicorn that runs this process has been asked to stop. It tells its applications only afterwards."""
    # The handler is a method of the running `uvicorn.Server`.
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
