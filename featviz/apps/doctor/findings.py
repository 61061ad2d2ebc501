"""The findings of the doctor, and the options that fix them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        check: Name of the check.
        text: The finding in words.
        fix: Options of the command line that fix it, or other advice; empty where nothing is wrong.
        note: Whether it is information without a fix, or a check that could not decide.
    """

    check: str
    text: str
    fix: str = ""
    note: bool = False

    def __str__(self) -> str:
        """Return one line: `ok`, `note` or `fix`, the check, the text and the fix."""
        status = "fix" if self.fix else "note" if self.note else "ok"
        return f"{status:4}  {self.check:11}  {self.text}" + (f": {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Diagnosis:
    """The findings of the doctor; `str` lists them.

    Args:
        findings: In the order of the checks.
    """

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing has to be fixed."""
        return not any(finding.fix for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def __str__(self) -> str:
        """Return one line per finding."""
        return "\n".join(map(str, self.findings))


def normalisation_options(
    mean: tuple[float, ...], std: tuple[float, ...], channel_order: str = "RGB", *, given_order: str = "RGB"
) -> str:
    """Return the command-line options for a normalisation.

    Args:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        channel_order: `"RGB"` or `"BGR"`.
        given_order: The network's present channel order. Where both are RGB, `--channel-order` is left out.

    >>> normalisation_options((0.5,), (0.25,))
    '--mean 0.5 --std 0.25'
    """
    mean_text, std_text = (",".join(f"{value:g}" for value in values) for values in (mean, std))
    order = f" --channel-order {channel_order}" if "BGR" in (channel_order, given_order) else ""
    return f"--mean {mean_text} --std {std_text}{order}"
