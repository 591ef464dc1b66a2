import pytest

from deployments.tuning.hyperparameters import (
    HyperparametersSerializer,
    batch_tokens_for,
    complete,
    learning_rate_for,
)


def asked(**values: object) -> dict[str, object]:
    serializer = HyperparametersSerializer(data=values)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


def test_what_is_left_out_is_chosen_by_model_and_data() -> None:
    assert complete(asked(), width=576, context_length=8192, tokens_per_epoch=5000) == {
        "epochs": 3,
        "learning_rate": 2e-3,
        "lora_rank": 8,
        "batch_tokens": 256,
        "max_length": 1024,
        "validation_share": 0.1,
        "seed": 0,
    }


def test_what_was_asked_stays() -> None:
    values = {"learning_rate": 1e-4, "batch_tokens": 999, "max_length": 64, "epochs": 7}
    chosen = complete(asked(**values), width=576, context_length=8192, tokens_per_epoch=5000)
    assert {name: chosen[name] for name in values} == values


def test_a_model_of_short_context_cuts_examples_to_it() -> None:
    assert complete(asked(), width=0, context_length=512, tokens_per_epoch=1)["max_length"] == 512


@pytest.mark.parametrize(("width", "rate"), [(576, 2e-3), (2048, 7.4e-4), (4096, 4.3e-4), (0, 2e-4)])
def test_wider_models_learn_at_smaller_rates(width: int, rate: float) -> None:
    assert learning_rate_for(width) == rate


@pytest.mark.parametrize(
    ("tokens", "batch"), [(0, 256), (10_000, 256), (25_000, 1024), (100_000, 4096), (10**9, 16_384)]
)
def test_a_step_is_about_a_twentieth_of_an_epoch(tokens: int, batch: int) -> None:
    assert batch_tokens_for(tokens) == batch
