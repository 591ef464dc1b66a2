"""A transcription as the OpenAI protocol writes it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtimes.speech.segments import Segment


def to_text(segments: Sequence[Segment]) -> str:
    """All that was said, in one line."""
    return "".join(segment.text for segment in segments).strip()


def to_srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered, times with a comma."""
    return "\n".join(
        f"{number}\n{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}\n{segment.text.strip()}\n"
        for number, segment in enumerate(segments, start=1)
    )


def to_vtt(segments: Sequence[Segment]) -> str:
    """WebVTT. Its text must not have the arrow of the times in it."""
    cues = "\n".join(
        f"{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}\n"
        f"{segment.text.strip().replace('-->', '->')}\n"
        for segment in segments
    )
    return f"WEBVTT\n\n{cues}"


def to_verbose(
    segments: Sequence[Segment], *, task: str, language: str, seconds: float, granularities: Sequence[str]
) -> dict[str, Any]:
    """`verbose_json`: the text with what is known of each segment, or word."""
    answer: dict[str, Any] = {
        "task": task,
        "language": language,
        "duration": round(seconds, 3),
        "text": to_text(segments),
        "usage": usage(seconds),
    }
    if "segment" in granularities:
        answer["segments"] = [_describe(number, segment) for number, segment in enumerate(segments)]
    if "word" in granularities:
        answer["words"] = [
            {"word": word.word, "start": word.start, "end": word.end}
            for segment in segments
            for word in segment.words
        ]
    return answer


def usage(seconds: float) -> dict[str, Any]:
    """Billed by what was heard."""
    return {"type": "duration", "seconds": round(seconds, 3)}


def _describe(number: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": segment.heard.temperature,
        "avg_logprob": round(segment.heard.average_logprob, 4),
        "compression_ratio": round(segment.heard.compression_ratio, 4),
        "no_speech_prob": round(segment.heard.no_speech_probability, 4),
    }


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
