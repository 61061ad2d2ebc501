"""The algebra that composes objectives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import reduce
from numbers import Real
from operator import add
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.activations import Activations
from featviz.address import Address
from featviz.array import Array
from featviz.errors import SettingError
from featviz.protocols import Scene


class Objective:
    """A frozen value that gives one score per image, and composes with `+ - * /`.

    The one base class of featviz, because operators have to live on a class. To make an objective of your own,
    decorate a function with `objective`, or derive a frozen dataclass and give it `layers` and `__call__`.
    """

    binds = 3
    """How tightly its text holds together: 1 a sum, 2 a product, 3 a single term."""
    term = ""
    """Its name in text, as `tv` or `diversity(stage2)`; empty for what has an address, or no text."""
    is_unit = False
    """Whether it is a unit of a network, or several together: what a picture can be said to show."""
    couples = False
    """Whether a picture's score depends on the others of its batch."""
    whole = False
    """Whether it has to see the whole view."""
    placed = False
    """Whether it is about certain places, which are elsewhere in a view of another size."""
    silent = 0.0
    """For which share of the steps it may ask for nothing at all."""

    @property
    def layers(self) -> frozenset[str]:
        """The layers to capture."""
        raise NotImplementedError

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return one score for each image; more is better.

        Raises:
            SettingError: it has to be bound to a render first.
        """
        raise SettingError(f"{self} has to see its picture first; hand it to fv.render, or bind it")

    def bind(self, scene: Scene) -> Objective:
        """Return what will score this render: itself, unless it has to read or capture something before."""
        return self

    @property
    def less(self) -> bool:
        """Whether it is below zero by its sign, so that what it multiplies is asked for less of."""
        return False

    def shown_at(self, place: float = 0.0) -> Objective | None:
        """Return the first unit that it asks for more of, if there is one: what a picture made for it shows.

        Args:
            place: of the picture in its batch, from 0 for the first to 1 for the last.
        """
        return self if self.is_unit else None

    def __str__(self) -> str:
        """Write its text, or the expression where it has none, without the numbers of its arrays."""
        name = self.term or type(self).__name__
        if not self.term and not any(isinstance(value, Array) for value in vars(self).values()):
            return repr(self)
        given = [(getattr(self, field.name), field.default) for field in fields(self)]  # type: ignore[arg-type]
        while given and given[-1][0] == given[-1][1]:
            given.pop()
        return f"{name}({', '.join(_show(value) for value, _ in given)})" if given else name

    def __add__(self, other: Objective | float) -> Objective:
        return _sum(self, other)

    def __radd__(self, other: float) -> Objective:
        return _sum(other, self)

    def __sub__(self, other: Objective | float) -> Objective:
        return _sum(self, -_as_term(other))

    def __rsub__(self, other: float) -> Objective:
        return _sum(other, -self)

    def __mul__(self, other: Objective | float) -> Objective:
        return Product(self, _as_term(other))

    def __rmul__(self, other: float) -> Objective:
        return Product(_as_term(other), self)

    def __truediv__(self, other: Objective | float) -> Objective:
        return Quotient(self, _as_term(other))

    def __rtruediv__(self, other: float) -> Objective:
        return Quotient(_as_term(other), self)

    def __neg__(self) -> Objective:
        return Negative(self)


def terms() -> dict[str, type[Objective]]:
    """Return the objectives that text can name, also those of one's own."""
    return {kind.term: kind for kind in _kinds(Objective) if kind.term}


def _kinds(kind: type[Objective]) -> Iterator[type[Objective]]:
    for below in kind.__subclasses__():
        yield below
        yield from _kinds(below)


def show_name(name: str) -> str:
    """Write a layer or a file so that text reads it as one, and not as a term."""
    return json.dumps(name) if name in terms() else str(Address(name))


def _show(value: Any) -> str:
    """Write an argument as text can be read; numbers without a text are left out."""
    if isinstance(value, str):
        return show_name(value)
    return "…" if isinstance(value, Array) else str(int(value) if isinstance(value, bool) else value)


def _as_term(value: Objective | float) -> Objective:
    if isinstance(value, Objective):
        return value
    if isinstance(value, Real):
        return Constant(value if isinstance(value, int | float) else float(value))
    raise SettingError(f"an objective composes with numbers and objectives, not with {value!r}")


def _sum(left: Objective | float, right: Objective | float) -> Objective:
    """Add up, keeping sums flat: hundreds of terms are one level deep."""
    terms = [*_terms(_as_term(left)), *_terms(_as_term(right))]
    while isinstance(terms[0], Constant) and isinstance(terms[1], Constant):  # as Python adds numbers up from the left
        terms[:2] = [Constant(terms[0].value + terms[1].value)]
    return Sum(tuple(terms))


def _terms(objective: Objective) -> tuple[Objective, ...]:
    return objective.terms if isinstance(objective, Sum) else (objective,)


def _bracket(part: Objective, least: int, show: Callable[[Objective], str]) -> str:
    return show(part) if part.binds >= least else f"({show(part)})"


