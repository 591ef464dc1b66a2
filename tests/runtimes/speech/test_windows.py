from __future__ import annotations

import numpy as np

from runtimes.speech.reading import RATE, Samples
from runtimes.speech.windows import cut_windows


def tone(seconds: float) -> Samples:
    return np.sin(np.arange(int(seconds * RATE), dtype=np.float32) / 10).astype(np.float32) / 2


def test_a_long_recording_is_cut_in_its_pause_and_nothing_is_lost() -> None:
    recording = np.concatenate([tone(24), np.zeros(RATE, np.float32), tone(15)])
    pieces = [recording[start : start + 4096] for start in range(0, len(recording), 4096)]

    windows = list(cut_windows(pieces))

    assert len(windows) == 2
    assert 24 < windows[1].start < 25
    assert windows[1].start == windows[0].seconds
    np.testing.assert_array_equal(np.concatenate([it.samples for it in windows]), recording)


def test_silence_is_told_and_an_empty_recording_is_one_window() -> None:
    assert [(it.seconds, it.silent) for it in cut_windows([])] == [(0.0, True)]
    assert [it.silent for it in cut_windows([np.zeros(RATE, np.float32)])] == [True]
    assert [it.silent for it in cut_windows([tone(1)])] == [False]
