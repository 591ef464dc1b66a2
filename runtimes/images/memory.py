"""How much memory drawing takes, from the configurations alone. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROCESS_BYTES = 850 * 2**20
"""The interpreter with torch, transformers and diffusers imported."""
DECODER_LIVE = 6
"""Tensors of the decoder's last block alive at once, at its widest: input, norm, activation, two
convolutions with their buffers, residual. (The layers of diffusers' UpDecoderBlock2D.)"""
DENOISER_LIVE = 24
"""Values alive per latent position and channel of the denoiser's first level, skip connections included."""


@dataclass(frozen=True, kw_only=True)
class DrawingShape:
    """What memory depends on."""

    decoder_channels: int
    """At full resolution, where the decoder is widest: its second level's, before they are halved."""
    denoiser_width: int
    scale: int
    """Pixels of width to one latent."""

    @classmethod
    def from_configs(cls, *, vae: Mapping[str, Any], denoiser: Mapping[str, Any]) -> DrawingShape:
        """From the config.json of the autoencoder and of the UNet or transformer, as diffusers has them."""
        levels = [int(width) for width in vae.get("block_out_channels") or [128, 256, 512, 512]]
        heads = int(denoiser.get("num_attention_heads") or 0) * int(
            _one(denoiser.get("attention_head_dim")) or 0
        )
        return cls(
            decoder_channels=levels[min(1, len(levels) - 1)],
            denoiser_width=int(_one(denoiser.get("block_out_channels")) or heads or 1024),
            scale=2 ** (len(levels) - 1),
        )

    def activation_bytes(self, *, picture_pixels: int, batch_pixels: int, bytes_per_value: int) -> int:
        """The larger of decoding one picture, since they are decoded one after the other, and a step of a
        whole batch, which guidance doubles.
        """
        decoding = picture_pixels * self.decoder_channels * DECODER_LIVE
        latents = batch_pixels // self.scale**2
        denoising = 2 * latents * self.denoiser_width * DENOISER_LIVE
        return max(decoding, denoising) * bytes_per_value


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value
