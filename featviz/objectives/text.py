"""Objectives as people type them: addresses, terms such as `tv`, numbers, `+ - * /` and brackets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, NoReturn

from featviz.address import PATTERN, Address
from featviz.errors import AddressError, SettingError, caret
from featviz.objectives.core import Objective, terms
from featviz.objectives.units import Layer, at

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![\w:.])")

_FILE = re.compile(r"'([^']*)'")
"""A name in single quotes; in double ones it may also be the start of an address."""


@dataclass(frozen=True)
class _Token:
    place: int
    sign: str = ""
    value: Objective | float | None = None
    term: type[Objective] | None = None


def parse(text: str, own: Mapping[str, Objective] | None = None) -> Objective:
    """Read an objective.

    Args:
        own: objectives of one's own, to be used by name.

    Raises:
        AddressError: with a caret under the place where the text stops making sense.

    >>> parse("stage2:5 - 0.5*logit:spiral")
    Channel(layer='stage2', channel=5) - 0.5 * Logit(name='spiral', network='')
    >>> parse("stage2:5 - 0.05*tv + 10*diversity(stage2)").layers
    frozenset({'stage2'})
    """
    try:
        return _Reader(text, own or {}).whole()
    except RecursionError as error:
        raise AddressError(f"cannot read the objective, its brackets go too deep: {text[:40]}…") from error


def as_objective(value: Objective | str) -> Objective:
    """Read an objective where text was given."""
    return parse(value) if isinstance(value, str) else value


def _tokens(text: str, own: Mapping[str, Objective]) -> Iterator[_Token]:
    place, known = 0, terms()
    while place < len(text):
        if text[place].isspace():
            place += 1
        elif text[place] in "+-*/(),":
            yield _Token(place, sign=text[place])
            place += 1
        elif match := _FILE.match(text, place):
            yield _Token(place, value=Layer(match[1]))
            place = match.end()
        elif match := _NUMBER.match(text, place):
            number = match[0]
            yield _Token(place, value=int(number) if number.isdecimal() else float(number))
            place = match.end()
        elif match := PATTERN.match(text, place):
            term = known.get(match[0]) if match[0] not in own else None
            yield _Token(place, term=term, value=None if term else own.get(match[0]) or at(Address.of(match)))
            place = match.end()
        else:
            raise AddressError(
                f"cannot read the objective, expected layer:channel@y,x or logit:class{caret(text, place)}"
            )


def _argument(field: Field[Any], value: Objective | float) -> Any:
    """Give a field what it wants: an objective, a number, or the name that was read as a layer."""
    kind = getattr(field.type, "__name__", str(field.type))
    wanted = Objective if "Objective" in kind else (int | float) if kind in ("int", "float", "bool") else Layer
    if not isinstance(value, wanted) or (kind == "int" and not isinstance(value, int)):
        raise TypeError
    if kind == "bool" and value not in {0, 1}:  # type: ignore[comparison-overlap]
        raise TypeError
    if wanted is Layer:
        return value.layer  # type: ignore[attr-defined]
    return bool(value) if kind == "bool" else value


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
        token = self.tokens[self.next]
        if token.term:
            return self.call(token.term)
        if token.value is None:
            self.fail("expected layer:channel, logit:class or a number here")
        self.next += 1
        return token.value

    def call(self, term: type[Objective]) -> Objective:
        """Read a term and what stands in its brackets: layers, files, objectives and numbers, as its fields want."""
        start = self.next
        self.next += 1
        given: list[Any] = []
        if self.take("(") and not self.take(")"):
            given.append(self.sum())
            while self.take(","):
                given.append(self.sum())
            if not self.take(")"):
                self.fail("expected , or ) here")
        wanted = [field.name for field in fields(term)]  # type: ignore[arg-type]
        try:
            return term(*(_argument(*pair) for pair in zip(fields(term), given, strict=False)), *given[len(wanted) :])  # type: ignore[arg-type]
        except (TypeError, SettingError) as error:
            self.next = start
            hint = "; write a file's name in quotes" if {"picture", "mask"} & set(wanted) else ""
            takes = f"{term.term} takes {', '.join(wanted) or 'nothing'}{hint}"
            why = error if isinstance(error, SettingError) else takes
            self.fail(str(why))

    def take(self, signs: str) -> str:
        sign = self.tokens[self.next].sign
        if sign and sign in signs:
            self.next += 1
            return sign
        return ""

    def fail(self, why: str) -> NoReturn:
        raise AddressError(f"cannot read the objective, {why}{caret(self.text, self.tokens[self.next].place)}")
