"""One run from data to adapter. The slow imports are here and below."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from runtimes.contract import TUNING_ROW_TOKENS, TrainingEventType, TuningEnvironment
from runtimes.devices.device import Device
from runtimes.devices.picking import pick_device, pick_dtype
from runtimes.errors import SetupError
from runtimes.packing.rows import pack_rows
from runtimes.tune.adapter import adapter_files, attach_adapter
from runtimes.tune.chats import Chat
from runtimes.tune.checkpoints import Checkpoint, CheckpointFolder, Counters
from runtimes.tune.encoding import ChatEncoder, Example
from runtimes.tune.failures import BadInput
from runtimes.tune.files import write_file
from runtimes.tune.reporting import RESULT_FILE, Reporter, rounded, tell_finished
from runtimes.tune.rows import RowLoss, is_isolated
from runtimes.tune.schedule import Step, hold_out, learning_rate_at, plan_steps
from runtimes.tune.training import Diverged, Interrupted, Trainer
from runtimes.weights import read_config, read_weights, refuse_code

logger = logging.getLogger("runtimes.tune")
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learned from and what is tested with, tokenized."""

    train: Sequence[Example]
    validation: Sequence[Example]

    @property
    def train_tokens(self) -> int:
        return sum(len(example) for example in self.train)


def run(
    environment: TuningEnvironment,
    *,
    train: Sequence[Chat],
    validation: Sequence[Chat],
    reporter: Reporter,
    should_stop: ShouldStop,
) -> bool:
    """Trains to the end and returns True; or saves a checkpoint and returns False when asked to stop.

    1. Load model and data, and say what will be done.
    2. Continue from the newest checkpoint, or measure the loss of the base model.
    3. Take the steps that are left, saving now and then.
    4. Measure again, write the adapter, and last of all the result.

    Raises BadInput, SetupError.
    """
    device = pick_device(environment.device)
    dtype = pick_dtype(environment.dtype, device=device)
    model, encoder, longest = _load(Path(environment.model_dir), device=device, dtype=dtype)
    data = _encode(environment, encoder, train=train, validation=validation, longest=longest)
    bare_forward = type(model).forward
    model = attach_adapter(model, rank=environment.lora_rank, seed=environment.seed)
    loss = RowLoss(model, forward=bare_forward)
    row_tokens = min(environment.batch_tokens, TUNING_ROW_TOKENS.get(device.name, environment.batch_tokens))
    if not is_isolated(loss, data.train, device=device.torch_name, dtype=dtype):
        logger.warning("this architecture mixes examples that share a row; each gets a row of its own")
        row_tokens = 1
    steps = plan_steps(
        [len(example) for example in data.train],
        epochs=environment.epochs,
        batch_tokens=environment.batch_tokens,
        row_tokens=row_tokens,
        seed=environment.seed,
    )
    trainer = Trainer(model, loss=loss, examples=data.train, device=device.torch_name)
    course = _Course(
        environment, data=data, steps=steps, row_tokens=row_tokens, trainer=trainer, reporter=reporter
    )
    try:
        course.begin(should_stop)
        course.train(should_stop)
        course.finish(model, should_stop)
    except Interrupted:
        course.stop()
        return False
    except Diverged as error:
        raise course.explain(error) from error
    return True


