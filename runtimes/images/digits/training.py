"""Trains the pipeline: first the autoencoder, then text encoder and denoiser together in its latent space.

As Stable Diffusion was (https://arxiv.org/abs/2112.10752), but for the text encoder, which has nothing
learned to begin with, and for the denoiser's target, which is the velocity
(https://arxiv.org/abs/2202.00512): with a schedule that ends in nothing but noise
(https://arxiv.org/abs/2305.08891), dark and light backgrounds come out as asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from torch import Tensor
from torch.nn import Module, ModuleDict, functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import CLIPTokenizer

from runtimes.images.digits.captions import STYLES, TOKENS, captions
from runtimes.images.digits.parts import TIMESTEPS, build_pipeline
from runtimes.images.digits.pictures import Pictures, load_pictures

logger = logging.getLogger(__name__)

AUTOENCODER_STEPS = 300
DENOISER_STEPS = 700
BATCH = 128
UNCONDITIONAL_SHARE = 0.1
"""Of the examples without a caption, which guidance needs (https://arxiv.org/abs/2207.12598)."""


def train(*, seed: int = 0) -> StableDiffusionPipeline:
    """The trained pipeline. The same seed gives the same weights on the same machine."""
    torch.manual_seed(seed)
    pictures = load_pictures()
    pipeline = build_pipeline()
    _train_autoencoder(pipeline.vae, pictures=pictures)
    _train_denoiser(
        ModuleDict({"text": pipeline.text_encoder, "denoiser": pipeline.unet}),
        examples=_Examples(pictures, autoencoder=pipeline.vae, tokenizer=pipeline.tokenizer),
        scheduler=pipeline.scheduler,
    )
    pipeline.text_encoder.eval()
    pipeline.unet.eval()
    return pipeline


def _train_autoencoder(model: AutoencoderKL, *, pictures: Pictures) -> None:
    """Afterwards its latents have unit variance once scaled."""
    for step in _steps(model, count=AUTOENCODER_STEPS, learning_rate=4e-3, warm_up=0.3, decay=1e-4):
        batch = pictures.pixels[torch.randint(len(pictures.pixels), (64,))]
        posterior = model.encode(batch).latent_dist
        decoded = model.decode(posterior.sample()).sample
        # The weight keeps the latents near a normal distribution and costs no sharpness that can be seen.
        step(functional.mse_loss(decoded, batch) + 3e-6 * posterior.kl().mean())
    with torch.inference_mode():
        spread = model.eval().encode(pictures.pixels).latent_dist.mean.std().item()
    model.register_to_config(scaling_factor=1 / spread)


class _Examples:
    """Noised latents with their captions, drawn at random."""

    def __init__(self, pictures: Pictures, *, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer) -> None:
        with torch.no_grad():
            posterior = autoencoder.encode(pictures.pixels).latent_dist
        scale = autoencoder.config.scaling_factor
        self._mean, self._std = posterior.mean * scale, posterior.std * scale
        self._pictures = pictures

        def tokenize(texts: list[str]) -> Tensor:
            return torch.tensor(tokenizer(texts, padding="max_length", max_length=TOKENS).input_ids)

        # [digits, styles, ways to say it, TOKENS]
        self._captions = torch.stack(
            [torch.stack([tokenize(captions(digit, style=style)) for style in STYLES]) for digit in range(10)]
        )
        self._no_caption = tokenize([""])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents [count, C, H, W] and captions [count, TOKENS]."""
        chosen = torch.randint(len(self._mean), (count,))
        latents = self._mean[chosen] + self._std[chosen] * torch.randn_like(self._mean[chosen])
        wording = torch.randint(self._captions.shape[2], (count,))
        texts = self._captions[self._pictures.digits[chosen], self._pictures.styles[chosen], wording]
        return latents, torch.where(torch.rand(count, 1) < UNCONDITIONAL_SHARE, self._no_caption, texts)


def _train_denoiser(parts: ModuleDict, *, examples: _Examples, scheduler: DDIMScheduler) -> None:
    average = AveragedModel(parts, multi_avg_fn=get_ema_multi_avg_fn(0.99))  # type: ignore[no-untyped-call]
    for step in _steps(parts, count=DENOISER_STEPS, learning_rate=2e-3, warm_up=0.1, decay=1e-2):
        latents, texts = examples.draw(BATCH)
        times = torch.randint(TIMESTEPS, (BATCH,))
        noise = torch.randn_like(latents)
        # Many captions of a batch are equal, and are read once.
        unique, places = torch.unique(texts, dim=0, return_inverse=True)
        hidden = parts["text"](unique).last_hidden_state[places]
        velocity = parts["denoiser"](scheduler.add_noise(latents, noise, times), times, hidden).sample
        step(functional.mse_loss(velocity, scheduler.get_velocity(latents, noise, times)))
        average.update_parameters(parts)
    parts.load_state_dict(average.module.state_dict())


class _Step:
    """One optimizer step."""

    def __init__(
        self, model: Module, *, count: int, learning_rate: float, warm_up: float, decay: float
    ) -> None:
        self._model = model
        self._optimizer = torch.optim.AdamW(model.parameters(), weight_decay=decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, learning_rate, total_steps=count, pct_start=warm_up
        )
        self.loss = 0.0

    def __call__(self, loss: Tensor) -> None:
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self.loss = loss.item()


def _steps(
    model: Module, *, count: int, learning_rate: float, warm_up: float, decay: float
) -> Iterator[_Step]:
    """The optimizer's steps. `warm_up`: share of them in which the learning rate rises."""
    step = _Step(model.train(), count=count, learning_rate=learning_rate, warm_up=warm_up, decay=decay)
    for number in range(1, count + 1):
        yield step
        if number % 50 == 0:
            logger.info("%s: step %d of %d, loss %.4f", type(model).__name__, number, count, step.loss)
