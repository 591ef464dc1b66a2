"""What a part of the runtimes' benchmark returns: ours beside the peers of the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure. A ratio above 1 is in our favor."""

    what: str
    unit: str
    ours: Sequence[float]
    """One value a round."""
    peer: str
    theirs: Sequence[float]
    less_is_better: bool = False

    @property
    def ratios(self) -> list[float]:
        """Of each round: what is measured in alternation is compared within a round, so that other load on
        the machine hits both alike.
        """
        pairs = zip(self.ours, self.theirs, strict=True)
        return [their / our if self.less_is_better else our / their for our, their in pairs]

    def __str__(self) -> str:
        return (
            f"{self.what:44} {statistics.median(self.ours):10.2f} {statistics.median(self.theirs):10.2f} "
            f"{self.unit:8} {statistics.median(self.ratios):6.2f}x "
            f"({min(self.ratios):.2f} to {max(self.ratios):.2f})  {self.peer}"
        )


Part = Callable[[int], Sequence[Row]]
"""Measures in so many rounds."""

HEADER = f"{'what':44} {'ours':>10} {'theirs':>10} {'unit':8} {'ratio':>7} (least to most)  peer"


def alternate(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Every contestant once a round, in turn; what each returned."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            results[name].append(measure())
    return results


def chart(title: str, points: Mapping[str, float], *, unit: str, width: int = 40) -> str:
    """Bars in text."""
    most = max(points.values())
    lines = [
        f"  {name:>12} {'█' * max(round(width * value / most), 1)} {value:.4g} {unit}"
        for name, value in points.items()
    ]
    return "\n".join([title, *lines])
