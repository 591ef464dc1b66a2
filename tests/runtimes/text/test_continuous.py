"""The engine on real weights, against plain `generate` of the same model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtimes.errors import EngineFailure, SequenceFailure
from runtimes.text.continuous import MAX_BATCH_TOKENS, ContinuousBatchingEngine
from runtimes.text.engine import GenerationRequest, Sampling

pytestmark = [pytest.mark.weights, pytest.mark.timeout(300)]

GREEDY = Sampling(temperature=0.0)
END = 2


@pytest.fixture(scope="module")
def model(smollm_folder: Path) -> Any:
    torch.set_num_threads(2)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        smollm_folder, dtype=torch.float32, local_files_only=True
    )
    return loaded.eval()


@pytest.fixture(scope="module")
def prompts(smollm_folder: Path) -> list[list[int]]:
    """Five conversations of different lengths; one is longer than a step of the engine."""
    tokenizer: Any = AutoTokenizer.from_pretrained(smollm_folder, local_files_only=True)
    texts = [
        "What is the capital of France?",
        "Write a short poem about the sea and the wind.",
        "Hi",
        "Say three colors.",
        "Count: " + " ".join(map(str, range(MAX_BATCH_TOKENS // 3))),
    ]
    read: list[list[int]] = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]
    assert max(map(len, read)) > MAX_BATCH_TOKENS
    return read


def generate_plainly(model: Any, prompt: list[int], *, max_tokens: int) -> list[int]:
    with torch.inference_mode():
        output = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=max_tokens,
            eos_token_id=END,
            pad_token_id=END,
        )
    answer: list[int] = output[0, len(prompt) :].tolist()
    return answer


@asynccontextmanager
async def running_engine(
    model: Any, *, cache_tokens: int = 4096
) -> AsyncIterator[tuple[ContinuousBatchingEngine, list[BaseException]]]:
    failures: list[BaseException] = []
    engine = ContinuousBatchingEngine(model, end_tokens=[END], max_concurrency=8, cache_tokens=cache_tokens)
    engine.start(on_failure=failures.append)
    try:
        yield engine, failures
    finally:
        await asyncio.to_thread(engine.stop)


async def collect(engine: ContinuousBatchingEngine, request: GenerationRequest) -> list[int]:
    return [token.id async for token in engine.generate(request)]


class OnlyThese:
    """Allows a fixed sequence of tokens, then breaks."""

    def __init__(self, *tokens: int, vocabulary: int) -> None:
        self._left = list(tokens)
        self._vocabulary = vocabulary
        self.accepted: list[int] = []

    def allowed(self) -> torch.Tensor | None:
        if not self._left:
            raise ValueError("the grammar is over")
        mask = torch.zeros(self._vocabulary, dtype=torch.bool)
        mask[self._left.pop(0)] = True
        return mask

    def accept(self, token: int) -> None:
        self.accepted.append(token)


async def test_greedy_answers_computed_together_equal_plain_generate(
    model: Any, prompts: list[list[int]]
) -> None:
    expected = [generate_plainly(model, prompt, max_tokens=6) for prompt in prompts]

    async with running_engine(model) as (engine, _):
        answers = await asyncio.gather(
            *(
                collect(engine, GenerationRequest(prompt=prompt, max_tokens=6, sampling=GREEDY))
                for prompt in prompts
            )
        )

    assert answers == expected


async def test_answers_stay_right_when_the_cache_is_too_small_for_all(
    model: Any, prompts: list[list[int]]
) -> None:
    short = [prompts[0][:-1] + [number] + prompts[0][-1:] for number in range(300, 306)]
    expected = [generate_plainly(model, prompt, max_tokens=40) for prompt in short]

    # Room for about two of the six at their full length.
    async with running_engine(model, cache_tokens=192) as (engine, failures):
        answers = await asyncio.gather(
            *(
                collect(engine, GenerationRequest(prompt=prompt, max_tokens=40, sampling=GREEDY))
                for prompt in short
            )
        )

    assert (answers, failures) == (expected, [])


async def test_a_seed_decides_the_answer_whatever_else_is_computed(
    model: Any, prompts: list[list[int]]
) -> None:
    def request(seed: int) -> GenerationRequest:
        return GenerationRequest(
            prompt=prompts[1], max_tokens=8, sampling=Sampling(temperature=0.9, seed=seed)
        )

    async with running_engine(model) as (engine, _):
        alone = await collect(engine, request(1))
        together = await asyncio.gather(
            collect(engine, GenerationRequest(prompt=prompts[0], max_tokens=8, sampling=GREEDY)),
            collect(engine, request(1)),
            collect(engine, request(2)),
        )

    assert together[1] == alone
    assert together[2] != alone
    assert together[0] == generate_plainly(model, prompts[0], max_tokens=8)


async def test_tokens_arrive_one_by_one_and_closing_frees_the_place(
    model: Any, prompts: list[list[int]]
) -> None:
    async with running_engine(model) as (engine, _):
        request = GenerationRequest(prompt=prompts[1], max_tokens=1000, sampling=GREEDY)
        async with aclosing(engine.generate(request)) as tokens:
            first = [(await anext(tokens)).id, (await anext(tokens)).id]
            assert engine.active == 1

        async with asyncio.timeout(10):
            while engine.active:
                await asyncio.sleep(0.01)

    assert first == generate_plainly(model, prompts[1], max_tokens=2)


async def test_logprobs_are_those_of_the_model_whatever_was_chosen(
    model: Any, prompts: list[list[int]]
) -> None:
    sampling = Sampling(temperature=1.5, seed=3, logprobs=2, logit_bias={400: 5.0})
    request = GenerationRequest(prompt=prompts[0], max_tokens=3, sampling=sampling)

    async with running_engine(model) as (engine, _):
        tokens = [token async for token in engine.generate(request)]

    answer = [token.id for token in tokens]
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0] + answer])).logits[0, len(prompts[0]) - 1 : -1]
    logprobs = logits.log_softmax(dim=-1)
    best = logprobs.topk(2)
    assert [token.logprob for token in tokens] == pytest.approx(
        logprobs[range(len(answer)), answer].tolist(), abs=1e-3
    )
    assert [[entry[0] for entry in token.top] for token in tokens] == best.indices.tolist()
    assert [entry[1] for token in tokens for entry in token.top] == pytest.approx(
        best.values.flatten().tolist(), abs=1e-3
    )


async def test_a_constraint_decides_and_its_end_ends_one_answer_only(
    model: Any, prompts: list[list[int]]
) -> None:
    vocabulary = model.config.vocab_size
    constraint = OnlyThese(500, 501, vocabulary=vocabulary)
    seen: list[int] = []

    async with running_engine(model) as (engine, failures):
        other = asyncio.create_task(
            collect(engine, GenerationRequest(prompt=prompts[0], max_tokens=8, sampling=GREEDY))
        )
        with pytest.raises(SequenceFailure, match="the grammar is over"):
            async for token in engine.generate(
                GenerationRequest(prompt=prompts[2], max_tokens=8, sampling=GREEDY, constraint=constraint)
            ):
                seen.append(token.id)
        assert await other == generate_plainly(model, prompts[0], max_tokens=8)

    assert (seen, constraint.accepted, failures) == ([500, 501], [500, 501], [])


async def test_it_says_when_it_broke_and_takes_nothing_more(
    model: Any, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(**inputs: Any) -> None:
        raise RuntimeError("out of memory")

    async with running_engine(model) as (engine, failures):
        monkeypatch.setattr(model, "forward", break_down)
        request = GenerationRequest(prompt=prompts[0], max_tokens=4, sampling=GREEDY)
        with pytest.raises(EngineFailure, match="out of memory"):
            await collect(engine, request)
        with pytest.raises(EngineFailure, match="has stopped"):
            await collect(engine, request)

    assert [str(failure) for failure in failures] == ["out of memory"]
