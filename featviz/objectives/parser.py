"""Parse the text form of objectives: addresses, functions such as `tv`, numbers, `+ - * /` and brackets."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from featviz.checks import is_made
from featviz.errors import AddressError, SettingError, caret, nearest, plain_spelling, shown
from featviz.interfaces import ObjectiveLike
from featviz.io.folders import READABLE_ENDINGS
from featviz.objectives.address import PATTERN, Address, whole_number
from featviz.objectives.algebra import Objective, named_objectives
from featviz.objectives.cosine import VECTOR_ENDINGS
from featviz.objectives.units import Layer, from_address

_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?(?![\w:.~])")
"""A number. What follows must not continue a layer name such as `0.conv` or an address such as `0:3`."""

_FILE = re.compile(r"'([^']*)'")
"""A file name in single quotes. Double quotes may also start an address."""

_ENDINGS = "|".join(map(re.escape, dict.fromkeys((*READABLE_ENDINGS, *VECTOR_ENDINGS))))
_BARE_FILE = re.compile(rf"([^'\"(),]*?({_ENDINGS}))(?=\s*[,)])", re.IGNORECASE)
"""A file name without quotes, as an argument of a function."""

_BRACKET = re.compile(r"\s*\(")
_UNIT_FORMS = "units are written layer:channel, layer:channel@y,x, layer~feature, logit:class and prob:class"


ObjectiveSource = str | ObjectiveLike
"""An objective, or the text of one."""


@dataclass(frozen=True)
class _Token:
    """A sign, a number, an objective or the name of a kind of objective, and the column where it starts."""

    column: int
    sign: str = ""
    value: Objective | float | None = None
    kind: type[Objective] | None = None


def parse(text: str, own: Mapping[str, Objective] | None = None) -> Objective:
    """Parse the text of an objective.

    Args:
        text: Such as `"stage2:5 - 0.5*logit:spiral"`.
        own: Objectives of the user that the text may name. They take precedence over layers and functions.

    Returns:
        The objective.

    Raises:
        AddressError: The text cannot be parsed; a caret marks the position.
        SettingError: It nests too many products and quotients.

    >>> parse("stage2:5 - 0.5*logit:spiral")
    Channel(layer='stage2', channel=5) - 0.5 * Logit(name='spiral', network='')
    >>> parse("stage2:5 - 0.05*tv + 10*diversity(stage2)").layers
    frozenset({'stage2'})
    """
    try:
        return _Parser(text, own or {}).parse()
    except RecursionError as error:
        raise AddressError(f"cannot parse the objective: too many nested brackets in {text[:40]}…") from error


def as_objective(source: ObjectiveSource, own: Mapping[str, Objective] | None = None) -> ObjectiveLike:
    """Return an objective from text, or from an objective as it is.

    Args:
        source: Text such as `"stage2:5 - tv"`, or an objective.
        own: Objectives of the user that text may name.

    Returns:
        The objective.

    Raises:
        AddressError: The text cannot be parsed.
        SettingError: `source` is neither text nor an objective.
    """
    if isinstance(source, str):
        return parse(source, own)
    if is_made(source, ObjectiveLike):
        return source
    hint = (
        "decorate the function with @objectives.objective('layer')" if callable(source) else "use e.g. 'layer:channel'"
    )
    raise SettingError(f"an objective must be text, or have layers and be callable, got {shown(source)}; {hint}")


def as_part(source: ObjectiveSource) -> Objective:
    """Return an objective that can be a part of another one, from text or as it is.

    Raises:
        AddressError: The text cannot be parsed.
        SettingError: `source` is not an `Objective`, with whose operators others are composed.
    """
    found = as_objective(source)
    if not isinstance(found, Objective):
        raise SettingError(
            f"only a subclass of featviz.objectives.Objective can be a part of another objective, got {shown(found)}"
        )
    return found


def as_objectives(source: ObjectiveSource | Sequence[ObjectiveSource]) -> tuple[ObjectiveLike, ...]:
    """Return objectives from one or several sources.

    Args:
        source: Text, an objective, or a sequence of these.

    Returns:
        The objectives, in the same order.

    Raises:
        AddressError: A text cannot be parsed.
        SettingError: There is none, or one is neither text nor an objective.
    """
    several = source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
    if not len(several):
        raise SettingError("there is no objective; give at least one, such as 'layer:channel'")
    return tuple(as_objective(each) for each in several)


def _tokens(text: str, own: Mapping[str, Objective]) -> Iterator[_Token]:
    """Split text into tokens. Numbers are tried before addresses, as both may start with a digit."""
    column, sign = 0, ""
    while column < len(text):
        if text[column].isspace():
            column += 1
            continue
        bare_file = _BARE_FILE.match(text, column) if sign in ("(", ",") else None
        if text[column] in "+-*/()," and not bare_file:
            sign = text[column]
            yield _Token(column, sign=sign)
            column += 1
            continue
        sign = ""
        if match := _FILE.match(text, column) or bare_file:
            # A file name becomes a `Layer` token: `_convert` turns a `Layer` into text where a field holds text, so
            # files and layers need no token kinds of their own.
            yield _Token(column, value=Layer(match[1]))
        elif match := _NUMBER.match(text, column):
            yield _Token(column, value=_parse_number(text, match))
        elif match := PATTERN.match(text, column):
            yield _parse_name(text, match, own)
        else:
            raise AddressError(
                f"cannot parse the objective: expected layer:channel@y,x or logit:class{caret(text, column)}"
            )
        column = match.end()


def _parse_number(text: str, match: re.Match[str]) -> float:
    """Return the value of a number.

    Raises:
        AddressError: The number is larger than a floating-point number can be.
    """
    number = match[0]
    value = whole_number(number) if number.isdecimal() else float(number)
    if math.isinf(value):
        raise AddressError(f"cannot parse the objective: the number is too large{caret(text, match.start())}")
    return value


def _parse_name(text: str, match: re.Match[str], own: Mapping[str, Objective]) -> _Token:
    """Return the token of a name: a value of the user's, a function, or a unit.

    A function followed by brackets is found in any spelling.

    Raises:
        AddressError: The user's value is no objective; or the name is followed by brackets, and no function has it.
    """
    name, column, known = match[0], match.start(), named_objectives()
    if name in own:
        if not isinstance(own[name], Objective):
            raise AddressError(
                f"{name!r} is not an objective; decorate the function with @objectives.objective('layer')"
            )
        return _Token(column, value=own[name])
    if _BRACKET.match(text, match.end()):
        alike = {plain_spelling(each): kind for each, kind in known.items()}
        if plain_spelling(name) not in alike:
            _refuse_call(text, column, name, list(known))
        return _Token(column, kind=alike[plain_spelling(name)])
    return _Token(column, kind=known[name]) if name in known else _Token(column, value=from_address(Address.of(match)))


def _refuse_call(text: str, column: int, name: str, known: Sequence[str]) -> NoReturn:
    """Refuse a function that does not exist.

    Raises:
        AddressError: Always.
    """
    hint = nearest(name, known) or f"; there are {', '.join(sorted(known))}, and {_UNIT_FORMS}"
    raise AddressError(f"cannot parse the objective: there is no function {name!r}{hint}{caret(text, column)}")


def _convert(kind: Any, value: Objective | float | tuple[Objective | float, ...]) -> Any:
    """Convert a parsed argument to the type of the field that it is for.

    Args:
        kind: The field's type. Fields that hold text take the name that was parsed as a layer.
        value: An objective, a number, or a tuple of objectives for a field that holds several names.

    Raises:
        TypeError: The argument does not fit.
    """
    if isinstance(kind, type) and issubclass(kind, Objective):
        if isinstance(value, Objective):
            return value
    elif kind is bool:
        if value in (0, 1):  # type: ignore[comparison-overlap]
            return bool(value)
    elif kind in (int, float):
        if isinstance(value, int if kind is int else int | float):
            return value
    elif isinstance(value, Layer):
        return value.layer
    elif isinstance(value, tuple):
        return tuple(_convert(str, each) for each in value)
    raise TypeError


def _takes_several(kind: Any) -> bool:
    """Whether a field holds any number of names."""
    return get_origin(kind) is tuple and get_args(kind) == (str, ...)


def _field_types(kind: type[Objective]) -> dict[str, Any]:
    """Return the type of each field of a kind of objective.

    Raises:
        AddressError: A type is imported under `if TYPE_CHECKING` only, so its name is not defined at run time.
    """
    try:
        return get_type_hints(kind)
    except NameError as error:
        raise AddressError(
            f"cannot read the field types of {kind.text_name!r} ({kind.__name__}): {error}; "
            "import the type outside of `if TYPE_CHECKING`"
        ) from error


class _Parser:
    """Recursive descent: a sum of products of factors. Numbers stay numbers until they meet an objective."""

    def __init__(self, text: str, own: Mapping[str, Objective]) -> None:
        self.text = text
        self.tokens = [*_tokens(text, own), _Token(len(text), sign="end")]
        self.next = 0

    def parse(self) -> Objective:
        found = self.sum()
        if self.tokens[self.next].sign != "end":
            self.fail("expected + - * / here; write a class as logit:NAME")
        if isinstance(found, int | float):
            raise AddressError(f"{self.text!r} is only a number; name a unit, e.g. layer:channel or logit:class")
        return found

    def sum(self) -> Objective | float:
        found = self.product()
        while sign := self.take("+-"):
            found = self.combine(operator.add if sign == "+" else operator.sub, found, self.product())
        return found

    def product(self) -> Objective | float:
        found = self.factor()
        while sign := self.take("*/"):
            right = self.factor()
            if sign == "/" and right == 0:
                self.fail("cannot divide by 0")
            found = self.combine(operator.mul if sign == "*" else operator.truediv, found, right)
        return found

    def combine(
        self, operation: Callable[[Any, Any], Any], left: Objective | float, right: Objective | float
    ) -> Objective | float:
        """Apply an operation; numbers must stay within the range of floating-point numbers."""
        try:
            result: Objective | float = operation(left, right)
            is_finite = isinstance(result, Objective) or math.isfinite(result)
        except OverflowError:
            is_finite = False
        if not is_finite:
            self.fail("a number before this place is too large")
        return result

    def factor(self) -> Objective | float:
        if self.take("-"):
            return -self.factor()
        if self.take("("):
            inner = self.sum()
            if not self.take(")"):
                self.fail("expected ) here")
            return inner
        token = self.tokens[self.next]
        if token.kind:
            return self.call(token.kind)
        if token.value is None:
            self.fail("expected layer:channel, logit:class or a number here")
        self.next += 1
        return token.value

    def call(self, kind: type[Objective]) -> Objective:
        """Parse a function and the arguments in its brackets: layers, files, objectives and numbers."""
        start = self.next
        self.next += 1
        given: list[Any] = []
        if self.take("(") and not self.take(")"):
            given.append(self.sum())
            while self.take(","):
                given.append(self.sum())
            if not self.take(")"):
                self.fail("expected , or ) here")
        names, kinds = [field.name for field in fields(kind)], _field_types(kind)  # type: ignore[arg-type]
        fixed = len(names) - 1
        if names and _takes_several(kinds[names[-1]]) and len(given) > fixed:
            given[fixed:] = [tuple(given[fixed:])]
        try:
            if len(given) > len(names):
                raise TypeError
            return kind(*(_convert(kinds[name], value) for name, value in zip(names, given, strict=False)))
        except (TypeError, SettingError) as error:
            self.next = start
            hint = "; write file names in quotes" if kind.files is not Objective.files else ""
            signature = f"{kind.text_name} takes {', '.join(names) or 'no arguments'}{hint}"
            self.fail(str(error if isinstance(error, SettingError) else signature))

    def take(self, signs: str) -> str:
        sign = self.tokens[self.next].sign
        if sign and sign in signs:
            self.next += 1
            return sign
        return ""

    def fail(self, why: str) -> NoReturn:
        raise AddressError(f"cannot parse the objective: {why}{caret(self.text, self.tokens[self.next].column)}")