@dataclass(frozen=True, repr=False)
class Constant(Objective):
    """A number in an expression."""

    value: float

    @property
    def binds(self) -> int:  # type: ignore[override]
        """A negative number wants brackets inside a product."""
        return 3 if self.value >= 0 else 1

    @property
    def less(self) -> bool:
        return self.value < 0

    @property
    def layers(self) -> frozenset[str]:
        return frozenset()

    def __call__(self, acts: Activations) -> Any:
        return self.value

    def __neg__(self) -> Objective:
        return Constant(-self.value)

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, repr=False)
class Composite(Objective):
    """What sums, products and the like share: text and layers follow from the parts."""

    @property
    def parts(self) -> tuple[Objective, ...]:
        """The objectives it is made of."""
        raise NotImplementedError

    @property
    def layers(self) -> frozenset[str]:
        return frozenset().union(*(part.layers for part in self.parts))

    @property
    def whole(self) -> bool:  # type: ignore[override]
        """Whether any part has to see the whole view."""
        return any(part.whole for part in self.parts)

    @property
    def placed(self) -> bool:  # type: ignore[override]
        """Whether any part is about certain places."""
        return any(part.placed for part in self.parts)

    @property
    def couples(self) -> bool:  # type: ignore[override]
        return any(part.couples for part in self.parts)

    @property
    def silent(self) -> float:  # type: ignore[override]
        return max(part.silent for part in self.parts)

    def shown_at(self, place: float = 0.0) -> Objective | None:
        return next(filter(None, (part.shown_at(place) for part in self.parts)), None)

    def bind(self, scene: Scene) -> Objective:
        def bound(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(bound, value))
            return value.bind(scene) if isinstance(value, Objective) else value

        return replace(self, **{field.name: bound(getattr(self, field.name)) for field in fields(self)})

    def text(self, show: Callable[[Objective], str]) -> str:
        """Write the expression, each part as `show` writes it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.text(repr)

    def __str__(self) -> str:
        return self.text(str)


@dataclass(frozen=True, repr=False)
class Sum(Composite):
    """Terms added up."""

    terms: tuple[Objective, ...]
    binds = 1

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.terms

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return reduce(add, (term(acts) for term in self.terms))

    def text(self, show: Callable[[Objective], str]) -> str:
        first, *rest = self.terms
        text = _bracket(first, 1, show)
        for term in rest:
            minus = isinstance(term, Negative) or (isinstance(term, Constant) and term.value < 0)
            text += f" - {_bracket(-term, 2, show)}" if minus else f" + {_bracket(term, 2, show)}"
        return text


@dataclass(frozen=True, repr=False)
class Negative(Composite):
    """The opposite."""

    part: Objective
    binds = 1

    @property
    def parts(self) -> tuple[Objective, ...]:
        return (self.part,)

    @property
    def less(self) -> bool:
        return not self.part.less

    def shown_at(self, place: float = 0.0) -> Objective | None:
        return None

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return -self.part(acts)

    def __neg__(self) -> Objective:
        return self.part

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"-{_bracket(self.part, 3, show)}"


@dataclass(frozen=True, repr=False)
class Product(Composite):
    """Two factors multiplied."""

    left: Objective
    right: Objective
    binds = 2

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.left, self.right

    @property
    def less(self) -> bool:
        return self.left.less != self.right.less

    def shown_at(self, place: float = 0.0) -> Objective | None:
        return None if self.less else super().shown_at(place)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.left(acts) * self.right(acts)

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"{_bracket(self.left, 2, show)} * {_bracket(self.right, 3, show)}"


@dataclass(frozen=True, repr=False)
class Quotient(Composite):
    """One objective divided by another."""

    left: Objective
    right: Objective
    binds = 2

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.left, self.right

    @property
    def less(self) -> bool:
        return self.left.less != self.right.less

    def shown_at(self, place: float = 0.0) -> Objective | None:
        return None if self.less else self.left.shown_at(place)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.left(acts) / self.right(acts)

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"{_bracket(self.left, 2, show)} / {_bracket(self.right, 3, show)}"


@dataclass(frozen=True, repr=False)
class Own(Objective):
    """A function of one's own as an objective; made by `objective`."""

    names: tuple[str, ...]
    function: Callable[[Activations], Float[Tensor, " n"]]

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.names)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.function(acts)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def objective(*layers: str) -> Callable[[Callable[[Activations], Float[Tensor, " n"]]], Own]:
    """Make a function an objective: name the layers it reads, return one score per image.

    The function gets `acts`: `acts[layer]` is the tensor as the layer put it out, `acts.units(layer)` has its
    channels as dimension 1 whatever the network, `acts.canvas` is the pictures before any transform.

    >>> @objective("stage1")
    ... def corner(acts):
    ...     return acts["stage1"][:, 3, 0, 0]
    >>> 2 * corner
    2 * corner
    """
    if not all(isinstance(layer, str) for layer in layers):
        raise SettingError("name the layers that the function reads: @objective('layer')")
    return lambda function: Own(layers, function)
