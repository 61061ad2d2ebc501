"""Sums and differences of names as text, such as `"king - man + woman"`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from featviz.errors import AddressError, caret

MAX_LENGTH = 10_000
"""Most characters of an expression."""
OPERATOR = re.compile(r"\s+([-+\u2212])(?=\s)\s*")
"""A hyphen, minus or plus sign between spaces: names may hold such signs, as in `"t-shirt"` and `"c++"`."""
SIGN = re.compile(r"[-+\u2212](\s|$)")
QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")


@dataclass(frozen=True)
class Term:
    """A name with its sign.

    Args:
        sign: 1, or -1 where the name is subtracted.
        name: The name.
    """

    sign: int
    name: str


def parse_expression(text: str, is_name: Callable[[str], bool] = lambda _: False) -> tuple[Term, ...]:
    """Parse a sum of names.

    Signs need a space on both sides. Names may be quoted, so that they can hold such signs themselves. Text that is a
    name as a whole is that name.

    Args:
        text: The expression.
        is_name: Whether a text is a name.

    Returns:
        The terms in their order.

    Raises:
        AddressError: The text is no such sum. The message marks the place.

    >>> [(term.sign, term.name) for term in parse_expression("t-shirt - man + 'old woman'")]
    [(1, 't-shirt'), (-1, 'man'), (1, 'old woman')]
    """
    if is_name(text):
        return (Term(1, text),)
    if len(text) > MAX_LENGTH:
        raise AddressError(f"an expression must have at most {MAX_LENGTH} characters, got {len(text)}")
    padded = f" {text} "  # so that a sign at either end is found, too
    terms: list[Term] = []
    sign, at = 1, 0
    if leading := OPERATOR.match(padded):
        sign, at = _sign(leading), leading.end()
    while True:
        name, at = _read_name(padded, at)
        terms.append(Term(sign, name))
        if at >= len(padded.rstrip()):
            return tuple(terms)
        following = OPERATOR.match(padded, at)
        if following is None:
            raise _error(text, at, "expected + or - between spaces")
        sign, at = _sign(following), following.end()


def _sign(found: re.Match[str]) -> int:
    return 1 if found[1] == "+" else -1


def _read_name(padded: str, start: int) -> tuple[str, int]:
    """Return the name that starts at a column or behind the spaces there, and the column of its end."""
    start += len(padded[start:]) - len(padded[start:].lstrip())
    if quoted := QUOTED.match(padded, start):
        after = quoted.end()
        if padded[after : after + 1].isspace():  # else the quote is part of a name, as in 's or 'tis'
            name = quoted[1] if quoted[1] is not None else quoted[2]
            if not name:
                raise _error(padded[1:-1], start, "expected a name between the quotes")
            return name, after
    following = OPERATOR.search(padded, start)
    end = following.start() if following else len(padded.rstrip())
    name = padded[start:end].strip()
    if not name or SIGN.match(name):
        raise _error(padded[1:-1], start, "expected a name")
    return name, end


def _error(text: str, column: int, expected: str) -> AddressError:
    """Return the error for a column of the padded text."""
    if "\n" in text or "\r" in text or len(text) > 200:
        return AddressError(f"cannot parse the expression of {len(text)} characters: {expected}")
    return AddressError(f"cannot parse the expression: {expected}{caret(text, min(max(column - 1, 0), len(text)))}")
