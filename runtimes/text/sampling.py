"""The choice of one token from one row of logits. Pure, so that every engine chooses alike.

A row is changed in such a way that its largest value is the chosen token. For a random choice Gumbel noise is
added: the largest of `logit + noise` follows exactly the softmax of the logits (Gumbel 1954; "Gumbel-max
trick"), so rows that sample and rows that do not can share one argmax.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from runtimes.text.engine import GenerationRequest, Sampling, Token


class Chooser:
    """Chooses the tokens of one sequence, from one row of logits after the other.

    It belongs to the thread that computes them.
    """

    def __init__(self, request: GenerationRequest, *, device: torch.device) -> None:
        self._request = request
        self._generator = make_generator(request.sampling, device=device)
        self._answer: list[int] = []
        self.is_plain = request.constraint is None and not needs_processing(request.sampling)
        """Whether the most likely token is always the choice and nothing is told of it: no need to call."""

    def choose(self, logits: torch.Tensor) -> Token:
        """The next token; `logits` is [vocabulary] and stays as it is. Raises what the constraint raises."""
        request = self._request
        row = logits.float()
        chosen = int(
            process_row(
                row,
                sampling=request.sampling,
                prompt=request.prompt,
                answer=self._answer,
                generator=self._generator,
                allowed=None if request.constraint is None else request.constraint.allowed(),
            ).argmax()
        )
        self._answer.append(chosen)
        if request.constraint is not None:
            request.constraint.accept(chosen)
        if request.sampling.logprobs is None:
            return Token(chosen)
        return describe(chosen, row, top=request.sampling.logprobs)


def make_generator(sampling: Sampling, *, device: torch.device) -> torch.Generator | None:
    """The source of chance of one sequence; None when it needs none."""
    if sampling.is_greedy:
        return None
    seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
    return torch.Generator(device=device).manual_seed(seed)


def needs_processing(sampling: Sampling) -> bool:
    """Whether the row must be looked at at all; plain greedy decoding leaves it alone."""
    # What only narrows down a random choice changes nothing where there is no chance.
    without_chance = replace(sampling, temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, seed=None)
    return not sampling.is_greedy or without_chance != Sampling(temperature=0.0)


def process_row(
    logits: torch.Tensor,
    *,
    sampling: Sampling,
    prompt: Sequence[int],
    answer: Sequence[int],
    generator: torch.Generator | None,
    allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """A row of the same shape [vocabulary], float32, whose largest value is the chosen token.

    The order is that of `generate`: bias, penalties, what is allowed, temperature, top-k, top-p, min-p.
    `allowed` is as `Constraint.allowed` has it.
    """
    row = _bias(logits.float(), bias=sampling.logit_bias)
    row = _penalize(row, sampling=sampling, prompt=prompt, answer=answer)
    if allowed is not None:
        row = _keep_allowed(row, allowed=allowed)
    if generator is None:
        return row
    row = row / sampling.temperature
    if 0 < sampling.top_k < row.numel():
        threshold = torch.topk(row, sampling.top_k).values[-1]
        row = row.masked_fill(row < threshold, -torch.inf)
    if sampling.top_p < 1.0:
        row = _keep_top_p(row, top_p=sampling.top_p)
    if sampling.min_p > 0.0:
        # p >= min_p * p_max, without the sum that both are divided by.
        row = row.masked_fill(row < row.max() + math.log(sampling.min_p), -torch.inf)
    noise = torch.empty_like(row).exponential_(generator=generator)
    return row - noise.log()


def describe(token: int, logits: torch.Tensor, *, top: int) -> Token:
    """The token with its logprob and the `top` most likely ones; `logits` is [vocabulary], float32."""
    logprobs = logits.log_softmax(dim=-1)
    best = torch.topk(logprobs, min(top, logprobs.numel()))
    return Token(
        token,
        float(logprobs[token]),
        tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)),
    )


def _bias(row: torch.Tensor, *, bias: Mapping[int, float]) -> torch.Tensor:
    if not bias:
        return row
    tokens = torch.tensor(list(bias), device=row.device)
    return row.index_add(0, tokens, torch.tensor(list(bias.values()), device=row.device))


def _keep_allowed(row: torch.Tensor, *, allowed: torch.Tensor) -> torch.Tensor:
    kept = torch.full_like(row, -torch.inf)
    mask = allowed[: row.numel()].to(row.device)
    kept[: mask.numel()] = torch.where(mask, row[: mask.numel()], -torch.inf)
    return kept


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
