"""Bin packing of a million lengths: how full the packs are, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from runtimes.packing.bins import Method
from runtimes.packing.rows import pack_lengths
from tests.bench.rows import Row
from tests.bench.wikipedia import LONGEST, draw_lengths

SEQUENCES = 1_000_000


def measure(rounds: int) -> Sequence[Row]:
    """Beside the targets: a second, 99 % of a pack, and the speed-up of packs without any padding."""
    lengths = draw_lengths(SEQUENCES)
    rows = []
    for method in Method:
        for depth in (None, 12, 3):
            seconds = []
            for _ in range(rounds):
                began = time.perf_counter()
                report = pack_lengths(lengths, capacity=LONGEST, depth=depth, method=method).report
                seconds.append(time.perf_counter() - began)
            name = f"{method}, {f'at most {depth}' if depth else 'any number'} in a pack"
            rows += [
                Row(
                    what=name,
                    unit="s",
                    ours=seconds,
                    peer="target: a million in 1 s",
                    theirs=[1.0] * rounds,
                    less_is_better=True,
                ),
                Row(
                    what="  full",
                    unit="%",
                    ours=[100 * report.efficiency],
                    peer="target: 99 %",
                    theirs=[99.0],
                ),
                Row(
                    what="  rows saved: theoretical speed-up",
                    unit="x",
                    ours=[report.speed_up],
                    peer="limit: longest / mean",
                    theirs=[report.speed_up_limit],
                ),
            ]
    return rows
