"""The parts of the digits pipeline and their sizes, with the random weights that training begins with."""

from __future__ import annotations

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from runtimes.images.digits.captions import TOKENS, build_tokenizer
from runtimes.images.digits.pictures import PIXELS

WIDTH = 64
"""Of the text encoder, which the denoiser attends to."""
TIMESTEPS = 1000


def build_pipeline() -> StableDiffusionPipeline:
    """All parts, with weights drawn from torch's generator: what it draws is noise until it is trained."""
    tokenizer = build_tokenizer()
    return StableDiffusionPipeline(
        vae=_build_autoencoder(),
        text_encoder=_build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=_build_denoiser(),
        scheduler=_build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _build_autoencoder() -> AutoencoderKL:
    """Its latents have a quarter of the width and height."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 48),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=PIXELS,
        mid_block_add_attention=False,
    )


def _build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _build_denoiser() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=PIXELS // 4,
        layers_per_block=1,
        block_out_channels=(64, 96),
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


def _build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=TIMESTEPS,
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        clip_sample=False,
        steps_offset=1,  # without effect in this spacing, and what the pipeline asks for
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
