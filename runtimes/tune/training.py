"""The training loop: optimizer steps over packed rows, evaluation, and what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from runtimes.tune.adapter import adapter_weights, load_adapter_weights, trainable
from runtimes.tune.encoding import Example
from runtimes.tune.rows import RowLoss, make_row
from runtimes.tune.schedule import Step

GRADIENT_NORM = 1.0
"""Longer gradients are cut to this: one odd example must not undo what was learned."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Interrupted(Exception):
    """Asked to stop between two rows of an evaluation."""


class Diverged(Exception):
    """The loss, or the adapter, is not a number any more: no further step can mend it."""


class Trainer:
    """One adapter and its optimizer."""

    def __init__(self, model: Any, *, loss: RowLoss, examples: Sequence[Example], device: str) -> None:
        self._model = model
        self._loss = loss
        self._examples = examples
        self._device = device
        self._parameters = trainable(model)
        self._optimizer = torch.optim.AdamW(self._parameters.values(), lr=0.0, weight_decay=0.0)

    def take_step(self, step: Step, *, learning_rate: float) -> float:
        """Learns from the step's examples. Returns the loss before it, in nats per trained token.

        The gradient is that of the mean over all trained tokens of the step, whatever the rows. Raises
        Diverged.
        """
        count = sum(self._examples[index].trained_tokens for row in step.rows for index in row)
        total = 0.0
        self._optimizer.zero_grad(set_to_none=True)
        for indexes in step.rows:
            row = make_row([self._examples[index] for index in indexes], device=self._device)
            loss = self._loss(row) / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise Diverged(f"the loss of a step is {total}")
        torch.nn.utils.clip_grad_norm_(self._parameters.values(), GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        return total

    def evaluate(
        self, rows: Iterable[Sequence[Example]], *, should_stop: Callable[[], bool] = lambda: False
    ) -> float:
        """Mean loss in nats per trained token. Raises Diverged; Interrupted when `should_stop` says so."""
        total, count = 0.0, 0
        with torch.no_grad():
            for examples in rows:
                if should_stop():
                    raise Interrupted
                total += self._loss(make_row(examples, device=self._device)).item()
                count += sum(example.trained_tokens for example in examples)
        if not math.isfinite(total):
            raise Diverged(f"the validation loss is {total / count}")
        return total / count

    def check(self) -> None:
        """Raises Diverged when the adapter holds anything but numbers, as the last step may have left it."""
        for name, parameter in self._parameters.items():
            if not torch.isfinite(parameter).all():
                raise Diverged(f"{name} of the adapter is not finite")

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Adapter and optimizer, to go on from later."""
        moments = {}
        for name, parameter in self._parameters.items():
            for moment in MOMENTS:
                value = self._optimizer.state.get(parameter, {}).get(moment)
                if value is not None:
                    moments[f"{moment}/{name}"] = value.detach().to("cpu", copy=True).contiguous()
        return adapter_weights(self._model), moments

    def restore(
        self, *, adapter: Mapping[str, torch.Tensor], optimizer: Mapping[str, torch.Tensor], steps: int
    ) -> None:
        """Goes on from a state after `steps` steps. Raises ValueError when it is not of this adapter."""
        load_adapter_weights(self._model, adapter)
        if steps == 0:
            return
        for name, parameter in self._parameters.items():
            moments = {moment: optimizer.get(f"{moment}/{name}") for moment in MOMENTS}
            if any(value is None or value.shape != parameter.shape for value in moments.values()):
                raise ValueError(f"the optimizer's state does not fit {name}")
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(steps)),
                **{name: value.to(parameter) for name, value in moments.items() if value is not None},
            }
