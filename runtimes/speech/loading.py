"""From a verified folder to a speech model ready to start. The slow imports are here, and only here."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import WhisperFeatureExtractor
from transformers.utils import logging as transformers_logging

from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.errors import SetupError
from runtimes.served import ModelFacts
from runtimes.speech.ctranslate import CTranslateRecognizer
from runtimes.speech.engine import BATCH_SECONDS, SpeechEngine, make_extract
from runtimes.speech.model import SpeechModel
from runtimes.speech.recognizer import Recognizer
from runtimes.speech.torch_whisper import TorchRecognizer
from runtimes.speech.transcription import Transcriber
from runtimes.speech.vocabulary import Vocabulary
from runtimes.weights import BYTES_PER_VALUE, check_fit, read_config, read_weights

COMPUTED_BY_CTRANSLATE = ("int8", "float32")
"""On a CPU: it alone has int8."""
PROCESS_BYTES = 700 * 2**20
"""The interpreter with torch and transformers imported."""
FRAMES_PER_SECOND = 50
LIVE_VALUES = 16
"""Hidden-size values alive per frame at the widest point of an encoder layer."""


def load_speech_model(environment: ServingEnvironment, *, device: Device, dtype: str) -> SpeechModel:
    """Loads a Whisper model from a folder whose digests were checked before. Raises SetupError."""
    folder = Path(environment.model_dir)
    if environment.adapter_dir:
        raise SetupError("RUNTIME_ADAPTER_DIR is set, but speech models are served without adapters")
    config = read_config(folder)
    if config.get("model_type") != "whisper":
        raise SetupError(
            f"{folder / 'config.json'} is a {config.get('model_type')!r} model; for speech, whisper is served"
        )
    weights = read_weights(folder)
    width, layers = int(config.get("d_model") or 0), int(config.get("decoder_layers") or 0)
    context = int(config.get("max_target_positions") or 0)
    if min(width, layers, context) < 1:
        raise SetupError(f"{folder / 'config.json'} has no d_model, decoder_layers or max_target_positions")
    width_of_value = 1 if dtype == "int8" else BYTES_PER_VALUE[dtype]
    # Weights of 8 bits meet values of 32.
    live_bytes = 4 if dtype == "int8" else width_of_value
    frames = int(BATCH_SECONDS * FRAMES_PER_SECOND)
    predicted = check_fit(
        needed={
            # Twice: while they are converted both forms are there.
            "weights": weights.bytes_in("float32") + weights.parameters * width_of_value,
            # Keys and values of the attention to what was heard, in every layer of the decoder.
            "cache": frames * width * 2 * layers * live_bytes,
            "activations": frames * width * LIVE_VALUES * live_bytes,
            "process": PROCESS_BYTES,
        },
        available=device.memory_bytes,
        device=device.description,
    )
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    vocabulary = Vocabulary(folder)
    try:
        recognizer: Recognizer
        if dtype in COMPUTED_BY_CTRANSLATE and device.name == "cpu":
            recognizer = CTranslateRecognizer(
                folder, dtype=dtype, threads=torch.get_num_threads(), positions=context
            )
        else:
            recognizer = TorchRecognizer(folder, device=device.torch_name, dtype=dtype)
        extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"the model in {folder} cannot be loaded: {error}") from error
    engine = SpeechEngine(recognizer, vocabulary=vocabulary, extract=make_extract(extractor))
    return SpeechModel(
        facts=ModelFacts(
            task=environment.task,
            engine=recognizer.name,
            device=device.description,
            dtype=recognizer.dtype,
            parameters=weights.parameters,
            context_length=context,
            predicted_bytes=predicted,
        ),
        vocabulary=vocabulary,
        engine=engine,
        transcriber=Transcriber(engine, vocabulary=vocabulary, readers=min(environment.max_concurrency, 4)),
    )
