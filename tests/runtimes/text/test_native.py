"""Our own engine on real weights, against `generate` of transformers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from runtimes.devices.device import Device
from runtimes.errors import EngineFailure, SetupError
from runtimes.text.choosing import possible_engines
from runtimes.text.engine import GenerationRequest, Sampling
from runtimes.text.loading import load_weights
from runtimes.text.native.cache import KEPT_TOKENS, SlotCache, common_beginning
from runtimes.text.native.decoder import Decoder, Part
from runtimes.text.native.engine import STEP_TOKENS, NativeEngine
from runtimes.text.native.linears import Int8Linear

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

CPU = Device(
    name="cpu", torch_name="cpu", description="this machine", memory_bytes=16 * 2**30, dtypes=("float32",)
)
GREEDY = Sampling(temperature=0.0)
CONTEXT = 1200
TOKENS = 6


@pytest.fixture(scope="module")
def prompts(smollm_folder: Path) -> list[list[int]]:
    """Conversations of different lengths; the last is longer than what one step takes of prompts."""
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm_folder, local_files_only=True)
    texts = ["What is the capital of France?", "Hi", "Count: " + " ".join(map(str, range(STEP_TOKENS // 3)))]
    read: list[list[int]] = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]
    assert max(map(len, read)) > STEP_TOKENS
    return read


@pytest.fixture(scope="module")
def decoder_and_answers(smollm_folder: Path, prompts: list[list[int]]) -> tuple[Decoder, list[list[int]]]:
    """The decoder, and what the model that it was made from answers by `generate`."""
    model: Any = load_weights(smollm_folder, device=CPU, dtype="float32")
    answers = []
    for prompt in prompts:
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=TOKENS,
            pad_token_id=2,
        )
        answers.append(output[0, len(prompt) :].tolist())
    return Decoder(model, int8=False, context_length=CONTEXT), answers


@asynccontextmanager
async def running_engine(
    decoder: Decoder, *, cache_tokens: int = 4096
) -> AsyncIterator[tuple[NativeEngine, list[BaseException]]]:
    failures: list[BaseException] = []
    engine = NativeEngine(
        decoder,
        name="native-float32",
        end_tokens=[2],
        max_concurrency=3,
        context_length=CONTEXT,
        cache_tokens=cache_tokens,
    )
    engine.start(on_failure=failures.append)
    try:
        yield engine, failures
    finally:
        await asyncio.to_thread(engine.stop)


async def collect(
    engine: NativeEngine, prompt: list[int], *, max_tokens: int = TOKENS, sampling: Sampling = GREEDY
) -> list[int]:
    request = GenerationRequest(prompt=prompt, max_tokens=max_tokens, sampling=sampling)
    return [token.id async for token in engine.generate(request)]


@pytest.mark.parametrize("cache_tokens", [4096, CONTEXT], ids=["room for all", "room for one or two"])
async def test_greedy_answers_computed_together_equal_generate(
    decoder_and_answers: tuple[Decoder, list[list[int]]], prompts: list[list[int]], cache_tokens: int
) -> None:
    decoder, expected = decoder_and_answers

    async with running_engine(decoder, cache_tokens=cache_tokens) as (engine, failures):
        answers = await asyncio.gather(*(collect(engine, prompt) for prompt in [*prompts, *prompts]))

    assert (answers, failures) == ([*expected, *expected], [])


async def test_a_beginning_that_was_computed_before_is_not_computed_again(
    decoder_and_answers: tuple[Decoder, list[list[int]]],
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder, expected = decoder_and_answers
    computed: list[int] = []
    step = Decoder.step

    def counted(self: Decoder, parts: list[Part], **others: Any) -> torch.Tensor:
        computed.append(sum(len(part.tokens) for part in parts))
        return step(self, parts, **others)

    monkeypatch.setattr(Decoder, "step", counted)
    async with running_engine(decoder) as (engine, _):
        first = await collect(engine, prompts[0])
        before = sum(computed)
        second = await collect(engine, prompts[0])

    assert first == second == expected[0]
    # The last token of the prompt and the answer's tokens but the last.
    assert sum(computed) - before == TOKENS


async def test_a_seed_decides_the_answer_whatever_else_is_computed(
    decoder_and_answers: tuple[Decoder, list[list[int]]], prompts: list[list[int]]
) -> None:
    sampling = Sampling(temperature=0.9, seed=1)

    async with running_engine(decoder_and_answers[0]) as (engine, _):
        alone = await collect(engine, prompts[0], sampling=sampling)
        together = await asyncio.gather(
            collect(engine, prompts[0], sampling=sampling), collect(engine, prompts[2])
        )

    assert together == [alone, decoder_and_answers[1][2]]


async def test_closing_frees_the_place(
    decoder_and_answers: tuple[Decoder, list[list[int]]], prompts: list[list[int]]
) -> None:
    async with running_engine(decoder_and_answers[0]) as (engine, _):
        request = GenerationRequest(prompt=prompts[1], max_tokens=1000, sampling=GREEDY)
        async with aclosing(engine.generate(request)) as tokens:
            await anext(tokens)
            assert engine.active == 1
        async with asyncio.timeout(10):
            while engine.active:
                await asyncio.sleep(0.01)


async def test_it_says_when_it_broke_and_takes_nothing_more(
    decoder_and_answers: tuple[Decoder, list[list[int]]],
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def break_down(self: Decoder, parts: list[Part], **others: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Decoder, "step", break_down)
    async with running_engine(decoder_and_answers[0]) as (engine, failures):
        with pytest.raises(EngineFailure, match="out of memory"):
            await collect(engine, prompts[0])
        with pytest.raises(EngineFailure, match="has stopped"):
            await collect(engine, prompts[0])

    assert [str(failure) for failure in failures] == ["out of memory"]


def test_a_token_of_8_bits_is_the_same_in_every_batch() -> None:
    torch.manual_seed(0)
    weight = torch.randn(96, 64)
    linear = Int8Linear(weight, None)
    x = torch.randn(5, 64) * torch.tensor([1.0, 100.0, 0.01, 1.0, 3.0]).unsqueeze(1)

    together = linear(x)

    assert torch.equal(torch.cat([linear(row.unsqueeze(0)) for row in x]), together)
    error = (together - x @ weight.T).norm(dim=1) / (x @ weight.T).norm(dim=1)
    assert error.max() < 0.02


def test_the_memory_of_a_long_sequence_is_given_back() -> None:
    cache = SlotCache(layers=1, slots=2, heads=1, head_size=64, context_length=4 * KEPT_TOKENS)
    slot, reused = cache.take(list(range(3 * KEPT_TOKENS)))
    slot.tokens = list(range(3 * KEPT_TOKENS))
    cache.values[:, :, slot.number] = 1.0

    cache.release(slot)

    kept = cache.values[0, 0, slot.number, 0]
    assert (reused, kept[:KEPT_TOKENS].unique().tolist()) == (0, [1.0])
    assert kept[2 * KEPT_TOKENS :].unique().tolist() == [0.0]
    assert common_beginning(slot.tokens, list(range(2000))) == KEPT_TOKENS


LLAMA = {"model_type": "llama", "hidden_act": "silu"}


@pytest.mark.parametrize(
    ("wanted", "config", "dtype", "expected"),
    [
        ("auto", LLAMA, "float32", ["transformers", "native"]),
        ("auto", LLAMA, "int8", ["native"]),
        ("auto", LLAMA, "bfloat16", ["transformers"]),
        ("auto", {"model_type": "gpt2"}, "float32", ["transformers"]),
        ("native", LLAMA, "float32", ["native"]),
    ],
)
def test_only_engines_of_the_same_precision_compete(
    wanted: str, config: dict[str, Any], dtype: str, expected: list[str]
) -> None:
    assert possible_engines(wanted, config=config, device=CPU, dtype=dtype) == expected


@pytest.mark.parametrize(
    ("wanted", "config", "message"),
    [
        ("vllm", LLAMA, "'vllm' is unknown; use auto, transformers, native"),
        ("native", {"model_type": "gpt2"}, "native: model_type is 'gpt2', not 'llama'"),
        ("transformers", LLAMA, "transformers: it does not compute in int8"),
    ],
)
def test_it_says_why_an_engine_cannot_be_had(wanted: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        possible_engines(wanted, config=config, device=CPU, dtype="int8")
