"""From a verified folder to an image model ready to start. The slow imports are here, and only here."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from runtimes.contract import ServingEnvironment
from runtimes.devices.device import Device
from runtimes.errors import SetupError
from runtimes.images.engine import ImageEngine
from runtimes.images.memory import PROCESS_BYTES, DrawingShape
from runtimes.images.model import ImageModel
from runtimes.images.pipelines import Pipelines
from runtimes.images.presets import read_presets
from runtimes.served import ModelFacts
from runtimes.weights import BYTES_PER_VALUE, WeightFacts, check_fit, read_config, read_weights

INDEX_FILE = "model_index.json"
LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion"})
"""Whose classes a pipeline may name. stable_diffusion is diffusers' own name for its safety checker."""
LARGEST_TIMES_NATIVE = 4
"""A picture may have this many times the pixels that the model was trained on."""


def load_image_model(environment: ServingEnvironment, *, device: Device, dtype: str) -> ImageModel:
    """Loads the pipeline from a folder whose digests were checked before. Raises SetupError."""
    folder = Path(environment.model_dir)
    weights = read_weights(folder)
    presets = read_presets(folder)
    _check_index(folder)
    shape = _read_shape(folder)
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    needed = {"weights": weights.bytes_in(dtype), "process": PROCESS_BYTES}
    check_fit(needed=needed, available=device.memory_bytes, device=device.description)
    pipelines = Pipelines(
        _load(folder, environment, weights, device=device, dtype=dtype), dtype=getattr(torch, dtype)
    )
    width, height = pipelines.native_size
    batch_pixels = environment.max_concurrency * width * height
    largest_pixels = min(LARGEST_TIMES_NATIVE * width * height, batch_pixels)
    needed["activations"] = shape.activation_bytes(
        picture_pixels=largest_pixels, batch_pixels=batch_pixels, bytes_per_value=BYTES_PER_VALUE[dtype]
    )
    # The weights are there already, so that only the rest has to fit what is free now.
    check_fit(
        needed={"activations": needed["activations"]},
        available=device.memory_bytes - needed["weights"],
        device=device.description,
    )
    return ImageModel(
        facts=ModelFacts(
            task=environment.task,
            engine=pipelines.engine,
            device=device.description,
            dtype=dtype,
            parameters=weights.parameters,
            context_length=pipelines.prompt_tokens,
            predicted_bytes=sum(needed.values()),
        ),
        pipelines=pipelines,
        presets=presets,
        engine=ImageEngine(pipelines, batch_pixels=batch_pixels),
        largest_pixels=largest_pixels,
    )


def _check_index(folder: Path) -> None:
    index = read_config(folder, INDEX_FILE)
    for part, place in index.items():
        library = place[0] if isinstance(place, list) and place else None
        if library is not None and library not in LIBRARIES:
            raise SetupError(
                f"{folder / INDEX_FILE} takes its {part} from {library!r}; only classes of diffusers and "
                "transformers are loaded"
            )


def _read_shape(folder: Path) -> DrawingShape:
    denoiser = next((name for name in ("unet", "transformer") if (folder / name).is_dir()), None)
    if denoiser is None or not (folder / "vae").is_dir():
        raise SetupError(
            f"{folder} has no vae, or neither unet nor transformer: not a text-to-image pipeline"
        )
    return DrawingShape.from_configs(vae=read_config(folder / "vae"), denoiser=read_config(folder / denoiser))


def _load(
    folder: Path, environment: ServingEnvironment, weights: WeightFacts, *, device: Device, dtype: str
) -> DiffusionPipeline:
    # Some publishers keep only files of half precision, which have it in their names.
    variant = "fp16" if all(".fp16." in name for name in weights.files) else None
    try:
        pipeline = AutoPipelineForText2Image.from_pretrained(
            folder,
            torch_dtype=getattr(torch, dtype),
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
        )
        if environment.adapter_dir:
            _apply_adapter(pipeline, Path(environment.adapter_dir))
        # One picture is decoded after the other: memory stays that of one, and so does every pixel.
        pipeline.vae.enable_slicing()
        return pipeline.to(device.torch_name)
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError) as error:
        raise SetupError(f"the pipeline in {folder} cannot be loaded: {error}") from error


def _apply_adapter(pipeline: DiffusionPipeline, folder: Path) -> None:
    """A style of the customer's own: LoRA weights as diffusers saves them, in one file."""
    files = read_weights(folder).files
    if len(files) != 1:
        raise SetupError(f"{folder} should have one *.safetensors file of LoRA weights; it has {len(files)}")
    pipeline.load_lora_weights(folder, weight_name=files[0], local_files_only=True, use_safetensors=True)
    # Part of the weights from here on: no step pays for it.
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
