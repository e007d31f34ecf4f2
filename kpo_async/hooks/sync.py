"""Call async code from synchronous code, such as an operator's `execute`.

`asyncio.run` refuses to run where an event loop runs already: in a notebook, an async test or an async `@task`. These
functions then work in a thread of their own, while the caller's loop waits.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def outside_event_loop(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate `function` so that its body may run an event loop wherever it is called.

    It is called in another thread, in a copy of the caller's context, only if an event loop runs in this one.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not loop_is_running():
            return function(*args, **kwargs)
        bound = functools.partial(function, *args, **kwargs)
        with ThreadPoolExecutor(1, thread_name_prefix="kpo-async") as thread:
            return thread.submit(contextvars.copy_context().run, bound).result()

    return call


@outside_event_loop
def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of `coroutine`, run to completion in an event loop of its own."""
    return asyncio.run(coroutine)


def loop_is_running() -> bool:
    """Whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
