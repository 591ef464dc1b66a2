from __future__ import annotations

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from runtimes.text.engine import GenerationRequest, Sampling
from runtimes.text.sampling import Chooser, make_generator, needs_processing, process_row

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])
CPU = torch.device("cpu")


def draw(sampling: Sampling, *, times: int) -> torch.Tensor:
    """How often each token was chosen, as shares."""
    generator = make_generator(sampling, device=CPU)
    chosen = [
        int(process_row(LOGITS, sampling=sampling, prompt=[], answer=[], generator=generator).argmax())
        for _ in range(times)
    ]
    return torch.bincount(torch.tensor(chosen), minlength=len(LOGITS)) / times


@pytest.mark.parametrize(
    ("sampling", "processors"),
    [
        (Sampling(seed=1), LogitsProcessorList()),
        (Sampling(seed=2, top_k=3), LogitsProcessorList([TopKLogitsWarper(3)])),
        (Sampling(seed=3, top_p=0.7), LogitsProcessorList([TopPLogitsWarper(0.7)])),
        (Sampling(seed=4, top_p=0.01), LogitsProcessorList([TopPLogitsWarper(0.01)])),
        (Sampling(seed=7, min_p=0.3), LogitsProcessorList([MinPLogitsWarper(0.3)])),
    ],
    ids=["plain", "top-k", "top-p", "only the best", "min-p"],
)
def test_it_draws_as_often_as_the_probabilities_of_transformers_say(
    sampling: Sampling, processors: LogitsProcessorList
) -> None:
    expected = processors(torch.LongTensor([[0]]), LOGITS.unsqueeze(0))[0].softmax(dim=-1)

    shares = draw(sampling, times=4000)

    # Five standard deviations of a share of 4000 draws.
    assert torch.all((shares - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt())


def test_temperature_sharpens_the_draw() -> None:
    expected = (LOGITS / 0.5).softmax(dim=-1)

    shares = draw(Sampling(seed=5, temperature=0.5), times=4000)

    assert torch.all((shares - expected).abs() <= 5 * (expected * (1 - expected) / 4000).sqrt())


def test_the_same_seed_draws_the_same() -> None:
    assert torch.equal(draw(Sampling(seed=6), times=50), draw(Sampling(seed=6), times=50))
    assert not torch.equal(draw(Sampling(seed=6), times=50), draw(Sampling(seed=7), times=50))


def test_penalties_lower_what_was_said() -> None:
    sampling = Sampling(temperature=0.0, frequency_penalty=0.5, presence_penalty=0.25)

    row = process_row(LOGITS, sampling=sampling, prompt=[5], answer=[0, 0, 1], generator=None)

    torch.testing.assert_close(row, torch.tensor([2.0 - 1.25, 1.0 - 0.75, 0.5, 0.0, -1.0, -3.0]))


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    prompt, answer = [5, 0], [1, 1]
    expected = RepetitionPenaltyLogitsProcessor(1.3)(
        torch.tensor([prompt + answer]), LOGITS.unsqueeze(0).clone()
    )[0]

    row = process_row(
        LOGITS,
        sampling=Sampling(temperature=0.0, repetition_penalty=1.3),
        prompt=prompt,
        answer=answer,
        generator=None,
    )

    torch.testing.assert_close(row, expected)


def test_bias_and_what_is_allowed_decide_together() -> None:
    sampling = Sampling(temperature=0.0, logit_bias={4: 10.0, 5: 4.5})
    allowed = torch.tensor([True, True, False, False, False])

    row = process_row(LOGITS, sampling=sampling, prompt=[], answer=[], generator=None, allowed=allowed)

    assert row.tolist() == [2.0, 1.0, -torch.inf, -torch.inf, -torch.inf, -torch.inf]
    unrestricted = process_row(LOGITS, sampling=sampling, prompt=[], answer=[], generator=None)
    assert unrestricted.tolist() == [2.0, 1.0, 0.5, 0.0, 9.0, 1.5]


def test_logprobs_are_told_of_the_unchanged_row() -> None:
    sampling = Sampling(temperature=0.0, logit_bias={4: 10.0}, logprobs=2)
    chooser = Chooser(GenerationRequest(prompt=[1], max_tokens=1, sampling=sampling), device=CPU)
    expected = LOGITS.log_softmax(dim=-1).tolist()

    token = chooser.choose(LOGITS)

    assert (token.id, token.logprob) == (4, pytest.approx(expected[4]))
    assert token.top == ((0, pytest.approx(expected[0])), (1, pytest.approx(expected[1])))


def test_plain_greedy_decoding_is_left_alone() -> None:
    assert not needs_processing(Sampling(temperature=0.0, top_p=0.5, seed=1))
    assert needs_processing(Sampling(temperature=0.0, logprobs=0))
    assert not needs_processing(Sampling(temperature=0.0))
    assert needs_processing(Sampling(temperature=0.0, presence_penalty=0.1))
    assert needs_processing(Sampling(temperature=1.0))
