"""Lifecycle hooks and probes. Their handlers: a command in the container, an HTTP request, a connection, or a pause."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from kpo_async.localcluster.kubelet import env
from kpo_async.localcluster.kubelet.grace import Grace, wait_first
from kpo_async.localcluster.kubelet.podstatus import ADDRESS
from kpo_async.localcluster.runtime.runtime import ProcessSpec, StartError
from kpo_async.localcluster.store.objects import Object

if TYPE_CHECKING:
    from kpo_async.localcluster.kubelet.containers import ContainerWorker

_HEALTHY = range(200, 400)


class HandlerFailed(Exception):
    """A hook or probe failed; the text says why."""


async def post_start(container: ContainerWorker) -> None:
    """Run the postStart hook. Its failure kills the container."""
    hook = (container.record.spec.get("lifecycle") or {}).get("postStart")
    if hook:
        try:
            await _handle(container, hook)
        except HandlerFailed as error:
            container.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            container.kill()


async def pre_stop(container: ContainerWorker, ended: asyncio.Event, grace: Grace) -> None:
    """Run the preStop hook, at most until the grace is over or the container ends."""
    hook = (container.record.spec.get("lifecycle") or {}).get("preStop")
    if not hook:
        return
    done = asyncio.Event()

    async def handle() -> None:
        try:
            await wait_first(_handle(container, hook), ended.wait())
        except HandlerFailed as error:
            container.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
        done.set()

    task = asyncio.create_task(handle(), name=f"preStop of {container.record.name}")
    try:
        await grace.wait_for(done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def probe(container: ContainerWorker, on_started: Callable[[], None]) -> None:
    """Run the container's probes until cancelled; call `on_started` once the startup probe has succeeded."""
    spec = container.record.spec
    if "startupProbe" in spec:
        if not await _probe(container, spec["startupProbe"], "Startup", until=True):
            await _restart(container, "startup")
            return
        container.record.started = True
        container.context.changed()
        on_started()
    loops = []
    if "readinessProbe" in spec:
        loops.append(_readiness(container, spec["readinessProbe"]))
    if "livenessProbe" in spec:
        loops.append(_liveness(container, spec["livenessProbe"]))
    await asyncio.gather(*loops)


async def _liveness(container: ContainerWorker, settings: Object) -> None:
    await _probe(container, settings, "Liveness", until=False)
    await _restart(container, "liveness")


async def _readiness(container: ContainerWorker, settings: Object) -> None:
    while True:
        ready = not container.record.probed_ready
        await _probe(container, settings, "Readiness", until=ready)
        container.record.probed_ready = ready
        container.context.changed()


async def _restart(container: ContainerWorker, probe_name: str) -> None:
    """Stop the container; the restart policy decides whether it starts again."""
    spec = container.context.pod["spec"]
    grace = Grace(float(spec.get("terminationGracePeriodSeconds", 30)))
    reason = f"Container {container.record.name} failed {probe_name} probe, will be restarted"
    try:
        await container.stop(grace, reason)
    finally:
        grace.cancel()


async def _probe(container: ContainerWorker, probe: Object, name: str, *, until: bool) -> bool:
    """Repeat a probe until it has returned `until` as often as its threshold requires; a startup probe may fail."""
    needed = {True: probe.get("successThreshold") or 1, False: probe.get("failureThreshold") or 3}
    counts = {True: 0, False: 0}
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    while True:
        healthy = await _healthy(container, probe, name)
        counts[healthy] += 1
        counts[not healthy] = 0
        if counts[healthy] >= needed[healthy] and (healthy == until or (until and name == "Startup")):
            return healthy
        await asyncio.sleep(probe.get("periodSeconds") or 10)


async def _healthy(container: ContainerWorker, probe: Object, name: str) -> bool:
    try:
        await asyncio.wait_for(_handle(container, probe), probe.get("timeoutSeconds") or 1)
    except (HandlerFailed, asyncio.TimeoutError) as error:
        container.event("Warning", "Unhealthy", f"{name} probe failed: {error or 'timed out'}")
        return False
    return True


async def _handle(container: ContainerWorker, handler: Object) -> None:
    """Run a handler. Raises HandlerFailed."""
    if "exec" in handler:
        await _execute(container, handler["exec"]["command"])
    elif "sleep" in handler:
        await asyncio.sleep(handler["sleep"]["seconds"])
    elif "httpGet" in handler:
        await _request(container, handler["httpGet"])
    elif "tcpSocket" in handler:
        _, writer = await _connect(container, handler["tcpSocket"]["port"])
        writer.close()


async def _execute(container: ContainerWorker, command: list[str]) -> None:
    run = container.current
    if run is None or run.process is None:
        raise HandlerFailed("the container is not running")
    spec = ProcessSpec(command, run.spec.env, run.spec.cwd, mounts=run.spec.mounts)
    streams = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
    try:
        process = await container.context.runtime.exec(run.process, spec, streams, tty=False)
    except StartError as error:
        raise HandlerFailed(str(error)) from error
    try:
        code = await asyncio.shield(process.exited)
    except asyncio.CancelledError:
        process.signal(signal.SIGKILL)
        raise
    if code != 0:
        raise HandlerFailed(f"command {command[0]!r} exited with {code}")


async def _connect(container: ContainerWorker, port: int | str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    ports = container.record.spec.get("ports") or ()
    number = next((entry["containerPort"] for entry in ports if entry.get("name") == port), port)
    try:
        return await asyncio.open_connection(ADDRESS, int(number))
    except (OSError, ValueError) as error:
        raise HandlerFailed(f"dial tcp {ADDRESS}:{number}: {error}") from error


async def _request(container: ContainerWorker, request: Object) -> None:
    reader, writer = await _connect(container, request["port"])
    path = env.expand(request.get("path") or "/", {})
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {ADDRESS}\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readline()).split()
    except OSError as error:
        raise HandlerFailed(str(error)) from error
    finally:
        writer.close()
    if len(status) < 2 or not status[1].isdigit() or int(status[1]) not in _HEALTHY:
        raise HandlerFailed(f"HTTP probe failed with statuscode: {status[1].decode() if len(status) > 1 else 'none'}")
