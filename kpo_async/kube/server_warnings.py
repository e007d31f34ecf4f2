"""Log the warnings that an API server sends with its responses (`Warning` headers, RFC 7234), each text once.

Servers warn about fields that they do not know and drop, deprecated APIs, and Pod Security. client-go and kubectl show
these warnings in the same way.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator

from kpo_async.exceptions import clip
from kpo_async.kube.errors import Action

REMEMBERED = 1000
"""Texts to remember at most; then the memory starts anew, so that it stays bounded."""
_WARNING = re.compile(r'\b299 \S+ "((?:[^"\\]|\\.)*)"')
logger = logging.getLogger(__name__)


class ServerWarnings:
    """The warnings of one API server that have been logged."""

    def __init__(self) -> None:
        self._logged: set[str] = set()

    def log(self, action: Action, headers: Iterable[str]) -> None:
        """Log the texts in `headers`, the `Warning` headers of the response to `action`, that are new."""
        for text in parse(headers):
            if text not in self._logged:
                if len(self._logged) == REMEMBERED:
                    self._logged.clear()
                self._logged.add(text)
                logger.warning("The API server warns: %s (%s)", clip(text), action)


def parse(headers: Iterable[str]) -> Iterator[str]:
    """Yield the text of each warning; one header may have several. Kubernetes uses code 299 only."""
    for header in headers:
        for text in _WARNING.findall(header):
            yield re.sub(r"\\(.)", r"\1", text)
