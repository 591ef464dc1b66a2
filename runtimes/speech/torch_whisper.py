"""Whisper by transformers' modules: GPUs, and exact precisions on CPUs.

The modules are called directly: transformers' own `generate` pads every clip to 30 s, and its encoder refuses
anything shorter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from runtimes.speech.recognizer import Features, Hypothesis
from runtimes.speech.warping import warp

FRAMES_PER_SECOND = 50


class TorchRecognizer:
    """Greedy decoding, or sampling at a temperature, of all rows together."""

    name = "transformers-whisper"

    def __init__(self, folder: Path, *, device: str, dtype: str) -> None:
        self.dtype = dtype
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # The other kinds do not tell where they look, which times of words are read from.
            attn_implementation="eager",
        )
        self._model = loaded.to(device).eval()
        self._settings: Any = GenerationConfig.from_pretrained(folder, local_files_only=True)
        self._device = device
        settings: Any = self._settings
        self._end: int = self._model.config.eos_token_id
        self._first_timestamp: int = settings.no_timestamps_token_id + 1
        self._languages = {
            number: token.strip("<|>") for token, number in getattr(settings, "lang_to_id", {}).items()
        }
        # <|nospeech|> stands just before <|notimestamps|> in every Whisper.
        self._no_speech: int = settings.no_timestamps_token_id - 1

    @torch.inference_mode()
    def encode(self, features: Features) -> torch.Tensor:
        """[B, bands, T] to [B, T / 2, H]: as transformers' encoder, of any length up to 30 s."""
        encoder = self._model.model.encoder
        values = torch.from_numpy(features).to(self._device, self._model.dtype)
        hidden = torch.nn.functional.gelu(encoder.conv1(values))
        hidden = torch.nn.functional.gelu(encoder.conv2(hidden)).permute(0, 2, 1)
        hidden = hidden + encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in encoder.layers:
            hidden = layer(hidden, None)
        normed: torch.Tensor = encoder.layer_norm(hidden)
        return normed

    def select(self, encoded: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        return encoded[list(rows)]

    @torch.inference_mode()
    def detect(self, encoded: torch.Tensor) -> list[tuple[str, float]]:
        start = torch.full(
            (encoded.shape[0], 1), self._model.config.decoder_start_token_id, device=self._device
        )
        logits, _ = self._step(start, encoded, cache=None)
        numbers = torch.tensor(list(self._languages), device=self._device)
        best = logits[:, -1, numbers].softmax(-1).max(-1)
        return [
            (self._languages[int(numbers[index])], float(probability))
            for probability, index in zip(best.values, best.indices, strict=True)
        ]

    @torch.inference_mode()
    def decode(
        self, encoded: torch.Tensor, *, prompts: Sequence[Sequence[int]], temperature: float, max_tokens: int
    ) -> list[Hypothesis]:
        ids = torch.tensor([list(prompt) for prompt in prompts], device=self._device)  # [B, P]
        begin = ids.shape[1]
        timestamps = prompts[0][-1] != self._settings.no_timestamps_token_id
        rules = WhisperTimeStampLogitsProcessor(self._settings, begin_index=begin) if timestamps else None
        done = torch.zeros(len(prompts), dtype=torch.bool, device=self._device)
        total = torch.zeros(len(prompts), device=self._device)
        no_speech = total
        cache, fed = None, ids
        for step in range(min(max_tokens, self._model.config.max_target_positions - begin)):
            logits, cache = self._step(fed, encoded, cache=cache)
            scores = logits[:, -1].float()  # [B, V]
            if step == 0:
                # At <|startoftranscript|>, where the model was taught to say it.
                at = ids[0].tolist().index(self._model.config.decoder_start_token_id)
                no_speech = logits[:, at].float().softmax(-1)[:, self._no_speech]
                scores[:, self._settings.begin_suppress_tokens or []] = -torch.inf
            scores[:, self._settings.suppress_tokens or []] = -torch.inf
            if rules is not None:
                scores = rules(ids, scores)
            logprobs = scores.log_softmax(-1)
            if temperature:
                chosen = torch.multinomial((scores / temperature).softmax(-1), 1)
            else:
                chosen = scores.argmax(-1, keepdim=True)
            chosen = chosen.masked_fill(done.unsqueeze(1), self._end)
            total += logprobs.gather(1, chosen).squeeze(1).masked_fill(done, 0.0)
            done = done | (chosen.squeeze(1) == self._end)
            ids = torch.cat([ids, chosen], dim=1)
            if bool(done.all()):
                break
            fed = chosen
        return [
            _hypothesis(row[begin:], end=self._end, total=score, no_speech=silence)
            for row, score, silence in zip(ids.tolist(), total.tolist(), no_speech.tolist(), strict=True)
        ]

    @torch.inference_mode()
    def align(
        self,
        encoded: torch.Tensor,
        *,
        sequence: Sequence[int],
        tokens: Sequence[Sequence[int]],
        frames: Sequence[int],
    ) -> list[tuple[float, ...]]:
        times = []
        for row, (text, count) in enumerate(zip(tokens, frames, strict=True)):
            ids = torch.tensor([[*sequence, *text, self._end]], device=self._device)
            answer = self._model.model.decoder(
                input_ids=ids,
                encoder_hidden_states=encoded[row : row + 1],
                use_cache=False,
                output_attentions=True,
            )
            looks = torch.stack(
                [answer.cross_attentions[layer][0, head] for layer, head in self._alignment_heads()]
            )  # [heads, tokens, frames]
            first = len(sequence) - 1
            times.append(
                tuple(
                    frame / FRAMES_PER_SECOND
                    for frame in warp(looks[:, first:-1, : (count + 1) // 2].float().cpu().numpy())
                )
            )
        return times

    def _alignment_heads(self) -> list[tuple[int, int]]:
        heads = getattr(self._settings, "alignment_heads", None)
        if heads:
            return [(layer, head) for layer, head in heads]
        # Whisper's default: all heads of the upper half.
        layers, count = self._model.config.decoder_layers, self._model.config.decoder_attention_heads
        return [(layer, head) for layer in range(layers // 2, layers) for head in range(count)]

    def _step(self, ids: torch.Tensor, encoded: torch.Tensor, *, cache: Any) -> tuple[torch.Tensor, Any]:
        answer = self._model.model.decoder(
            input_ids=ids, encoder_hidden_states=encoded, past_key_values=cache, use_cache=True
        )
        return self._model.proj_out(answer.last_hidden_state), answer.past_key_values


def _hypothesis(tokens: list[int], *, end: int, total: float, no_speech: float) -> Hypothesis:
    kept = tokens[: tokens.index(end)] if end in tokens else tokens
    return Hypothesis(
        tokens=tuple(kept), average_logprob=total / (len(kept) + 1), no_speech_probability=no_speech
    )
