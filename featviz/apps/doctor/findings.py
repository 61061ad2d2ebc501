"""What the doctor finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Args:
        about: which check found it.
        what: in words.
        cure: the flags that cure it; empty where there is nothing to cure.
        sure: whether it could be told.
    """

    about: str
    what: str
    cure: str = ""
    sure: bool = True

    def __str__(self) -> str:
        """Write a line."""
        word = "cure" if self.cure else "ok" if self.sure else "?"
        return f"{word:4}  {self.about:12} {self.what}" + (f": {self.cure}" if self.cure else "")


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found; `str` lists it."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing needs a cure."""
        return not any(finding.cure for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """Go through the findings."""
        return iter(self.findings)

    def __str__(self) -> str:
        """Write a line for each."""
        return "\n".join(map(str, self.findings))


def flags(mean: tuple[float, ...], std: tuple[float, ...], order: str = "RGB", *, instead_of: str = "RGB") -> str:
    """Write what tells the command of an input range.

    Args:
        mean: of each channel.
        std: of each channel.
        order: of the channels.
        instead_of: the order that holds where none is named.
    """
    numbers = [",".join(f"{number:g}" for number in values) for values in (mean, std)]
    return f"--mean {numbers[0]} --std {numbers[1]}" + (f" --order {order}" if "BGR" in (order, instead_of) else "")
