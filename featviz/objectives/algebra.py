"""The algebra of objectives: frozen values that compose with `+ - * /` and print as text that parses again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import reduce
from numbers import Real
from operator import add, mul, or_, truediv
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.checks import check_text
from featviz.errors import SettingError, shown
from featviz.interfaces import Bindable, RenderContext, Traits, traits_of
from featviz.io import Array
from featviz.network.activations import Activations
from featviz.objectives.address import Address

MAX_DEPTH = 50
"""Largest number of nested composites in a product. Sums are flat, however many terms they have."""
SUM, PRODUCT, ATOM = 1, 2, 3
"""Precedence of a sum, a product and anything else in text."""


class Objective:
    """A frozen value that gives one score per image and composes with `+ - * /`.

    To write your own, decorate a function with `objective`, or derive a frozen dataclass and give it `__call__` and a
    field `layer` (or a property `layers`). `docs/own-objective.md` shows both.
    """

    layer: str
    """Name of the one layer that most objectives read."""
    text_name = ""
    """Name in text, such as `tv` or `diversity(stage2)`; empty for objectives with an address or without a text form.
    A class with such a name can be parsed once it is imported."""
    precedence = ATOM
    """Precedence of its text: `SUM`, `PRODUCT` or `ATOM`."""

    def __post_init__(self) -> None:
        """Check the name of the layer, for objectives with such a field."""
        if is_dataclass(self) and any(each.name == "layer" for each in fields(self)):
            check_text(f"layer of {type(self).__name__}", self.layer)

    @property
    def layers(self) -> frozenset[str]:
        """Names of the layers to capture; by default its one `layer`."""
        return frozenset({self.layer})

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that it reads; a recipe stores their hashes."""
        return ()

    @property
    def traits(self) -> Traits:
        """What the engine needs to know about it besides its layers and its score."""
        return Traits()

    @property
    def is_negative(self) -> bool:
        """Whether its sign is negative, so that the other factor of a product with it is minimised."""
        return False

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return one score per image; higher is better.

        Raises:
            SettingError: It must be bound to a render first.
        """
        raise SettingError(f"{self} must be bound to a render before it can score; pass it to fv.render or fv.score")

    def bind(self, context: RenderContext) -> Objective:
        """Return the objective that scores a render: by default itself.

        Args:
            context: Facts about the render, and a function that runs the network.
        """
        return self

    @property
    def fused_key(self) -> Hashable:
        """Key of the objectives that one call of `score_fused` scores together; `None` if it is scored alone."""
        return None

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        """Return one score per image, each by an objective of its own. Scoring many at once takes fewer operations.

        Args:
            members: The objective of each image. All have the same `fused_key` as this one.
            acts: Activations of all images.
        """
        return self(acts)

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        """Return the first unit that it maximises: what an image of it shows. `None` if there is none.

        Args:
            position: Position of the image in its batch, from 0 for the first to 1 for the last.
        """
        return None

    def __str__(self) -> str:
        """Return its text, or its repr where it has none, without the numbers of its arrays."""
        name = self.text_name or type(self).__name__
        if not self.text_name and not any(isinstance(value, Array) for value in vars(self).values()):
            return repr(self)
        given = [(getattr(self, field.name), field.default) for field in fields(self)]  # type: ignore[arg-type]
        while given and given[-1][0] == given[-1][1]:
            given.pop()
        return f"{name}({', '.join(_argument_text(value) for value, _ in given)})" if given else name

    def __add__(self, other: Objective | float) -> Objective:
        return _sum(self, other)

    def __radd__(self, other: float) -> Objective:
        return _sum(other, self)

    def __sub__(self, other: Objective | float) -> Objective:
        return _sum(self, -_as_objective(other))

    def __rsub__(self, other: float) -> Objective:
        return _sum(other, -self)

    def __mul__(self, other: Objective | float) -> Objective:
        return Product(self, _as_objective(other))

    def __rmul__(self, other: float) -> Objective:
        return Product(_as_objective(other), self)

    def __truediv__(self, other: Objective | float) -> Objective:
        return Quotient(self, _as_objective(other))

    def __rtruediv__(self, other: float) -> Objective:
        return Quotient(_as_objective(other), self)

    def __neg__(self) -> Objective:
        return Negative(self)


class Unit(Objective):
    """An objective that is itself what an image shows: a neuron, channel, layer, class or direction."""

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        """Return itself."""
        return self


# ---------------------------------------------------------------------------------------------- text


def named_objectives() -> dict[str, type[Objective]]:
    """Return all objectives that text can name, including the user's, by their `text_name`."""
    return {kind.text_name: kind for kind in _subclasses(Objective) if kind.text_name}


