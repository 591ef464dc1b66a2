from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from runtimes.tune.adapter import attach_adapter, trainable
from runtimes.tune.encoding import Example
from runtimes.tune.rows import RowLoss, is_isolated, make_row
from runtimes.tune.schedule import Step
from runtimes.tune.training import Diverged, Trainer

LENGTHS = (9, 23, 5, 40, 14)


def examples_of(lengths: tuple[int, ...]) -> list[Example]:
    generator = torch.Generator().manual_seed(5)
    return [
        Example(
            tuple(torch.randint(10, 40_000, (length,), generator=generator).tolist()),
            tuple(place > 2 for place in range(length)),
        )
        for length in lengths
    ]


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    """With an adapter whose second factor is not zero, so that gradients reach both."""
    bare = AutoModelForCausalLM.from_pretrained(tiny_folder, attn_implementation="sdpa").eval()
    adapted = attach_adapter(bare, rank=4, seed=1)
    for parameter in trainable(adapted).values():
        torch.nn.init.normal_(parameter, std=0.05)
    return adapted


def loss_and_gradient(model: Any, rows: list[list[int]]) -> tuple[float, torch.Tensor]:
    """Of one step over the examples in these rows."""
    examples = examples_of(LENGTHS)
    forward = type(model.get_base_model()).forward
    trainer = Trainer(model, loss=RowLoss(model, forward=forward), examples=examples, device="cpu")
    step = Step(rows=tuple(tuple(row) for row in rows), tokens=sum(LENGTHS))
    loss = trainer.take_step(step, learning_rate=0.0)
    gradients = [parameter.grad for parameter in trainable(model).values()]
    return loss, torch.cat([value.flatten() for value in gradients if value is not None])


def test_packed_loss_and_gradients_are_those_of_single_examples(model: Any) -> None:
    packed_loss, packed = loss_and_gradient(model, [[0, 1, 2], [3, 4]])
    single_loss, single = loss_and_gradient(model, [[0], [1], [2], [3], [4]])
    assert packed_loss == pytest.approx(single_loss, rel=1e-5)
    assert single.abs().max() > 0
    assert torch.allclose(packed, single, atol=1e-5 * single.abs().max().item())


def test_an_adapter_that_a_last_step_has_broken_is_noticed(model: Any) -> None:
    forward = type(model.get_base_model()).forward
    trainer = Trainer(model, loss=RowLoss(model, forward=forward), examples=[], device="cpu")
    trainer.check()
    name, parameter = list(trainable(model).items())[-1]
    torch.nn.init.constant_(parameter, float("inf"))
    with pytest.raises(Diverged, match=name):
        trainer.check()


def test_logits_that_cannot_be_selected_give_the_same_loss(model: Any) -> None:
    row = make_row(examples_of(LENGTHS), device="cpu")
    selecting = RowLoss(model, forward=type(model.get_base_model()).forward)
    plain = RowLoss(model, forward=lambda input_ids: None)
    assert plain(row).item() == pytest.approx(selecting(row).item(), rel=1e-6)


class Mixing(torch.nn.Module):
    """What a model does that does not know packed rows: it is given a mask under which all see all before."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, **options: Any) -> Any:
        return self.model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **options)


def test_a_model_that_mixes_examples_is_noticed(model: Any) -> None:
    examples = examples_of(LENGTHS)
    forward = type(model.get_base_model()).forward
    verdicts = [
        is_isolated(RowLoss(each, forward=forward), examples, device="cpu", dtype="float32")
        for each in (model, Mixing(model))
    ]
    assert verdicts == [True, False]
