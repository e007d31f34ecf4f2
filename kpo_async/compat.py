"""Names of newer Pythons, for older ones. The only module that checks the version of Python."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import Runner, TaskGroup, timeout, timeout_at
    from enum import StrEnum
    from typing import Self
else:
    import asyncio
    from enum import Enum
    from types import TracebackType

    from taskgroup import TaskGroup
    from taskgroup.runners import Runner
    from taskgroup.timeouts import Timeout as _Timeout
    from typing_extensions import Self

    class StrEnum(str, Enum):
        """An enum whose members are strings and print as their value."""

        __str__ = str.__str__

    class _AsyncioTimeout(_Timeout):
        """Raises `asyncio.TimeoutError`, which is a class of its own before Python 3.11."""

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool | None:
            try:
                return await super().__aexit__(kind, error, trace)
            except TimeoutError as expired:
                raise asyncio.TimeoutError from expired.__cause__

    def timeout(delay: float | None) -> _AsyncioTimeout:
        return timeout_at(None if delay is None else asyncio.get_running_loop().time() + delay)

    def timeout_at(when: float | None) -> _AsyncioTimeout:
        return _AsyncioTimeout(when)


__all__ = ["Runner", "Self", "StrEnum", "TaskGroup", "timeout", "timeout_at"]