class _Course:
    """The course of one attempt: counts, saves and reports."""

    def __init__(
        self,
        environment: TuningEnvironment,
        *,
        data: Data,
        steps: Sequence[Step],
        row_tokens: int,
        trainer: Trainer,
        reporter: Reporter,
    ) -> None:
        self._environment = environment
        self._data = data
        self._steps = steps
        self._trainer = trainer
        self._reporter = reporter
        self._checkpoints = CheckpointFolder(
            Path(environment.checkpoint_dir), fingerprint=_fingerprint(environment, data)
        )
        lengths = [len(example) for example in data.validation]
        self._validation_rows = [
            [data.validation[index] for index in row] for row in pack_rows(lengths, capacity=row_tokens)
        ]
        self._counters = Counters()
        self._saved_step = -1
        self._saved_at = time.monotonic()

    def begin(self, should_stop: ShouldStop) -> None:
        """Continues from a checkpoint if there is one, and says what will be done."""
        checkpoint = self._checkpoints.newest()
        if checkpoint is not None:
            self._counters = checkpoint.counters
            self._trainer.restore(
                adapter=checkpoint.adapter, optimizer=checkpoint.optimizer, steps=self._counters.step
            )
            self._saved_step = self._counters.step
        self._reporter.tell(
            TrainingEventType.STARTED,
            step=self._counters.step,
            total_steps=len(self._steps),
            train_examples=len(self._data.train),
            validation_examples=len(self._data.validation),
            train_tokens=self._data.train_tokens,
            resumed_from_step=self._counters.step,
        )
        if self._validation_rows and self._counters.validation_loss_before is None:
            loss = self._evaluate(should_stop)
            self._counters = replace(self._counters, validation_loss_before=loss)

    def train(self, should_stop: ShouldStop) -> None:
        """Takes the steps that are left. Raises Interrupted after the step in which it is asked to stop."""
        total = len(self._steps)
        left = sum(step.tokens for step in self._steps[self._counters.step :])
        done = 0  # tokens of this attempt
        started = time.monotonic()
        before = self._counters.seconds
        for number in range(self._counters.step + 1, total + 1):
            if should_stop():
                raise Interrupted
            step = self._steps[number - 1]
            began = time.monotonic()
            rate = learning_rate_at(number, total_steps=total, peak=self._environment.learning_rate)
            loss = self._trainer.take_step(step, learning_rate=rate)
            now = time.monotonic()
            done += step.tokens
            speed = done / max(now - started, 1e-9)
            self._counters = replace(
                self._counters,
                step=number,
                trained_tokens=self._counters.trained_tokens + step.tokens,
                seconds=before + now - started,
                loss=loss,
            )
            self._reporter.tell(
                TrainingEventType.PROGRESS,
                step=number,
                total_steps=total,
                loss=rounded(loss),
                learning_rate=rate,
                trained_tokens=self._counters.trained_tokens,
                tokens_per_second=rounded(speed, 1),
                eta_seconds=rounded((left - done) / speed, 1),
            )
            # The next step would end too late: steps may take minutes.
            if (
                number < total
                and now - self._saved_at + (now - began) >= self._environment.checkpoint_seconds
            ):
                self._save()

    def finish(self, model: Any, should_stop: ShouldStop) -> None:
        """Measures the tuned model, and writes the adapter and then the result."""
        self._trainer.check()
        after = None
        if self._validation_rows:
            after = self._evaluate(should_stop)
        output = Path(self._environment.output_dir)
        output.mkdir(parents=True, exist_ok=True)
        for name, content in adapter_files(model).items():
            write_file(output / name, content)
        result = {
            "job": self._environment.job,
            "steps": len(self._steps),
            "epochs": self._environment.epochs,
            "train_examples": len(self._data.train),
            "validation_examples": len(self._data.validation),
            "trained_tokens": self._counters.trained_tokens,
            "loss": rounded(self._counters.loss),
            "validation_loss_before": rounded(self._counters.validation_loss_before),
            "validation_loss_after": rounded(after),
            "seconds": rounded(self._counters.seconds, 1),
            "hyperparameters": _hyperparameters(self._environment),
        }
        write_file(output / RESULT_FILE, json.dumps(result, indent=2, sort_keys=True).encode() + b"\n")
        tell_finished(self._reporter, result)

    def stop(self) -> None:
        """Saves what the newest checkpoint lacks, and says that the run was stopped."""
        if self._saved_step != self._counters.step:
            self._save()
        self._reporter.tell(TrainingEventType.STOPPED, step=self._counters.step)

    def explain(self, error: Diverged) -> BadInput | SetupError:
        """Whose fault it is: a new adapter changes nothing, so before the first step it is the base's."""
        if self._counters.step == 0:
            return SetupError(
                f"the base model does not work before the first step: {error}; its weights are damaged, or "
                "RUNTIME_DTYPE cannot hold them"
            )
        return BadInput(
            f"the training diverged after step {self._counters.step}: {error}; choose a smaller learning_rate"
        )

    def _evaluate(self, should_stop: ShouldStop) -> float:
        loss = self._trainer.evaluate(self._validation_rows, should_stop=should_stop)
        self._reporter.tell(
            TrainingEventType.EVALUATION, step=self._counters.step, validation_loss=rounded(loss)
        )
        return loss

    def _save(self) -> None:
        adapter, optimizer = self._trainer.state()
        path = self._checkpoints.save(
            Checkpoint(counters=self._counters, adapter=adapter, optimizer=optimizer)
        )
        self._saved_step, self._saved_at = self._counters.step, time.monotonic()
        self._reporter.tell(TrainingEventType.CHECKPOINT, step=self._counters.step, path=path)


