"""Runs in this process, stopped after a chosen step: quick, and at exactly the same place each time."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from runtimes.contract import TuningEnvironment, parse_event
from runtimes.errors import SetupError
from runtimes.tune.adapter import WEIGHTS_FILE
from runtimes.tune.chats import read_chats
from runtimes.tune.failures import BadInput
from runtimes.tune.reporting import Reporter
from runtimes.tune.run import run

MakeEnvironment = Callable[..., TuningEnvironment]


def train(
    environment: TuningEnvironment, *, stop_after: int | None = None
) -> tuple[bool, list[dict[str, Any]]]:
    """Runs, asking to stop once `stop_after` steps were told. Returns (done, events)."""
    stream = io.StringIO()

    def events() -> list[dict[str, Any]]:
        return [event for line in stream.getvalue().splitlines() if (event := parse_event(line))]

    def should_stop() -> bool:
        steps = sum(event["type"] == "progress" for event in events())
        return stop_after is not None and steps >= stop_after

    done = run(
        environment,
        train=read_chats(Path(environment.train_file)),
        validation=[],
        reporter=Reporter(environment.job, stream=stream),
        should_stop=should_stop,
    )
    return done, events()


def adapter_of(environment: TuningEnvironment) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = load_file(Path(environment.output_dir) / WEIGHTS_FILE)
    return weights


def assert_same_adapter(one: TuningEnvironment, other: TuningEnvironment) -> None:
    first, second = adapter_of(one), adapter_of(other)
    assert first.keys() == second.keys()
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 1e-6


def types_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_a_run_tells_what_it_does_and_leaves_an_adapter(make_environment: MakeEnvironment) -> None:
    environment = make_environment("whole")
    done, events = train(environment)
    steps = [event for event in events if event["type"] == "progress"]
    assert done
    assert types_of(events) == [
        "started",
        "evaluation",
        *["progress"] * len(steps),
        "evaluation",
        "finished",
    ]
    started, finished = events[0], events[-1]
    assert (started["train_examples"], started["validation_examples"]) == (13, 3)
    assert [event["step"] for event in steps] == list(range(1, started["total_steps"] + 1))
    assert finished["trained_tokens"] == 4 * started["train_tokens"] == steps[-1]["trained_tokens"]
    assert finished["validation_loss_before"] == events[1]["validation_loss"]
    assert finished["validation_loss_after"] < finished["validation_loss_before"]
    assert steps[-1]["eta_seconds"] == 0

    output = Path(environment.output_dir)
    assert sorted(path.name for path in output.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "result.json",
    ]
    result = json.loads((output / "result.json").read_text())
    assert result["validation_loss_after"] == finished["validation_loss_after"]
    assert str(output.parent) not in (output / "adapter_config.json").read_text()


# peft asks transformers for a property that is about to be renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_adapter_loads_into_the_base_model(make_environment: MakeEnvironment, tiny_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    environment = make_environment("whole", epochs=1)
    train(environment)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder)
    tuned = PeftModel.from_pretrained(base, environment.output_dir)
    tokens = torch.arange(20, 30)[None]
    with torch.no_grad():
        after = tuned(tokens).logits
        with tuned.disable_adapter():
            before = tuned(tokens).logits
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("stop_after", [0, 5])
def test_a_stopped_run_ends_with_the_adapter_of_one_that_was_not(
    make_environment: MakeEnvironment, stop_after: int
) -> None:
    whole, stopped = make_environment("whole"), make_environment("stopped")
    train(whole)
    done, events = train(stopped, stop_after=stop_after)
    assert not done
    assert types_of(events)[-2:] == ["checkpoint", "stopped"]
    assert not (Path(stopped.output_dir) / "result.json").exists()

    done, events = train(stopped)
    assert done
    assert events[0]["resumed_from_step"] == stop_after
    assert_same_adapter(whole, stopped)
    results = [json.loads((Path(each.output_dir) / "result.json").read_text()) for each in (whole, stopped)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(make_environment: MakeEnvironment) -> None:
    whole, damaged = make_environment("whole"), make_environment("damaged", checkpoint_seconds=0.0)
    train(whole)
    train(damaged, stop_after=4)
    folder = Path(damaged.checkpoint_dir)
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000003", "step-00000004"]
    newest = folder / "step-00000004" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\x01")
    _, events = train(damaged)
    assert events[0]["resumed_from_step"] == 3
    assert_same_adapter(whole, damaged)


def test_a_checkpoint_of_other_settings_is_not_used(make_environment: MakeEnvironment) -> None:
    train(make_environment("run"), stop_after=2)
    _, events = train(make_environment("run", learning_rate=1e-3))
    assert events[0]["resumed_from_step"] == 0


def test_checkpoints_hold_nothing_that_could_run_code(make_environment: MakeEnvironment) -> None:
    environment = make_environment("run")
    train(environment, stop_after=2)
    names = {path.name for path in Path(environment.checkpoint_dir).rglob("*") if path.is_file()}
    assert names == {"state.json", "adapter.safetensors", "optimizer.safetensors"}


def test_an_unfinished_checkpoint_is_no_checkpoint(make_environment: MakeEnvironment) -> None:
    environment = make_environment("run")
    train(environment, stop_after=2)
    folder = Path(environment.checkpoint_dir)
    (folder / "step-00000002").rename(folder / ".step-00000002.part")
    _, events = train(environment)
    assert events[0]["resumed_from_step"] == 0


def test_a_learning_rate_that_breaks_the_model_is_the_customers_to_mend(
    make_environment: MakeEnvironment,
) -> None:
    environment = make_environment("run", learning_rate=1e30, epochs=50)
    with pytest.raises(BadInput, match="loss of a step is nan; choose a smaller learning_rate"):
        train(environment)


def test_a_last_step_that_breaks_the_model_is_theirs_too(
    make_environment: MakeEnvironment,
) -> None:
    environment = make_environment("run", learning_rate=1e30, epochs=1, batch_tokens=100_000)
    with pytest.raises(BadInput, match="after step 1: the validation loss is nan; choose a smaller"):
        train(environment)
    assert not (Path(environment.output_dir) / "result.json").exists()


@pytest.mark.parametrize("share", [0.0, 0.2], ids=["in its first step", "in its first evaluation"])
def test_a_base_model_that_answers_no_numbers_is_ours_to_mend(
    make_environment: MakeEnvironment, tiny_folder: Path, tmp_path: Path, share: float
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SetupError, match="before the first step: the .*loss.* is nan"):
        train(make_environment("run", model_dir=str(broken), validation_share=share))


def test_prompts_longer_than_max_length_leave_nothing_to_learn(make_environment: MakeEnvironment) -> None:
    with pytest.raises(BadInput, match="raise max_length"):
        train(make_environment("run", max_length=10))
