"""What planning says a model takes, against what serving it really took: each by a server of the test's own,
whose peak is of nobody else's calls.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deployments.planning.memory import MemoryEstimate, ServingShape, estimate_serving
from deployments.serving.facts import planning_facts
from marketplace.catalog.versions import facts_of_folder
from runtimes.contract import ServingEnvironment, Task
from tests.runtimes.serving import RunningServer, start_server

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def new_text_server(text_environment: ServingEnvironment) -> Iterator[RunningServer]:
    with start_server(text_environment) as server:
        server.wait_ready()
        yield server


@pytest.fixture
def new_embedding_server(minilm_folder: Path) -> Iterator[RunningServer]:
    environment = ServingEnvironment(
        task=Task.FEATURE_EXTRACTION, model_dir=str(minilm_folder), model_name="embed-demo"
    )
    with start_server(environment) as server:
        server.wait_ready()
        yield server


def test_the_peak_of_a_text_model_lies_within_the_estimate(
    new_text_server: RunningServer, smollm_folder: Path
) -> None:
    with new_text_server.openai as client, ThreadPoolExecutor(2) as callers:

        def answer(number: int) -> None:
            client.completions.create(
                model="chat-demo", prompt=f"{number} " * 200, max_tokens=16, temperature=0
            )

        list(callers.map(answer, range(4)))
    check(new_text_server, estimate(smollm_folder, generates=True, context_length=512, concurrency=2))


def test_the_peak_of_an_embedding_model_lies_within_the_estimate(
    new_embedding_server: RunningServer, minilm_folder: Path
) -> None:
    with new_embedding_server.openai as client:
        client.embeddings.create(model="embed-demo", input=["word " * 250] * 32)
    check(new_embedding_server, estimate(minilm_folder, generates=False, context_length=256, concurrency=8))


def estimate(folder: Path, *, generates: bool, context_length: int, concurrency: int) -> MemoryEstimate:
    facts = planning_facts(facts_of_folder(folder), generates=generates)
    shape = ServingShape(facts=facts, precision="float32", family="cpu")
    return estimate_serving(shape, context_length=context_length, concurrency=concurrency)


def check(server: RunningServer, estimate: MemoryEstimate) -> None:
    with server.http as client:
        measured = client.get("/info").json()["memory"]["measured_peak_bytes"]
    assert estimate.unknown == ()
    assert estimate.low <= measured <= estimate.high, (measured / 2**20, estimate.expected / 2**20, estimate)


def test_the_peak_is_of_the_process_and_not_of_the_one_that_started_it() -> None:
    ballast = bytearray(2**30)
    ballast[:: 2**12] = b"x" * (len(ballast) // 2**12)  # touched, so that it counts
    code = "from runtimes.server.memory import peak_memory; print(peak_memory())"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert 0 < int(printed.stdout) < 2**29
