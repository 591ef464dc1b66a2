"""What the control plane and a runtime container agree on: the RUNTIME_* environment, the HTTP paths, the
event lines of a training run, the progress lines of weights on their way and the exit codes.

This is the only module of `runtimes` that the control plane may import, so it imports nothing but the
standard library. A variable is added here first, then used on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Any, Self, TypeVar

# HTTP paths every serving container answers.
LIVE_PATH = "/live"
"""200 as long as the process can answer at all; cheap, never touches the model."""
READY_PATH = "/ready"
"""200 once the model has answered a real warm-up request; 503 before that and while draining."""
METRICS_PATH = "/metrics"
"""Prometheus text format."""
INFO_PATH = "/info"
"""JSON: model, revision, engine, device, precision, predicted and measured memory in bytes."""
OPENAI_PATH = "/v1"
"""Prefix of the OpenAI protocol."""

RESOURCE_HEADER = "X-Marketplace-Resource"
"""Header of a call with the public id of the deployment that it is meant for. A server that is another
deployment's answers 421: the caller took its address from a table that was out of date."""

PORT = 8000
"""The port a serving container listens on, on its own pod address."""
RENDEZVOUS_PORT = 29500
"""Where the first of several nodes of one training run waits for the others. A container of such a run has
PET_MASTER_ADDR, PET_MASTER_PORT, PET_NNODES, PET_NODE_RANK and PET_NPROC_PER_NODE, from which torchrun takes
what its command line does not say (torch.distributed.argparse_util.env). Only rank 0 prints events."""

TUNING_ROW_TOKENS = {"cpu": 256}
"""Longest packed row of a training step by device, in tokens; elsewhere a row is as long as a step. Attention
with a mask costs the square of the row: on a CPU 256 was measured a tenth faster than 512. Activations, the
largest share of memory, are those of one row."""

EVENT_PREFIX = "RUNTIME_EVENT "
"""A line on stdout with this prefix, followed by one JSON object, is a training event."""

WEIGHTS_CONTAINER = "weights"
"""Name of the init container that brings versions into the node's cache: `python -m runtimes.cache`."""
WEIGHTS_PREFIX = "RUNTIME_WEIGHTS "
"""A line on its stdout with this prefix, followed by one JSON object, is a `WeightsProgress`."""
WEIGHTS_SECONDS = 2.0
"""Shortest time between two such lines of one phase."""


class Task(StrEnum):
    """Kinds of model, named as on the Hugging Face hub."""

    TEXT_GENERATION = "text-generation"
    FEATURE_EXTRACTION = "feature-extraction"
    TEXT_TO_IMAGE = "text-to-image"
    TEXT_TO_VIDEO = "text-to-video"
    TEXT_TO_SPEECH = "text-to-speech"
    AUTOMATIC_SPEECH_RECOGNITION = "automatic-speech-recognition"


class ExitCode(IntEnum):
    """How a runtime process ends. The numbers follow sysexits.h, so that they mean the same to a shell."""

    DONE = 0
    BAD_INPUT = 65
    """The customer's data or settings cannot work; starting again will not help."""
    WEIGHTS_MISSING = 66
    """The storage lacks a file of the version; starting again will not help."""
    INTERNAL = 70
    """Ours: an unexpected error; the log has the traceback."""
    WEIGHTS_NO_SPACE = 73
    """The node's cache has no room for the version, and nothing in it can be removed; it may later."""
    STOPPED = 75
    """SIGTERM arrived and what was done so far is kept; starting again continues from it."""
    WEIGHTS_CORRUPT = 76
    """A file of the version on the storage is not the one that was approved; starting again will not help."""
    BAD_CONFIGURATION = 78
    """A RUNTIME_* variable is missing or wrong, or the weights are not what the manifest says."""


class ContractError(ValueError):
    """A RUNTIME_* variable is missing or has a value that cannot be used. The message names it."""


