"""The choice of one token from one row of logits. Pure, so that every engine chooses alike.

A row is changed in such a way that its largest value is the chosen token. For a random choice Gumbel noise is
added: the largest of `logit + noise` follows exactly the softmax of the logits (Gumbel 1954; "Gumbel-max
trick"), so rows that sample and rows that do not can share one argmax.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import torch

from runtimes.text.engine import Sampling


def make_generator(sampling: Sampling, *, device: torch.device) -> torch.Generator | None:
    """The source of chance of one sequence; None when it needs none."""
    if sampling.is_greedy:
        return None
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return torch.Generator(device=device).manual_seed(seed)


def needs_processing(sampling: Sampling) -> bool:
    """Whether the row must be changed at all; plain greedy decoding leaves it alone."""
    neutral = Sampling(temperature=0.0)
    penalties = (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty)
    unpenalized = (neutral.repetition_penalty, neutral.frequency_penalty, neutral.presence_penalty)
    return not sampling.is_greedy or penalties != unpenalized


def process_row(
    logits: torch.Tensor,
    *,
    sampling: Sampling,
    prompt: Sequence[int],
    answer: Sequence[int],
    generator: torch.Generator | None,
) -> torch.Tensor:
    """A row of the same shape [vocabulary], float32, whose largest value is the chosen token.

    The order is that of `generate`: penalties, temperature, top-k, top-p.
    """
    row = _penalize(logits.float(), sampling=sampling, prompt=prompt, answer=answer)
    if generator is None:
        return row
    row = row / sampling.temperature
    if 0 < sampling.top_k < row.numel():
        threshold = torch.topk(row, sampling.top_k).values[-1]
        row = row.masked_fill(row < threshold, -torch.inf)
    if sampling.top_p < 1.0:
        row = _keep_top_p(row, top_p=sampling.top_p)
    noise = torch.empty_like(row).exponential_(generator=generator)
    return row - noise.log()


def _penalize(
    row: torch.Tensor, *, sampling: Sampling, prompt: Sequence[int], answer: Sequence[int]
) -> torch.Tensor:
    if sampling.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*prompt, *answer}), device=row.device)
        values = row[seen]
        penalty = sampling.repetition_penalty
        row = row.index_put((seen,), torch.where(values < 0, values * penalty, values / penalty))
    if answer and (sampling.frequency_penalty or sampling.presence_penalty):
        tokens, counts = torch.unique(torch.tensor(answer, device=row.device), return_counts=True)
        penalties = sampling.frequency_penalty * counts + sampling.presence_penalty
        row = row.index_put((tokens,), row[tokens] - penalties)
    return row


def _keep_top_p(row: torch.Tensor, *, top_p: float) -> torch.Tensor:
    probabilities, order = row.softmax(dim=-1).sort(descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    # The most likely token always stays: nothing comes before it.
    return row.index_fill(0, order[before >= top_p], -torch.inf)
