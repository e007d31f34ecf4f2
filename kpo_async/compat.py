"""Names of newer Pythons, for older ones. The only place that asks for the version of Python."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import TaskGroup, timeout, timeout_at
    from enum import StrEnum
    from typing import Self
else:
    from enum import Enum

    from taskgroup import TaskGroup, timeout, timeout_at
    from typing_extensions import Self

    class StrEnum(str, Enum):
        """An enum whose members are strings and print as their value."""

        __str__ = str.__str__


__all__ = ["Self", "StrEnum", "TaskGroup", "timeout", "timeout_at"]
