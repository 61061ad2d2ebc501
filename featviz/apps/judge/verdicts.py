"""What is found out about pictures, and the table of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What was found out about one picture.

    Args:
        picture: its name.
        unit: what it was made to show.
        rank: of its class among the judge's answers, 1 being the first; `None` where the unit is no class.
        probability: that the judge gives to its class.
        own: that its maker gives to its class, on the whole picture brought to the maker's size.
        score: the unit's, on the same.
        retained: how much of what it scores above noise is there in fresh views: 1 is all of it; above 1 they score
            higher than the picture as it is.
        slope: by which power of 1/frequency its amplitudes fall, 1 to 1.6 in photographs; `None` below 32 px.
        percentile: share of the photographs that excite the unit less; `None` where there were none.
        told: in words.
    """

    picture: str
    unit: str
    rank: int | None
    probability: float | None
    own: float | None
    score: float
    retained: float
    slope: float | None
    percentile: float | None
    told: str


@dataclass(frozen=True)
class Judgement:
    """Verdicts, and what they come to; `str` makes a table of them.

    Args:
        verdicts: one for each picture.
        judge: what the judge is called.
    """

    verdicts: tuple[Verdict, ...]
    judge: str

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        """Go through the verdicts."""
        return iter(self.verdicts)

    def __getitem__(self, picture: int) -> Verdict:
        """Return one of them."""
        return self.verdicts[picture]

    @property
    def classes(self) -> list[Verdict]:
        """Those of pictures of a class."""
        return [verdict for verdict in self.verdicts if verdict.rank is not None]

    def top(self, n: int) -> float:
        """Return in which share of the class pictures the judge has the class among its first n answers."""
        return _mean([float((verdict.rank or 0) <= n) for verdict in self.classes])

    @property
    def probability(self) -> float:
        """The judge's mean probability of the pictures' classes."""
        return _mean([verdict.probability or 0.0 for verdict in self.classes])

    def __str__(self) -> str:
        """Lay out a table, and under it what it comes to."""
        head = ("picture", "shows", "rank", f"p {self.judge}", "p own", "kept", "slope", "above", "verdict")
        rows = [
            (
                one.picture,
                one.unit,
                "" if one.rank is None else str(one.rank),
                "" if one.probability is None else f"{one.probability:.2f}",
                "" if one.own is None else f"{one.own:.2f}",
                f"{one.retained:.2f}",
                "" if one.slope is None else f"{one.slope:.2f}",
                "" if one.percentile is None else f"{one.percentile:.0%}",
                one.told,
            )
            for one in self.verdicts
        ]
        wide = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
        wide = [width if any(row[i] for row in rows) else 0 for i, width in enumerate(wide)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True) if width)
            for row in (head, *rows)
        ]
        if self.classes:
            lines.append(f"top-1 {self.top(1):.2f}, top-5 {self.top(5):.2f}, mean probability {self.probability:.2f}")
        return "\n".join(line.rstrip() for line in lines)


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
