"""Callbacks: which functions are called with which arguments, and what happens when they fail."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from typing import Any

import pytest

from kpo_async.callbacks import THREADS, CallbackEvent, Callbacks, ExecutionMode, KubernetesPodOperatorCallback
from kpo_async.compat import timeout
from kpo_async.exceptions import CallbackTimeoutError

pytest.importorskip("kubernetes")
import kubernetes.client

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "namespace": "n", "labels": {"a": "b"}},
    "spec": {"containers": [{"name": "base", "image": "i"}]},
}


class Recorder:
    """Make callback classes that record their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def make(self, *names: str) -> type:
        def note(name: str):
            return staticmethod(lambda **arguments: self.calls.append((name, arguments)))

        return type("Mine", (KubernetesPodOperatorCallback,), {name: note(name) for name in names})


async def test_a_pod_event_passes_a_v1pod_the_mode_and_the_tasks_arguments():
    recorder = Recorder()
    callbacks = Callbacks(
        [recorder.make("on_pod_creation")], operator="op", context={"ti": 1}, make_client=lambda: "client"
    )
    await callbacks.pod_event(CallbackEvent.POD_CREATION, POD)
    ((name, arguments),) = recorder.calls
    assert name == "on_pod_creation"
    assert isinstance(arguments["pod"], kubernetes.client.V1Pod)
    assert arguments["pod"].metadata.name == "p"
    assert (arguments["mode"], arguments["operator"], arguments["context"]) == ("sync", "op", {"ti": 1})
    assert arguments["client"] == "client"


async def test_every_event_has_its_function():
    recorder = Recorder()
    callbacks = Callbacks([recorder.make(*CallbackEvent)], mode=ExecutionMode.ASYNC)
    await callbacks.client_created()
    await callbacks.manifest_created(POD)
    for hook in (
        CallbackEvent.POD_CREATION,
        CallbackEvent.POD_STARTING,
        CallbackEvent.POD_COMPLETION,
        CallbackEvent.POD_TEARDOWN,
        CallbackEvent.POD_CLEANUP,
    ):
        await callbacks.pod_event(hook, POD)
    await callbacks.pod_event(CallbackEvent.OPERATOR_RESUMING, POD, event={"status": "success"})
    await callbacks.progress("base", [(None, "hello")], POD)
    assert {name for name, _ in recorder.calls} == set(CallbackEvent)
    assert recorder.calls[-2][1]["event"] == {"status": "success"}
    assert recorder.calls[-1][1]["line"] == "hello"


async def test_nothing_is_made_for_functions_that_are_not_overridden():
    class Idle(KubernetesPodOperatorCallback):
        pass

    def fail() -> object:
        raise AssertionError("a client was made for no function")

    callbacks = Callbacks([Idle], make_client=fail)
    assert not any(callbacks.wants(hook) for hook in CallbackEvent)
    await callbacks.client_created()
    await callbacks.pod_event(CallbackEvent.POD_CREATION, POD)


async def test_the_client_is_made_once_and_only_for_functions_that_take_it():
    made: list[int] = []

    class Modest:
        @staticmethod
        def on_pod_creation(*, pod):
            pass

    class Asking:
        @staticmethod
        def on_pod_starting(*, client, **kwargs):
            assert client is made

    callbacks = Callbacks([Modest, Asking], make_client=lambda: made.append(1) or made)
    await callbacks.pod_event(CallbackEvent.POD_CREATION, POD)
    assert made == []
    await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)
    await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)
    assert made == [1]


