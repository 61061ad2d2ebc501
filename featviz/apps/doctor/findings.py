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
    """

    about: str
    what: str
    cure: str = ""

    def __str__(self) -> str:
        """Write a line."""
        return f"{'cure' if self.cure else 'ok':4}  {self.about:12} {self.what}" + (
            f": {self.cure}" if self.cure else ""
        )


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