@dataclass(frozen=True, kw_only=True)
class ServingEnvironment:
    """What a serving container is told. Each field is the variable RUNTIME_<FIELD NAME IN CAPITALS>."""

    task: Task
    model_dir: str
    """Folder with config.json, tokenizer files and *.safetensors, read-only."""
    model_name: str
    """Name that answers and `/v1/models` carry: the name of the deployment."""
    model_revision: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> lower-case hex sha256 of the files in `model_dir` that must match before loading."""
    adapter_dir: str = ""
    """Folder with a LoRA adapter (adapter_config.json, adapter_model.safetensors) to apply, or empty."""
    adapter_digests: Mapping[str, str] = field(default_factory=dict)
    cached: Mapping[str, str] = field(default_factory=dict)
    """Folder of a version in the node's cache -> the same version on the storage, for when the cache has lost
    it meanwhile. Empty = the folders are the storage's own."""
    resource: str = ""
    """Public id of the deployment, to refuse calls that are meant for another; empty = answer all."""
    host: str = "127.0.0.1"
    """Address to listen on: the pod's own."""
    port: int = PORT
    device: str = "auto"
    """auto, cpu, cuda or ipu."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16; int8 where the engine is `native`."""
    packing: str = "auto"
    """How encoders compute texts of different lengths together: auto = without padding where a check at start
    shows that each text gets the vector it has alone, padded elsewhere; required = refuse to start elsewhere;
    off = padded."""
    engine: str = "transformers"
    """What computes a text model: transformers, native (Llama family on a CPU), or auto: the faster of those
    that compute it in the same precision, as measured at start. A recipe's option."""
    context_length: int = 0
    """Longest prompt plus answer in tokens; 0 = what the model supports."""
    max_concurrency: int = 8
    """Requests computed together; more wait in the queue. Encoders fill batches by tokens instead, from all
    that were let in."""
    max_queue: int = 64
    """Requests that may wait; beyond it the answer is 429 with Retry-After."""
    request_seconds: float = 600.0
    """Longest from the arrival of a request to the end of its answer; a caller may ask for less by
    X-Request-Timeout. One that is over is refused when it still waits, and ended when it is computed."""
    drain_seconds: float = 25.0
    """After SIGTERM, how long running requests may take to finish."""

    def to_environment(self) -> dict[str, str]:
        """The variables to set on the container."""
        return _to_environment(self)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables. Raises ContractError naming the one that is missing or wrong."""
        return _from_environment(cls, environ)


@dataclass(frozen=True, kw_only=True)
class TuningEnvironment:
    """What a fine-tuning container is told. Each field is the variable RUNTIME_<FIELD NAME IN CAPITALS>."""

    task: Task
    job: str
    """Public id of the fine-tuning job; appears in every event."""
    model_dir: str
    digests: Mapping[str, str] = field(default_factory=dict)
    cached: Mapping[str, str] = field(default_factory=dict)
    """Folder of a version in the node's cache -> the same version on the storage, for when the cache has lost
    it meanwhile. Empty = the folders are the storage's own."""
    train_file: str
    """JSONL, one chat example a line: {"messages": [{"role", "content"}, ...]}."""
    validation_file: str = ""
    """Same format; empty = hold out a part of the training file (see `validation_share`)."""
    output_dir: str
    """Receives the adapter (adapter_config.json, adapter_model.safetensors) and result.json, written last."""
    checkpoint_dir: str
    """Receives checkpoints; a run that finds a whole one here continues from it."""
    epochs: int = 3
    learning_rate: float = 2e-4
    lora_rank: int = 8
    batch_tokens: int = 1024
    """Tokens in one packed optimizer step."""
    max_length: int = 1024
    """Examples are cut to this many tokens."""
    validation_share: float = 0.1
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    checkpoint_seconds: float = 60.0
    """Longest time between two checkpoints."""

    def to_environment(self) -> dict[str, str]:
        """The variables to set on the container."""
        return _to_environment(self)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables. Raises ContractError naming the one that is missing or wrong."""
        return _from_environment(cls, environ)


@dataclass(frozen=True, kw_only=True)
class CacheEnvironment:
    """What the init container is told that brings versions into the node's cache. Each field is the variable
    RUNTIME_<FIELD NAME IN CAPITALS>.
    """

    cache_dir: str
    """The node's cache, or one that several nodes share."""
    source_dir: str
    """Holds a folder for each of `versions`, named by its digest, read-only."""
    versions: Mapping[str, Mapping[str, str]]
    """Digest of the version -> relative path -> lower-case hex sha256 of each of its files, as the catalog
    recorded them when the version was approved: the manifest that the copies are verified by."""
    free_share: float = 0.15
    """Part of the cache's file system to leave free. A kubelet begins to move pods away from a node whose
    disk has less than 0.10 (or, with the images on it, 0.15) left."""

    def to_environment(self) -> dict[str, str]:
        """The variables to set on the container."""
        return _to_environment(self)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables. Raises ContractError naming the one that is missing or wrong."""
        return _from_environment(cls, environ)


class TrainingEventType(StrEnum):
    """What a training event reports. Every event also has `job`, `at` (ISO 8601, UTC) and `step`."""

    STARTED = "started"
    """total_steps, train_examples, validation_examples, train_tokens (per epoch), resumed_from_step."""
    PROGRESS = "progress"
    """total_steps, loss, learning_rate, trained_tokens, tokens_per_second, eta_seconds."""
    EVALUATION = "evaluation"
    """validation_loss; step 0 is the model before tuning."""
    CHECKPOINT = "checkpoint"
    """path: folder of a whole checkpoint, relative to the checkpoint folder."""
    STOPPED = "stopped"
    """SIGTERM: a checkpoint of `step` was saved."""
    FINISHED = "finished"
    """trained_tokens, validation_loss_before, validation_loss_after, seconds."""
    FAILED = "failed"
    """message, line (of the train file) or null, customer: whether the customer can mend it."""


def format_event(event: Mapping[str, Any]) -> str:
    """One event as the line a runtime prints. Raises ValueError for NaN and infinities, which JSON lacks."""
    return EVENT_PREFIX + json.dumps(event, separators=(",", ":"), sort_keys=True, allow_nan=False)


def parse_event(line: str) -> dict[str, Any] | None:
    """The event in a log line; None when the line is not an event or was cut."""
    _, found, text = line.partition(EVENT_PREFIX)
    if not found:
        return None
    try:
        event = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "type" in event and "step" in event else None


class WeightsPhase(StrEnum):
    """What the init container is doing."""

    WAITING = "waiting"
    """Another pod brings the same version; the bytes are those that it has brought so far."""
    MAKING_ROOM = "making-room"
    """Versions that nothing has used for longest are being removed."""
    FETCHING = "fetching"
    READY = "ready"
    """All versions are in the cache, verified."""
    FAILED = "failed"
    """The exit code says why, `message` in numbers."""


@dataclass(frozen=True, kw_only=True)
class WeightsProgress:
    """How far the weights of a pod are, over all of its versions."""

    phase: WeightsPhase
    at: str
    """ISO 8601, UTC."""
    bytes_done: int
    """In the cache, of `bytes_total`."""
    bytes_total: int
    bytes_per_second: float = 0.0
    """Over the last seconds, whoever brings them; 0 as long as that is not known."""
    bytes_fetched: int = 0
    """Read from the storage by this pod; 0 at the end when all came from the cache."""
    message: str = ""

    @property
    def seconds_left(self) -> float | None:
        """None as long as that is not known."""
        if self.bytes_done >= self.bytes_total:
            return 0.0
        if self.bytes_per_second <= 0:
            return None
        return (self.bytes_total - self.bytes_done) / self.bytes_per_second


def format_weights(progress: WeightsProgress) -> str:
    """The line that the init container prints."""
    return WEIGHTS_PREFIX + json.dumps(asdict(progress), separators=(",", ":"), sort_keys=True)


def parse_weights(line: str) -> WeightsProgress | None:
    """The progress in a log line; None when the line is something else or was cut."""
    _, found, text = line.partition(WEIGHTS_PREFIX)
    if not found:
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        return WeightsProgress(
            phase=WeightsPhase(value["phase"]),
            at=str(value["at"]),
            bytes_done=int(value["bytes_done"]),
            bytes_total=int(value["bytes_total"]),
            bytes_per_second=float(value["bytes_per_second"]),
            bytes_fetched=int(value["bytes_fetched"]),
            message=str(value["message"]),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


E = TypeVar("E")


def _to_environment(values: Any) -> dict[str, str]:
    environment = {}
    for item in fields(values):
        value = getattr(values, item.name)
        text = json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else str(value)
        environment[f"RUNTIME_{item.name.upper()}"] = text
    return environment


def _from_environment(cls: type[E], environ: Mapping[str, str]) -> E:
    values: dict[str, Any] = {}
    known = fields(cls)  # type: ignore[arg-type]
    for item in known:
        variable = f"RUNTIME_{item.name.upper()}"
        text = environ.get(variable)
        if text is None:
            continue
        try:
            values[item.name] = _PARSERS[item.type](text)
        except ValueError as error:
            raise ContractError(f"{variable}={text!r} is not usable: {error}") from error
    try:
        return cls(**values)
    except TypeError as error:
        missing = [
            f"RUNTIME_{item.name.upper()}"
            for item in known
            if item.name not in values and f"'{item.name}'" in str(error)
        ]
        raise ContractError(f"not set: {', '.join(missing)}") from error


def _parse_mapping(text: str) -> dict[str, str]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return {str(key): str(item) for key, item in value.items()}


def _parse_nested(text: str) -> dict[str, dict[str, str]]:
    value = json.loads(text)
    if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
        raise ValueError("expected a JSON object of JSON objects")
    return {str(key): {str(name): str(text) for name, text in item.items()} for key, item in value.items()}


_PARSERS: dict[Any, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "Task": Task,
    "Mapping[str, str]": _parse_mapping,
    "Mapping[str, Mapping[str, str]]": _parse_nested,
}
