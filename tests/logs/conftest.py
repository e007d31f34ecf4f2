"""Fixtures of the tests of logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.logs.supervisor import Supervisor, supervised


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    """The supervisor of this process. What is logged to "a task" and is not read holds back all emitters."""
    with supervised(logging.getLogger("a task")) as far_end:
        yield far_end
