"""Asks containers how they are: startup, then readiness and liveness, with Kubernetes' numbers.

A `Health` is what is known of one run of one container; its task (`keep_asking`) changes it and calls
`changed` only when the answer is another one, so that a healthy container causes no work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Probe = Mapping[str, Any]
"""A probe of a manifest: httpGet or tcpSocket, and its numbers."""
DEFAULT_PERIOD_SECONDS = 10
DEFAULT_TIMEOUT_SECONDS = 1
DEFAULT_FAILURE_THRESHOLD = 3


@dataclass
class Health:
    """What the probes of one run have found."""

    startup_done: bool = False
    ready: bool = False
    unhealthy: str = ""
    """Why the container must be restarted; empty while it need not."""


class ProbeFailed(Exception):
    """The container did not answer as it should; the message says how."""


async def keep_asking(
    health: Health, container: Mapping[str, Any], *, ip: str, changed: Callable[[], None]
) -> None:
    """Runs the container's probes until it is unhealthy, or for as long as the task lives."""
    startup, readiness, liveness = (
        container.get(f"{name}Probe") for name in ("startup", "readiness", "liveness")
    )
    if startup and not health.startup_done:
        await _delay(startup)
        health.unhealthy = await _ask_until(startup, container, ip=ip, wanted=True)
        if health.unhealthy:
            health.unhealthy = f"Startup probe failed: {health.unhealthy}"
            return changed()
    if not health.startup_done:
        health.startup_done = True
        changed()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow_readiness(readiness, health, container, ip=ip, changed=changed))
        if liveness:
            tasks.create_task(_follow_liveness(liveness, health, container, ip=ip, changed=changed))
    return None


async def _follow_readiness(
    probe: Probe | None,
    health: Health,
    container: Mapping[str, Any],
    *,
    ip: str,
    changed: Callable[[], None],
) -> None:
    if probe is None:
        if not health.ready:
            health.ready = True
            changed()
        return
    await _delay(probe)
    while True:
        await _ask_until(probe, container, ip=ip, wanted=not health.ready)
        health.ready = not health.ready
        changed()


async def _follow_liveness(
    probe: Probe, health: Health, container: Mapping[str, Any], *, ip: str, changed: Callable[[], None]
) -> None:
    await _delay(probe)
    reason = await _ask_until(probe, container, ip=ip, wanted=False)
    health.unhealthy = f"Liveness probe failed: {reason}"
    changed()


async def _delay(probe: Probe) -> None:
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))


async def _ask_until(probe: Probe, container: Mapping[str, Any], *, ip: str, wanted: bool) -> str:
    """Asks once a period until enough answers in a row are good (`wanted`) or bad.

    Waiting for a good one also ends with enough bad ones if the probe is a startup probe, for which "not yet"
    has a limit. Returns the last failure; empty if the end was good.
    """
    is_startup = probe is container.get("startupProbe")
    successes = failures = 0
    while True:
        try:
            timeout = probe.get("timeoutSeconds", DEFAULT_TIMEOUT_SECONDS)
            async with asyncio.timeout(timeout):
                await ask(probe, container, ip=ip)
            successes, failures, failure = successes + 1, 0, ""
        except TimeoutError:
            successes, failures, failure = 0, failures + 1, f"no answer within {timeout} s"
        except (ProbeFailed, OSError, ValueError) as error:
            successes, failures, failure = 0, failures + 1, str(error)
        if wanted and successes >= probe.get("successThreshold", 1):
            return ""
        if (is_startup or not wanted) and failures >= probe.get(
            "failureThreshold", DEFAULT_FAILURE_THRESHOLD
        ):
            return failure
        await asyncio.sleep(probe.get("periodSeconds", DEFAULT_PERIOD_SECONDS))


async def ask(probe: Probe, container: Mapping[str, Any], *, ip: str) -> None:
    """Asks once. Raises ProbeFailed, or OSError when nobody listens."""
    action = probe.get("httpGet") or probe["tcpSocket"]
    port = _port(action["port"], container)
    host = action.get("host") or ip
    reader, writer = await asyncio.open_connection(host, port)
    try:
        if "httpGet" in probe:
            await _get(reader, writer, host=f"{host}:{port}", action=action)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, host: str, action: Mapping[str, Any]
) -> None:
    """One GET. Only the status line matters: 200 to 399 is good, as for the kubelet."""
    path = action.get("path") or "/"
    headers = {"Host": host, "User-Agent": "kube-probe/local", "Connection": "close"}
    headers.update({header["name"]: header["value"] for header in action.get("httpHeaders") or ()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    status = (await reader.readline()).split(b" ")
    if len(status) < 2 or not status[1][:3].isdigit():
        raise ProbeFailed(f"http://{host}{path} did not answer in HTTP")
    if not 200 <= int(status[1][:3]) < 400:
        raise ProbeFailed(f"http://{host}{path} answered {int(status[1][:3])}")


def _port(port: int | str, container: Mapping[str, Any]) -> int:
    """A port by number, or by the name that the container gave it."""
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise ProbeFailed(f"the container declares no port named {port}")
