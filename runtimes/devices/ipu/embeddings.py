"""An encoder on IPUs: the same facts, inputs and answers as on other devices, computed by the worker."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from runtimes.batches import observe_batch
from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.devices.ipu.process import Worker, cache_folder
from runtimes.devices.ipu.rows import RowShape, pack_batches
from runtimes.embeddings.inputs import InputReader
from runtimes.embeddings.pooling import read_pooling
from runtimes.errors import EngineFailure, SetupError
from runtimes.served import ModelFacts
from runtimes.weights import BYTES_PER_VALUE, check_fit, read_config, read_weights

ROWS = 8
"""In one batch of each IPU."""
USUAL_TEXT_TOKENS = 8
"""A row has room for so many texts as fit when they are this long."""
LIVE_VALUES = 24
"""Hidden-size values alive per token at the widest point of a layer: the feed-forward block and attention."""
ARCHITECTURES = ("bert",)
"""Whose positions can be given and begin at 0, as packing needs them."""
MODES = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")


Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class _Waiting:
    texts: Sequence[Sequence[int]]
    answer: asyncio.Future[Vectors]


class IpuEncoderEngine:
    """Computes what has queued as soon as the last batch is done. Everything but the pipe is in the loop."""

    name = "poptorch-packed-encoder"

    def __init__(self, worker: Worker, *, shape: RowShape, normalize: bool) -> None:
        self._worker = worker
        self._shape = shape
        self._normalize = normalize
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._pipe = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ipu")
        self._task: asyncio.Task[None] | None = None
        self._failure: EngineFailure | None = None

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute, in the running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(on_failure))

    def stop(self) -> None:
        """Ends the worker and the computation."""
        if self._task is not None:
            self._task.cancel()
        self._worker.stop()
        self._pipe.shutdown(wait=True)

    async def encode(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """One vector for each input, in order: [inputs, H]. What nobody waits for any longer is not computed.

        Raises EngineFailure.
        """
        if self._failure is not None:
            raise self._failure
        waiting = _Waiting(inputs, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def _run(self, on_failure: Callable[[BaseException], None]) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while taken := self._take():
                try:
                    vectors = await self._compute([text for waiting in taken for text in waiting.texts])
                except EngineFailure as error:
                    self._failure = error
                    for waiting in [*taken, *self._queue]:
                        if not waiting.answer.done():
                            waiting.answer.set_exception(error)
                    on_failure(error)
                    return
                for waiting in taken:
                    own, vectors = vectors[: len(waiting.texts)], vectors[len(waiting.texts) :]
                    if not waiting.answer.done():
                        waiting.answer.set_result(own)

    def _take(self) -> list[_Waiting]:
        """The oldest requests, about as many as fill a batch."""
        taken: list[_Waiting] = []
        tokens = 0
        while self._queue and tokens < self._shape.rows * self._shape.tokens:
            waiting = self._queue.popleft()
            if not waiting.answer.done():
                taken.append(waiting)
                tokens += sum(map(len, waiting.texts))
        return taken

    async def _compute(self, texts: Sequence[Sequence[int]]) -> Vectors:
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(texts), self._worker.dimensions), np.float32)
        for batch in pack_batches(texts, shape=self._shape):
            found = await loop.run_in_executor(
                self._pipe, self._worker.compute, batch.ids, batch.positions, batch.segments
            )
            if self._normalize:
                found = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
            for row, indexes in enumerate(batch.members):
                vectors[indexes] = found[row, : len(indexes)]
            observe_batch(
                sequences=sum(map(len, batch.members)), tokens=int(np.count_nonzero(batch.segments))
            )
        return vectors


@dataclass(frozen=True, kw_only=True)
class IpuEmbeddingModel:
    """Everything needed to answer embeddings requests."""

    facts: ModelFacts
    inputs: InputReader
    engine: IpuEncoderEngine
    dimensions: int
    shorter_dimensions: tuple[int, ...] = ()

    def start(self, *, on_failure: Callable[[BaseException], None]) -> None:
        """Begins to compute."""
        self.engine.start(on_failure=on_failure)

    def stop(self) -> None:
        """Ends the computation."""
        self.engine.stop()

    async def warm_up(self) -> None:
        """Encodes one sentence."""
        await self.engine.encode(await self.inputs.read(["Hello"]))


def load_ipu_embedding_model(
    environment: ServingEnvironment, *, device: Device, dtype: str
) -> IpuEmbeddingModel:
    """Has the worker compile the model of a folder whose digests were checked before. Raises SetupError."""
    folder = Path(environment.model_dir)
    config, weights, pooling = read_config(folder), read_weights(folder), read_pooling(folder)
    if config.get("model_type") not in ARCHITECTURES:
        raise SetupError(
            f"{folder / 'config.json'} is of a {config.get('model_type')!r} model; on IPUs only "
            f"{', '.join(ARCHITECTURES)} is served"
        )
    if pooling.mode not in MODES:
        raise SetupError(f"{folder} asks for {pooling.mode}; on IPUs one of {', '.join(MODES)} is possible")
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    supported = min(filter(None, (pooling.max_tokens, config.get("max_position_embeddings"))))
    tokens = environment.context_length or supported
    if tokens > supported:
        raise SetupError(f"RUNTIME_CONTEXT_LENGTH={tokens} is more than the model's {supported}")
    live = ROWS * tokens * (hidden * LIVE_VALUES + 2 * heads * tokens)
    predicted = check_fit(
        needed={"weights": weights.bytes_in(dtype), "activations": live * BYTES_PER_VALUE[dtype]},
        available=device.memory_bytes,
        device=device.description,
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SetupError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    shape = RowShape(rows=ROWS * device.count, tokens=tokens, segments=max(tokens // USUAL_TEXT_TOKENS, 1))
    worker = Worker(
        {
            "folder": str(folder),
            "rows": shape.rows,
            "tokens": shape.tokens,
            "segments": shape.segments,
            "first_token_only": pooling.mode == "pooling_mode_cls_token",
            "half": dtype == "float16",
            "replicas": device.count,
            "cache": str(cache_folder()),
        }
    )
    return IpuEmbeddingModel(
        facts=ModelFacts(
            task=environment.task,
            engine=IpuEncoderEngine.name,
            device=device.description,
            dtype=dtype,
            parameters=weights.parameters,
            context_length=tokens,
            predicted_bytes=predicted,
        ),
        inputs=InputReader(tokenizer),
        engine=IpuEncoderEngine(worker, shape=shape, normalize=pooling.normalize),
        dimensions=hidden,
    )
