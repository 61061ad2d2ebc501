"""Objectives as people type them: addresses, numbers, `+ - * /` and brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from featviz.address import PATTERN, Address
from featviz.errors import AddressError, caret
from featviz.objectives.core import Objective
from featviz.objectives.units import at

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![\w:.])")


@dataclass(frozen=True)
class _Token:
    place: int
    sign: str = ""
    value: Objective | float | None = None


def parse(text: str, own: Mapping[str, Objective] | None = None) -> Objective:
    """Read an objective.

    Args:
        own: objectives of one's own, to be used by name.

    Raises:
        AddressError: with a caret under the place where the text stops making sense.

    >>> parse("stage2:5 - 0.5*logit:spiral")
    Channel(layer='stage2', channel=5) - 0.5 * Logit(name='spiral')
    """
    try:
        return _Reader(text, own or {}).whole()
    except RecursionError as error:
        raise AddressError(f"cannot read the objective, its brackets go too deep: {text[:40]}…") from error


def _tokens(text: str, own: Mapping[str, Objective]) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
        elif text[place] in "+-*/()":
            yield _Token(place, sign=text[place])
            place += 1
        elif match := _NUMBER.match(text, place):
            number = match[0]
            yield _Token(place, value=int(number) if number.isdigit() else float(number))
            place = match.end()
        elif match := PATTERN.match(text, place):
            yield _Token(place, value=own.get(match[0]) or at(Address.of(match)))
            place = match.end()
        else:
            raise AddressError(
                f"cannot read the objective, expected layer:channel@y,x or logit:class{caret(text, place)}"
            )


class _Reader:
    """Recursive descent: a sum of products of signed terms. Numbers stay numbers until an objective meets them."""

    def __init__(self, text: str, own: Mapping[str, Objective]) -> None:
        self.text = text
        self.tokens = [*_tokens(text, own), _Token(len(text), sign="end")]
        self.next = 0

    def whole(self) -> Objective:
        found = self.sum()
        if self.tokens[self.next].sign != "end":
            self.fail("expected + - * / here")
        if isinstance(found, int | float):
            raise AddressError(f"{self.text!r} is only a number; name a unit, as layer:channel or logit:class")
        if not isinstance(found, Objective):
            raise AddressError(f"{self.text!r} is no objective; decorate the function with objectives.objective")
        return found

    def sum(self) -> Objective | float:
        found = self.product()
        while sign := self.take("+-"):
            found = found + self.product() if sign == "+" else found - self.product()
        return found

    def product(self) -> Objective | float:
        found = self.term()
        while sign := self.take("*/"):
            right = self.term()
            if sign == "/" and right == 0:
                self.fail("cannot divide by 0")
            found = found * right if sign == "*" else found / right
        return found

    def term(self) -> Objective | float:
        if self.take("-"):
            return -self.term()
        if self.take("("):
            inner = self.sum()
            if not self.take(")"):
                self.fail("expected ) here")
            return inner
        value = self.tokens[self.next].value
        if value is None:
            self.fail("expected layer:channel, logit:class or a number here")
        self.next += 1
        return value

    def take(self, signs: str) -> str:
        sign = self.tokens[self.next].sign
        if sign and sign in signs:
            self.next += 1
            return sign
        return ""

    def fail(self, why: str) -> NoReturn:
        raise AddressError(f"cannot read the objective, {why}{caret(self.text, self.tokens[self.next].place)}")
