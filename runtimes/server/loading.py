"""Loads the model of a task beside the event loop, so that the probes answer from the first second."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from runtimes.cache.holding import hold_for_serving
from runtimes.contract import ServingEnvironment, Task
from runtimes.dequantize import dequantize
from runtimes.errors import SetupError
from runtimes.served import ServedModel
from runtimes.weights import only_gguf, refuse_code, refuse_links, stay_offline, verify_digests


def load_model(environment: ServingEnvironment) -> ServedModel:
    """The model, verified and loaded but not started. Takes seconds; raises SetupError."""
    stay_offline()
    environment, verified = hold_for_serving(environment)
    folders = [(Path(environment.model_dir), environment.digests)]
    if environment.adapter_dir:
        folders.append((Path(environment.adapter_dir), environment.adapter_digests))
    for folder, _ in folders:
        if not folder.is_dir():
            raise SetupError(f"there is no model folder {folder}")
        refuse_code(folder)
        refuse_links(folder)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Hashing needs no interpreter lock, so it is done while the libraries are imported.
        checks = [
            pool.submit(verify_digests, folder, digests)
            for folder, digests in folders
            if folder not in verified
        ]
        _import_engine(environment.task)
        for check in checks:
            check.result()
    gguf = only_gguf(Path(environment.model_dir))
    return _load(environment) if gguf is None else _load_gguf(gguf, environment=environment)


def _load_gguf(file: Path, *, environment: ServingEnvironment) -> ServedModel:
    """Serves quantized values as what they stand for: written out as safetensors for as long as loading
    takes, which needs room for four bytes a value where temporary files lie.
    """
    if environment.task is not Task.TEXT_GENERATION:
        raise SetupError(f"{file} is a GGUF file; only {Task.TEXT_GENERATION.value} is served from one")
    with tempfile.TemporaryDirectory(prefix="gguf-") as folder:
        whole = Path(folder) / "model"
        dequantize(file, folder=whole)
        return _load(replace(environment, model_dir=str(whole)))


def _import_engine(task: Task) -> None:
    match task:
        case Task.TEXT_GENERATION:
            import runtimes.text.loading
        case Task.FEATURE_EXTRACTION:
            import runtimes.embeddings.loading
        case Task.AUTOMATIC_SPEECH_RECOGNITION:
            import runtimes.speech.loading
        case Task.TEXT_TO_IMAGE:
            import runtimes.images.loading  # noqa: F401


def _load(environment: ServingEnvironment) -> ServedModel:
    from runtimes.devices.picking import pick_device, pick_dtype

    device = pick_device(environment.device)
    hears_in_int8 = environment.task is Task.AUTOMATIC_SPEECH_RECOGNITION and environment.dtype == "int8"
    quantized = ("int8",) if (environment.task, device.name) == (Task.TEXT_GENERATION, "cpu") else ()
    wanted = "auto" if hears_in_int8 else environment.dtype
    dtype = pick_dtype(wanted, device=device, quantized=quantized)
    if device.name == "ipu":
        if environment.task is not Task.FEATURE_EXTRACTION:
            raise SetupError(
                f"RUNTIME_TASK={environment.task.value} is not served on IPUs; "
                f"{Task.FEATURE_EXTRACTION.value} is"
            )
        from runtimes.devices.ipu.embeddings import load_ipu_embedding_model

        return load_ipu_embedding_model(environment, device=device, dtype=dtype)
    match environment.task:
        case Task.TEXT_GENERATION:
            from runtimes.text.loading import load_text_model

            return load_text_model(environment, device=device, dtype=dtype)
        case Task.FEATURE_EXTRACTION:
            from runtimes.embeddings.loading import load_embedding_model

            return load_embedding_model(environment, device=device, dtype=dtype)
        case Task.AUTOMATIC_SPEECH_RECOGNITION:
            from runtimes.speech.loading import load_speech_model

            if device.name == "cpu" and environment.dtype in ("auto", "int8"):
                dtype = "int8"

            return load_speech_model(environment, device=device, dtype=dtype)
        case Task.TEXT_TO_IMAGE:
            from runtimes.images.loading import load_image_model

            return load_image_model(environment, device=device, dtype=dtype)
    raise SetupError(f"RUNTIME_TASK={environment.task.value} is not served by this image")
