"""diffusers' pipelines as the engine needs them: one set of weights, and a pipeline for each kind of
drawing that shares it. All that differs between families of models is here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    DiffusionPipeline,
)
from PIL.Image import Image

from runtimes.images.drawing import Drawing, Kind

_DERIVED = {Kind.IMAGE: AutoPipelineForImage2Image, Kind.INPAINTING: AutoPipelineForInpainting}

OnStep = Callable[[int, torch.Tensor], None]
"""Called with the number of steps done and the latents of the batch."""


class Pipelines:
    """The kinds of drawing one model can do."""

    def __init__(self, pipeline: DiffusionPipeline, *, dtype: torch.dtype) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self._kinds: dict[Kind, Any] = {Kind.TEXT: pipeline}
        for kind, derive in _DERIVED.items():
            try:
                # The default of torch_dtype is float32, which would convert the weights that they share.
                self._kinds[kind] = derive.from_pipe(pipeline, torch_dtype=dtype)
            except ValueError:
                # This family has no such pipeline.
                continue
            self._kinds[kind].set_progress_bar_config(disable=True)
        self._text: Any = pipeline

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(self._kinds)

    @property
    def engine(self) -> str:
        """What /info calls it."""
        return f"diffusers {type(self._text).__name__}"

    @property
    def defaults(self) -> Mapping[str, Any]:
        """What the pipeline itself takes for a setting that is not given."""
        parameters = inspect.signature(self._text.__call__).parameters.values()
        return {item.name: item.default for item in parameters if item.default is not inspect.Parameter.empty}

    @property
    def multiple(self) -> int:
        """Width and height must be whole multiples of this many pixels."""
        # Transformers group two by two latents into a patch.
        return int(max(8, self._text.vae_scale_factor * (1 if hasattr(self._text, "unet") else 2)))

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height of the pictures it was trained on, in pixels."""
        denoiser = self._text.unet if hasattr(self._text, "unet") else self._text.transformer
        size = getattr(self._text, "default_sample_size", None) or denoiser.config.get("sample_size") or 64
        height, width = (size, size) if isinstance(size, int) else size
        scale = self._text.vae_scale_factor
        return width * scale, height * scale

    @property
    def takes_negative_prompts(self) -> bool:
        # Families with distilled guidance take one, and ignore it unless a second guidance is on.
        return "negative_prompt" in self.defaults and "true_cfg_scale" not in self.defaults

    @property
    def prompt_tokens(self) -> int:
        """Longest prompt that is read whole, special tokens included."""
        longest = int(self.defaults.get("max_sequence_length") or 0)
        limits = [min(item.model_max_length, longest or 10**6) for item in self._tokenizers]
        return max(limits, default=longest)

    def count_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, special ones included, as the encoder that reads most of it counts them."""
        reader = max(self._tokenizers, key=lambda item: int(item.model_max_length))
        return len(reader(prompt, truncation=False, verbose=False).input_ids)

    @property
    def _tokenizers(self) -> list[Any]:
        return [item for name, item in self._text.components.items() if name.startswith("tokenizer") and item]

    @torch.inference_mode()
    def draw(self, drawings: Sequence[Drawing], *, on_step: OnStep) -> list[tuple[Image, bool]]:
        """(picture, flagged) for each of drawings with equal `batch_key`; what `on_step` raises ends it.

        Each drawing has a generator of its own, so that its seed gives the same picture whatever is computed
        beside it, but for rounding.
        """
        first = drawings[0]
        pipeline = self._kinds[first.kind]

        def step_done(_: Any, index: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            on_step(index + 1, tensors["latents"])
            return tensors

        arguments: dict[str, Any] = {
            "prompt": [drawing.prompt for drawing in drawings],
            "num_inference_steps": first.steps,
            "guidance_scale": first.guidance,
            "width": first.width,
            "height": first.height,
            # On the CPU, so that a seed means the same on every device.
            "generator": [torch.Generator().manual_seed(drawing.seed) for drawing in drawings],
            "callback_on_step_end": step_done,
            "output_type": "pil",
        }
        if self.takes_negative_prompts:
            arguments["negative_prompt"] = [drawing.negative_prompt for drawing in drawings]
        if first.kind is not Kind.TEXT:
            arguments |= {"image": [drawing.image for drawing in drawings], "strength": first.strength}
        if first.kind is Kind.INPAINTING:
            arguments["mask_image"] = [drawing.mask for drawing in drawings]
        known = inspect.signature(pipeline.__call__).parameters
        result = pipeline(**{name: value for name, value in arguments.items() if name in known})
        flags = getattr(result, "nsfw_content_detected", None) or [False] * len(drawings)
        return list(zip(result.images, map(bool, flags), strict=True))

    @torch.inference_mode()
    def preview(self, latents: torch.Tensor, *, drawing: Drawing) -> Image:
        """The unfinished picture in the latents of one drawing, [1, …]."""
        pipeline, vae = self._kinds[drawing.kind], self._text.vae
        if hasattr(pipeline, "_unpack_latents"):
            latents = pipeline._unpack_latents(
                latents, drawing.height, drawing.width, pipeline.vae_scale_factor
            )
        scaled = latents / vae.config.scaling_factor + (vae.config.get("shift_factor") or 0.0)
        decoded = vae.decode(scaled.to(vae.dtype)).sample
        pictures: list[Image] = pipeline.image_processor.postprocess(decoded, output_type="pil")
        return pictures[0]
