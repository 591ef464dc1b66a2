"""What planning says a model takes, against what serving it really took."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deployments.planning.memory import MemoryEstimate, ServingShape, estimate_serving
from deployments.serving.facts import planning_facts
from marketplace.catalog.versions import facts_of_folder
from tests.runtimes.serving import RunningServer


def test_the_peak_of_a_text_model_lies_within_the_estimate(
    text_server: RunningServer, smollm_folder: Path
) -> None:
    with text_server.openai as client, ThreadPoolExecutor(2) as callers:

        def answer(number: int) -> None:
            client.completions.create(
                model="chat-demo", prompt=f"{number} " * 200, max_tokens=16, temperature=0
            )

        list(callers.map(answer, range(4)))
    check(text_server, estimate(smollm_folder, generates=True, context_length=512, concurrency=2))


def test_the_peak_of_an_embedding_model_lies_within_the_estimate(
    embedding_server: RunningServer, minilm_folder: Path
) -> None:
    with embedding_server.openai as client:
        client.embeddings.create(model="embed-demo", input=["word " * 250] * 32)
    check(embedding_server, estimate(minilm_folder, generates=False, context_length=256, concurrency=8))


def estimate(folder: Path, *, generates: bool, context_length: int, concurrency: int) -> MemoryEstimate:
    facts = planning_facts(facts_of_folder(folder), generates=generates)
    shape = ServingShape(facts=facts, precision="float32", family="cpu")
    return estimate_serving(shape, context_length=context_length, concurrency=concurrency)


def check(server: RunningServer, estimate: MemoryEstimate) -> None:
    with server.http as client:
        measured = client.get("/info").json()["memory"]["measured_peak_bytes"]
    assert estimate.unknown == ()
    assert estimate.low <= measured <= estimate.high, (measured / 2**20, estimate.expected / 2**20, estimate)
