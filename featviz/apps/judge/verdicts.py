"""The verdicts on images, and the table of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from featviz.apps.judge.trust import Trust

ALARMS = {True: "ALARM", False: "ok", None: "undecided"}
"""How the table shows whether the alarm is raised."""


@dataclass(frozen=True)
class Verdict:
    """The measurements of one image.

    The image's own network is the one that rendered it.

    Args:
        image: Name of the image.
        unit: What it shows.
        rank: Rank of its class among the judge's classes, from 1; `None` where the unit is not a class.
        probability: The judge's probability of its class, in [0, 1]; `None` where the unit is not a class.
        own_probability: The probability of its class by its own network, on the whole image resized to the network's
            input size, in [0, 1]; `None` where the unit is not a class.
        score: Score of the unit by its own network, on the same image.
        retained: Share of the score gain over noise that is retained in new random views, in [0, 1].
        slope: Exponent of the amplitude spectrum, which falls as frequency^-slope: 1 to 1.6 in photographs; `None`
            below 128 px.
        percentile: Share of the photographs in which the unit scores lower, in [0, 1]; `None` without photographs.
        verdict: The verdict in words.
        trust: Signs that the network was manipulated to show something else; `None` if they were not asked for.
    """

    image: str
    unit: str
    rank: int | None
    probability: float | None
    own_probability: float | None
    score: float
    retained: float
    slope: float | None
    percentile: float | None
    verdict: str
    trust: Trust | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdicts of a judge; `str` makes a table of them.

    Args:
        verdicts: One per image.
        judge: Name of the judge.
    """

    verdicts: tuple[Verdict, ...]
    judge: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        """Iterate over the verdicts."""
        return iter(self.verdicts)

    def __getitem__(self, index: int) -> Verdict:
        """Return the verdict on one image."""
        return self.verdicts[index]

    @property
    def classes(self) -> list[Verdict]:
        """The verdicts on images of classes."""
        return [verdict for verdict in self.verdicts if verdict.rank is not None]

    def top(self, n: int) -> float:
        """Return the judge's top-n accuracy: the share of class images whose class it ranks among the first n."""
        return _mean([float((verdict.rank or 0) <= n) for verdict in self.classes])

    @property
    def probability(self) -> float:
        """Mean probability that the judge gives to the classes of the images."""
        return _mean([verdict.probability or 0.0 for verdict in self.classes])

    def __str__(self) -> str:
        """Return a table, and below it the means over class images. Columns without a value are left out."""
        columns = ("image", "shows", "rank", f"p({self.judge})", "p(own)")
        head = (*columns, "robustness", "slope", "percentile", "verdict", "paths", "path", "agreement", "trust")
        rows = [head, *(_cells(verdict) for verdict in self.verdicts)]
        kept = [i for i in range(len(head)) if any(row[i] for row in rows[1:])]
        widths = {i: max(len(row[i]) for row in rows) for i in kept}
        lines = ["  ".join(row[i].ljust(widths[i]) for i in kept).rstrip() for row in rows]
        if self.classes:
            lines.append(f"top-1 {self.top(1):.2f}, top-5 {self.top(5):.2f}, mean probability {self.probability:.2f}")
        for layers in dict.fromkeys(one.trust.layers for one in self.verdicts if one.trust):
            lines.append(f"paths: similarity at {', '.join(layers)}")
        return "\n".join(lines)


def _cells(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of one row; empty where there is no value."""
    return (
        verdict.image,
        verdict.unit,
        "" if verdict.rank is None else str(verdict.rank),
        _two_digits(verdict.probability),
        _two_digits(verdict.own_probability),
        _two_digits(verdict.retained),
        _two_digits(verdict.slope),
        "" if verdict.percentile is None else f"{verdict.percentile:.0%}",
        verdict.verdict,
        *_trust_cells(verdict.trust),
    )


def _trust_cells(trust: Trust | None) -> tuple[str, ...]:
    """Return the cells about trust; `-` at layers that do not tell photographs with and without the unit apart."""
    if trust is None:
        return ("", "", "", "")
    by_layer = " ".join("   -" if math.isnan(each) else f"{each:4.1f}" for each in trust.similarities)
    return by_layer, f"{trust.path:.2f}", f"{trust.agreement:.2f}", ALARMS[trust.alarm]


def _two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