async def test_the_incumbents_callback_classes_are_accepted_and_their_empty_functions_are_not_called():
    incumbent = pytest.importorskip("airflow.providers.cncf.kubernetes.callbacks")
    seen: list[str] = []

    class Theirs(incumbent.KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_cleanup(*, pod, **kwargs):
            seen.append(pod.metadata.name)

    callbacks = Callbacks([Theirs])
    assert [hook for hook in CallbackEvent if callbacks.wants(hook)] == [CallbackEvent.POD_CLEANUP]
    await callbacks.pod_event(CallbackEvent.POD_CLEANUP, POD)
    assert seen == ["p"]


async def test_plain_functions_run_in_a_thread_and_async_ones_in_the_loop():
    threads: list[int] = []

    class Both(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_creation(**kwargs):
            threads.append(threading.get_ident())

        @staticmethod
        async def on_pod_starting(**kwargs):
            threads.append(threading.get_ident())

    callbacks = Callbacks([Both])
    await callbacks.pod_event(CallbackEvent.POD_CREATION, POD)
    await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)
    plain, coroutine = threads
    assert plain != coroutine == threading.get_ident()


async def test_a_callback_may_be_an_instance():
    class Counting(KubernetesPodOperatorCallback):
        count = 0

        def on_pod_creation(self, **kwargs):
            self.count += 1

    counting = Counting()
    await Callbacks([counting]).pod_event(CallbackEvent.POD_CREATION, POD)
    assert counting.count == 1


async def test_a_callbacks_changes_of_the_manifest_are_kept():
    class Labelling(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_manifest_created(*, pod_request, **kwargs):
            pod_request.metadata.labels["team"] = "data"

    manifest = await Callbacks([Labelling]).manifest_created(POD)
    assert manifest["metadata"]["labels"] == {"a": "b", "team": "data"}


async def test_an_unchanged_manifest_keeps_fields_that_the_client_does_not_know():
    recorder = Recorder()
    manifest = {**POD, "spec": {**POD["spec"], "fieldOfTheFuture": True}}
    assert await Callbacks([recorder.make("on_pod_manifest_created")]).manifest_created(manifest) is manifest


async def test_what_a_callback_raises_is_raised():
    class Failing(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_completion(**kwargs):
            raise ValueError("of the user's own")

    with pytest.raises(ValueError, match="of the user's own"):
        await Callbacks([Failing]).pod_event(CallbackEvent.POD_COMPLETION, POD)


async def test_a_plain_function_is_called_with_each_line():
    lines: list[str] = []

    async def keep(line: str) -> None:
        lines.append(line)

    callbacks = Callbacks([lines.append, keep])
    await callbacks.progress("base", [(None, "a")], POD)
    assert lines == ["a", "a"]
    assert not callbacks.wants(CallbackEvent.POD_CREATION)


async def test_an_error_of_progress_callback_is_logged_once_and_every_line_is_passed(caplog: pytest.LogCaptureFixture):
    lines: list[str] = []

    class Failing(KubernetesPodOperatorCallback):
        @staticmethod
        def progress_callback(*, line, **kwargs):
            lines.append(line)
            raise ValueError("about a line")

    await Callbacks([Failing]).progress("base", [(None, "a"), (None, "b")], POD)
    assert lines == ["a", "b"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_coroutine_that_outlasts_the_deadline_is_cancelled():
    cancelled = asyncio.Event()

    class Endless(KubernetesPodOperatorCallback):
        @staticmethod
        async def on_pod_starting(**kwargs):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    callbacks = Callbacks([Endless], deadline=time.time() + 0.01)
    with pytest.raises(CallbackTimeoutError, match=r"Endless\.on_pod_starting had not returned when the task's"):
        await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)
    assert cancelled.is_set()


@pytest.fixture
def stuck():
    """A plain function that does not return before its test has ended."""
    over = threading.Event()

    class Stuck(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_starting(**kwargs):
            over.wait(60)

        progress_callback = on_pod_starting

    yield Stuck
    over.set()


async def test_a_plain_function_that_outlasts_the_deadline_is_left_behind(stuck):
    callbacks = Callbacks([stuck], deadline=time.time() + 0.01)
    with pytest.raises(CallbackTimeoutError, match=r"Stuck\.on_pod_starting"):
        await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)


async def test_after_the_deadline_no_more_lines_are_given_to_progress_callbacks(stuck, caplog):
    callbacks = Callbacks([stuck], deadline=time.time() + 0.01)
    await callbacks.progress("base", [(None, "a"), (None, "b")], POD)
    assert len(caplog.records) == 1


async def test_a_deadline_can_be_put_off(stuck):
    callbacks = Callbacks([stuck], deadline=time.time() - 60)
    callbacks.grant(0.3)
    before = time.monotonic()
    with pytest.raises(CallbackTimeoutError):
        await callbacks.pod_event(CallbackEvent.POD_STARTING, POD)
    assert time.monotonic() - before >= 0.29


async def test_slow_plain_functions_take_no_thread_from_anything_else(stuck):
    """The loop's own pool has few threads, and Airflow needs one of them to start or cancel a trigger."""
    slow = [asyncio.create_task(Callbacks([stuck]).pod_event(CallbackEvent.POD_STARTING, POD)) for _ in range(THREADS)]
    await asyncio.sleep(0.2)
    async with timeout(5):
        assert await asyncio.to_thread(lambda: "free") == "free"
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)


async def test_a_plain_function_sees_the_context_of_its_task():
    """Airflow finds the log of a trigger by a context variable."""
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    class Looking(KubernetesPodOperatorCallback):
        @staticmethod
        def on_pod_starting(**kwargs):
            seen.append(variable.get())

    variable.set("the trigger's")
    await Callbacks([Looking]).pod_event(CallbackEvent.POD_STARTING, POD)
    assert seen == ["the trigger's"]


async def test_a_users_own_timeout_error_is_raised():
    class Slow(KubernetesPodOperatorCallback):
        @staticmethod
        async def on_pod_starting(**kwargs):
            raise asyncio.TimeoutError

    with pytest.raises(asyncio.TimeoutError):
        await Callbacks([Slow], deadline=time.time() + 60).pod_event(CallbackEvent.POD_STARTING, POD)


async def test_the_same_pod_is_converted_once():
    recorder = Recorder()
    await Callbacks([recorder.make("progress_callback")]).progress("base", [(None, "a"), (None, "b")], POD)
    first, second = (arguments["pod"] for _, arguments in recorder.calls)
    assert first is second
