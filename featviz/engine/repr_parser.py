"""Rebuild frozen values from their repr without evaluating code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from featviz.errors import FeatvizError, RecipeError, SettingError, nearest, plain_spelling

_NAME = re.compile(r"[A-Za-z_][\w\- ]*")
"""A name as people type it."""
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse_repr(text: str, names: Mapping[str, Any]) -> Any:
    """Rebuild a value from its repr, using known names only. Nothing is evaluated.

    Understands calls of known names, numbers, strings, tuples, lists and `+ - * /`.

    Args:
        text: A repr.
        names: Values that the text may name.

    Raises:
        RecipeError: The text contains anything else.

    >>> parse_repr("Pixel(std=0.1)", {"Pixel": lambda std: ("pixels", std)})
    ('pixels', 0.1)
    """
    try:
        return _parse(ast.parse(text, mode="eval").body, names)
    except FeatvizError:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        reason = f" ({error})" if isinstance(error, TypeError) else ""
        short = text if len(text) <= 80 else f"{text[:80]}…"
        raise RecipeError(f"cannot parse {short!r}{reason}; give a name, or a call as in Python") from error


def parse_value(text: str, package: ModuleType, own: Mapping[str, Any] | None = None) -> Any:
    """Return a public value of a package by its name, or rebuild it from its repr.

    Names are found in any case, with or without hyphens and underscores, and by their synonyms: `grad-cam`, `IG`,
    `gradcam(layer='stage2')`.

    Args:
        text: Such as `lucid` or `Fourier(decay=1.5)`.
        package: `featviz.param`, `featviz.transforms`, `featviz.optimizers` or `featviz.methods`.
        own: Further values that the text may name.

    Raises:
        SettingError: There is no such name.
        RecipeError: The text cannot be parsed.
    """
    public = {name: getattr(package, name) for name in package.__all__}
    names = {name: value for name, value in public.items() if not isinstance(value, FunctionType)} | dict(own or {})
    is_name, plain = bool(_NAME.fullmatch(text)), plain_spelling(text)
    known = package.SYNONYMS | {plain_spelling(name): name for name in names}
    value = names.get(known.get(plain, "")) if is_name else None
    if value is not None:
        try:
            return value() if isinstance(value, type) else value
        except TypeError as error:
            raise SettingError(f"{text!r} needs arguments; write it as a call, {value.__name__}(...)") from error
    if is_name:
        raise SettingError(f"there is no {text!r} in {package.__name__.rpartition('.')[2]}{nearest(text, names)}")
    return parse_repr(text, _AnySpelling(names, known))


class _AnySpelling(dict[str, Any]):
    """Values by name, where a name may also have another case or be a synonym.

    Args:
        names: Values by their name.
        known: The names by their plain spelling, and by that of their synonyms.
    """

    def __init__(self, names: Mapping[str, Any], known: Mapping[str, str]) -> None:
        super().__init__(names)
        self.known = known

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a name, in any spelling."""
        return super().__contains__(self._own(name))

    def __getitem__(self, name: str) -> Any:
        """Return the value of a name in any spelling."""
        return super().__getitem__(self._own(name))

    def _own(self, name: object) -> str:
        return str(name) if super().__contains__(name) else self.known.get(plain_spelling(str(name)), "")


def _parse(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(value for item in items for value in _spread(item, names))
        case ast.Name(id=name):
            if name not in names:
                raise RecipeError(
                    f"{name!r} is no name of featviz{nearest(name, names)}; if it is your own, add "
                    f"--own path/to/file.py:{name} (the text in an image file never runs code)"
                )
            return names[name]
        case ast.Call(func=ast.Name() as function, args=items, keywords=keywords):
            given = {str(keyword.arg): _parse(keyword.value, names) for keyword in keywords}
            return _parse(function, names)(*(_parse(item, names) for item in items), **given)
        case ast.Call(func=ast.Attribute(value=ast.Name("np"), attr=kind), args=[number], keywords=[]):
            return _number(kind, _parse(number, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_parse(operand, names)
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            return _chain(node, names)
    raise RecipeError(
        f"{ast.unparse(node)!r} is not allowed; only calls of known names, numbers, strings, tuples and + - * / are"
    )


def _number(kind: str, value: Any) -> int | float:
    """Read the repr of a numpy number, such as np.float64(0.5)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"np.{kind} needs a number, got {value!r}")
    return int(value) if "int" in kind else float(value)


def _spread(node: ast.expr, names: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the item of a tuple, or all items of a starred one."""
    if not isinstance(node, ast.Starred):
        return (_parse(node, names),)
    value = _parse(node.value, names)
    if not isinstance(value, tuple):
        raise RecipeError(f"{ast.unparse(node)!r} is no tuple, so it cannot be starred")
    return value


def _chain(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Evaluate a chain of operators in a loop: a sum of hundreds of terms is nested hundreds deep on its left."""
    chain: list[tuple[Callable[[Any, Any], Any], ast.expr]] = []
    left = node
    while isinstance(left, ast.BinOp) and type(left.op) in _OPERATORS:
        chain.append((_OPERATORS[type(left.op)], left.right))
        left = left.left
    value = _parse(left, names)
    for combine, node in reversed(chain):
        right = _parse(node, names)
        if isinstance(value, str | tuple) or isinstance(right, str | tuple):  # "a" * 10000000000 is no objective
            raise RecipeError(
                "only numbers and objectives can be added or multiplied; list transforms as (*standard, Noise(0.02))"
            )
        value = combine(value, right)
    return value