def _load(folder: Path, *, device: Device, dtype: str) -> tuple[Any, ChatEncoder, int]:
    """The frozen model, the encoder of its chats and its longest context in tokens. Raises SetupError."""
    refuse_code(folder)
    read_weights(folder)
    config = read_config(folder)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"the model in {folder} cannot be loaded: {error}") from error
    if not tokenizer.chat_template:
        raise SetupError(f"the model in {folder} has no chat template, so it cannot be tuned on chats")
    # Dropout of the base stays off, so that a run can be repeated and continued exactly.
    model = model.to(device.torch_name).eval()
    try:
        ends = GenerationConfig.from_pretrained(folder, local_files_only=True).eos_token_id
    except OSError:
        ends = tokenizer.eos_token_id
    end_tokens = {ends} if isinstance(ends, int) else set(ends or ())
    longest = int(config.get("max_position_embeddings") or 0)
    return model, ChatEncoder(tokenizer, end_tokens=end_tokens | {tokenizer.eos_token_id}), longest


def _encode(
    environment: TuningEnvironment,
    encoder: ChatEncoder,
    *,
    train: Sequence[Chat],
    validation: Sequence[Chat],
    longest: int,
) -> Data:
    limit = min(environment.max_length, longest or environment.max_length)
    examples = _usable(encoder, train, limit=limit)
    if not examples:
        raise BadInput(
            f"in all {len(train)} examples the answers begin after {limit} tokens, so nothing would be "
            "learned; shorten the prompts or raise max_length"
        )
    if validation:
        return Data(train=examples, validation=_usable(encoder, validation, limit=limit))
    kept, held = hold_out(len(examples), share=environment.validation_share, seed=environment.seed)
    return Data(train=[examples[i] for i in kept], validation=[examples[i] for i in held])


def _usable(encoder: ChatEncoder, chats: Sequence[Chat], *, limit: int) -> list[Example]:
    """The examples, cut to the limit, that still have something to learn."""
    examples = [encoder.encode(chat) for chat in chats]
    usable = [cut for example in examples if (cut := example.cut(limit)).trained_tokens]
    longer = sum(len(example) > limit for example in examples)
    if longer:
        logger.warning(
            "%d examples are longer than %d tokens and were cut; %d of them had no answer left",
            longer,
            limit,
            len(examples) - len(usable),
        )
    return usable


def _hyperparameters(environment: TuningEnvironment) -> dict[str, Any]:
    names = (
        "epochs",
        "learning_rate",
        "lora_rank",
        "batch_tokens",
        "max_length",
        "validation_share",
        "seed",
    )
    values = asdict(environment)
    return {name: values[name] for name in names}


def _fingerprint(environment: TuningEnvironment, data: Data) -> str:
    """sha256 of all that a run's course follows from, hex."""
    content = {
        "hyperparameters": _hyperparameters(environment),
        "model": dict(environment.digests),
        "train": [example.tokens for example in data.train],
        "validation": [example.tokens for example in data.validation],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