def _subclasses(kind: type[Objective]) -> Iterator[type[Objective]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def quote_name(name: str) -> str:
    """Quote the name of a layer or a file where text would read it as a function."""
    return json.dumps(name) if name in named_objectives() else str(Address(name))


def _argument_text(value: Any) -> str:
    """Return an argument as text; the numbers of arrays have none."""
    if isinstance(value, str):
        return quote_name(value)
    return "…" if isinstance(value, Array) else str(int(value) if isinstance(value, bool) else value)


def _bracket(part: Objective, least: int, show: Callable[[Objective], str]) -> str:
    """Return the text of a part, in brackets if its precedence is lower than `least`."""
    return show(part) if part.precedence >= least else f"({show(part)})"


# ---------------------------------------------------------------------------------------------- nodes of the tree


def _as_objective(value: Objective | float) -> Objective:
    if isinstance(value, Objective):
        return value
    if isinstance(value, Real):
        number = value if isinstance(value, int | float) else float(value)
        if not abs(number) <= sys.float_info.max:
            raise SettingError(f"numbers in an objective must be finite, got {shown(number)}")
        return Constant(number)
    raise SettingError(f"an objective composes with numbers and objectives, not with {value!r}")


def _sum(left: Objective | float, right: Objective | float) -> Objective:
    """Add two objectives. Sums stay flat, so hundreds of terms do not reach the recursion limit."""
    terms = [*_summands(_as_objective(left)), *_summands(_as_objective(right))]
    # Python adds the leading numbers of `1 + 2 + tv` before they meet the objective, so `1 + (2 + tv)`, which would
    # print as the same text, must give the same value.
    while len(terms) > 1 and isinstance(terms[0], Constant) and isinstance(terms[1], Constant):
        terms[:2] = [_as_objective(terms[0].value + terms[1].value)]
    return Sum(tuple(terms)) if len(terms) > 1 else terms[0]


def _summands(objective: Objective) -> tuple[Objective, ...]:
    return objective.terms if isinstance(objective, Sum) else (objective,)


@dataclass(frozen=True, repr=False)
class Constant(Objective):
    """A number in an expression."""

    value: float

    @property
    def precedence(self) -> int:  # type: ignore[override]
        """A negative number needs brackets inside of a product."""
        return ATOM if self.value >= 0 else SUM

    @property
    def is_negative(self) -> bool:
        return self.value < 0

    @property
    def layers(self) -> frozenset[str]:
        return frozenset()

    @property
    def fused_key(self) -> Hashable:
        return self

    def __call__(self, acts: Activations) -> Any:
        return self.value

    def __neg__(self) -> Objective:
        return Constant(-self.value)

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, repr=False)
class Composite(Objective):
    """Base class of objectives made of others: layers, traits and text follow from their parts."""

    @property
    def parts(self) -> tuple[Objective, ...]:
        """The objectives that it is made of."""
        raise NotImplementedError

    @property
    def layers(self) -> frozenset[str]:
        return frozenset().union(*(part.layers for part in self.parts))

    @property
    def traits(self) -> Traits:
        return reduce(or_, map(traits_of, self.parts), Traits())

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        return next(filter(None, (part.shown_unit(position) for part in self.parts)), None)

    def bind(self, context: RenderContext) -> Objective:
        def bound(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(bound, value))
            return value.bind(context) if isinstance(value, Bindable) else value

        return replace(self, **{field.name: bound(getattr(self, field.name)) for field in fields(self)})

    def text(self, show: Callable[[Objective], str]) -> str:
        """Return the expression as text.

        Args:
            show: `str` or `repr`, applied to each part.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.text(repr)

    def __str__(self) -> str:
        return self.text(str)


@dataclass(frozen=True, repr=False)
class Arithmetic(Composite):
    """Base class of sums, products, quotients and negatives, whose score follows from the scores of their parts."""

    def combined(self, *scores: Any) -> Float[Tensor, " n"]:
        """Return the score.

        Args:
            scores: The score of each part, (n,); a number for a constant.
        """
        raise NotImplementedError

    @property
    def fused_key(self) -> Hashable:
        keys = tuple(part.fused_key for part in self.parts)
        return None if None in keys else (type(self), keys)

    def score_fused(self, members: Sequence[Any], acts: Activations) -> Float[Tensor, " n"]:
        columns = zip(*(member.parts for member in members), strict=True)
        return self.combined(*(part.score_fused(each, acts) for part, each in zip(self.parts, columns, strict=True)))

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.combined(*(part(acts) for part in self.parts))


@dataclass(frozen=True, repr=False)
class Sum(Arithmetic):
    """The sum of several terms."""

    terms: tuple[Objective, ...]
    precedence = SUM

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.terms

    def combined(self, *scores: Any) -> Float[Tensor, " n"]:
        return reduce(add, scores)

    def text(self, show: Callable[[Objective], str]) -> str:
        first, *rest = self.terms
        text = _bracket(first, SUM, show)
        for term in rest:
            minus = isinstance(term, Negative) or (isinstance(term, Constant) and term.value < 0)
            text += f" - {_bracket(-term, PRODUCT, show)}" if minus else f" + {_bracket(term, PRODUCT, show)}"
        return text


@dataclass(frozen=True, repr=False)
class Negative(Arithmetic):
    """The negative of an objective."""

    part: Objective
    precedence = SUM

    @property
    def parts(self) -> tuple[Objective, ...]:
        return (self.part,)

    @property
    def is_negative(self) -> bool:
        return not self.part.is_negative

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        return None

    def combined(self, *scores: Any) -> Float[Tensor, " n"]:
        return -scores[0]  # type: ignore[no-any-return]

    def __neg__(self) -> Objective:
        return self.part

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"-{_bracket(self.part, ATOM, show)}"


def _depth(objective: Objective) -> int:
    """Return how many composites are nested in an objective."""
    return 1 + max(map(_depth, objective.parts), default=0) if isinstance(objective, Composite) else 0


@dataclass(frozen=True, repr=False)
class _Binary(Arithmetic):
    """Two objectives joined by `*` or `/`."""

    left: Objective
    right: Objective
    precedence = PRODUCT

    def __post_init__(self) -> None:
        """Check that products are not nested so deeply that Python could not follow them."""
        if _depth(self) > MAX_DEPTH:
            raise SettingError(f"an objective may nest at most {MAX_DEPTH} products and quotients; give a shorter one")

    @property
    def parts(self) -> tuple[Objective, ...]:
        return self.left, self.right

    @property
    def is_negative(self) -> bool:
        return self.left.is_negative != self.right.is_negative


@dataclass(frozen=True, repr=False)
class Product(_Binary):
    """The product of two objectives."""

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        return None if self.is_negative else super().shown_unit(position)

    def combined(self, *scores: Any) -> Float[Tensor, " n"]:
        return mul(*scores)  # type: ignore[no-any-return]

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"{_bracket(self.left, PRODUCT, show)} * {_bracket(self.right, ATOM, show)}"


@dataclass(frozen=True, repr=False)
class Quotient(_Binary):
    """One objective divided by another."""

    def shown_unit(self, position: float = 0.0) -> Objective | None:
        return None if self.is_negative else self.left.shown_unit(position)

    def combined(self, *scores: Any) -> Float[Tensor, " n"]:
        return truediv(*scores)  # type: ignore[no-any-return]

    def text(self, show: Callable[[Objective], str]) -> str:
        return f"{_bracket(self.left, PRODUCT, show)} / {_bracket(self.right, ATOM, show)}"


# ---------------------------------------------------------------------------------------------- user functions


@dataclass(frozen=True, repr=False)
class FunctionObjective(Objective):
    """A function as an objective; made by the decorator `objective`.

    Args:
        names: Names of the layers that the function reads.
        function: Returns one score per image.
        declared: The traits of the function.
    """

    names: tuple[str, ...]
    function: Callable[[Activations], Float[Tensor, " n"]]
    declared: Traits = Traits()

    @property
    def layers(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def traits(self) -> Traits:
        return self.declared

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        return self.function(acts)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)


def objective(
    *layers: str, traits: Traits = Traits()
) -> Callable[[Callable[[Activations], Float[Tensor, " n"]]], FunctionObjective]:
    """Decorate a function that returns one score per image, to make it an objective.

    The function gets `acts`: `acts[layer]` is the output of a layer, `acts.channels_first(layer)` the same with
    channels as dimension 1 for any network, and `acts.images` are the images before any transform.

    Args:
        layers: Names of the layers that the function reads.
        traits: What the engine needs to know about it; the defaults suit most functions.

    Returns:
        A decorator that returns a `FunctionObjective`.

    Raises:
        SettingError: The layers are not text, for example because the brackets after `@objective` are missing.

    >>> @objective("stage1")
    ... def corner(acts):
    ...     return acts["stage1"][:, 3, 0, 0]
    >>> 2 * corner
    2 * corner
    """
    if not all(isinstance(layer, str) for layer in layers):
        raise SettingError("@objective needs the names of the layers that the function reads: @objective('layer')")
    return lambda function: FunctionObjective(layers, function, traits)
