"""Lifecycle hooks and probes: a command in the container, an HTTP request or a connection to it, or a pause."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kpo_async.localcluster.kubelet import env
from kpo_async.localcluster.kubelet.grace import Grace, first
from kpo_async.localcluster.kubelet.podstatus import ADDRESS
from kpo_async.localcluster.runtime.runtime import ProcessSpec, StartError

if TYPE_CHECKING:
    from kpo_async.localcluster.kubelet.containers import Container

_HEALTHY = range(200, 400)


class HandlerFailed(Exception):
    """A hook or probe did not succeed; the text says how."""


async def post_start(container: Container) -> None:
    """Run the postStart hook. Its failure kills the container."""
    hook = (container.record.spec.get("lifecycle") or {}).get("postStart")
    if hook:
        try:
            await _handle(container, hook)
        except HandlerFailed as error:
            container.event("Warning", "FailedPostStartHook", f"PostStartHook failed: {error}")
            container.kill()


async def pre_stop(container: Container, ended: asyncio.Event, grace: Grace) -> None:
    """Run the preStop hook for as long as the grace allows and the container runs."""
    hook = (container.record.spec.get("lifecycle") or {}).get("preStop")
    if not hook:
        return
    done = asyncio.Event()

    async def handle() -> None:
        try:
            await first(_handle(container, hook), ended.wait())
        except HandlerFailed as error:
            container.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
        done.set()

    task = asyncio.create_task(handle())
    try:
        await grace.wait_for(done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def probe(container: Container, on_started: Callable[[], None]) -> None:
    """Run the container's probes for as long as it runs; call `on_started` once the startup probe has succeeded."""
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


async def _liveness(container: Container, settings: dict[str, Any]) -> None:
    await _probe(container, settings, "Liveness", until=False)
    await _restart(container, "liveness")


async def _readiness(container: Container, settings: dict[str, Any]) -> None:
    while True:
        ready = not container.record.probed_ready
        await _probe(container, settings, "Readiness", until=ready)
        container.record.probed_ready = ready
        container.context.changed()


async def _restart(container: Container, probe_name: str) -> None:
    """Stop the container; whether it is started again is up to the restart policy."""
    spec = container.context.pod["spec"]
    grace = Grace(float(spec.get("terminationGracePeriodSeconds", 30)))
    reason = f"Container {container.record.name} failed {probe_name} probe, will be restarted"
    try:
        await container.stop(grace, reason)
    finally:
        grace.end()


async def _probe(container: Container, probe: dict[str, Any], name: str, *, until: bool) -> bool:
    """Repeat a probe until it has said `until` as often as its threshold wants; a startup probe may also fail."""
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


async def _healthy(container: Container, probe: dict[str, Any], name: str) -> bool:
    try:
        await asyncio.wait_for(_handle(container, probe), probe.get("timeoutSeconds") or 1)
    except (HandlerFailed, asyncio.TimeoutError) as error:
        container.event("Warning", "Unhealthy", f"{name} probe failed: {error or 'timed out'}")
        return False
    return True


async def _handle(container: Container, handler: dict[str, Any]) -> None:
    """Raises HandlerFailed."""
    if "exec" in handler:
        await _execute(container, handler["exec"]["command"])
    elif "sleep" in handler:
        await asyncio.sleep(handler["sleep"]["seconds"])
    elif "httpGet" in handler:
        await _request(container, handler["httpGet"])
    elif "tcpSocket" in handler:
        _, writer = await _connect(container, handler["tcpSocket"]["port"])
        writer.close()


async def _execute(container: Container, command: list[str]) -> None:
    instance = container.instance
    if instance is None or instance.process is None:
        raise HandlerFailed("the container does not run")
    spec = ProcessSpec(command, instance.spec.env, instance.spec.cwd, mounts=instance.spec.mounts)
    streams = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
    try:
        process = await container.context.runtime.exec(instance.process, spec, streams, tty=False)
    except StartError as error:
        raise HandlerFailed(str(error)) from error
    try:
        code = await asyncio.shield(process.exited)
    except asyncio.CancelledError:
        process.signal(signal.SIGKILL)
        raise
    if code != 0:
        raise HandlerFailed(f"command {command[0]!r} exited with {code}")


async def _connect(container: Container, port: int | str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    ports = container.record.spec.get("ports") or ()
    number = next((entry["containerPort"] for entry in ports if entry.get("name") == port), port)
    try:
        return await asyncio.open_connection(ADDRESS, int(number))
    except (OSError, ValueError) as error:
        raise HandlerFailed(f"dial tcp {ADDRESS}:{number}: {error}") from error


async def _request(container: Container, request: dict[str, Any]) -> None:
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
