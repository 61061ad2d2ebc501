"""Values written down as text, and built again from it: calls of known names, and nothing that could run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from featviz.errors import FeatvizError, RecipeError, SettingError, nearest

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def build(expression: str, names: Mapping[str, Any]) -> Any:
    """Build the value that a repr describes, from known names only.

    Calls of known names, numbers, strings, tuples and `+ - * /` are all it understands.

    Args:
        expression: a repr.
        names: what may be named in it.

    Raises:
        RecipeError: it names or does anything else.

    >>> build("Pixel(sd=0.1)", {"Pixel": lambda sd: ("pixels", sd)})
    ('pixels', 0.1)
    """
    try:
        return _build(ast.parse(expression, mode="eval").body, names)
    except FeatvizError:
        raise
    except (SyntaxError, ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        why = f" ({error})" if isinstance(error, TypeError) else ""
        short = expression if len(expression) <= 80 else f"{expression[:80]}…"
        raise RecipeError(f"cannot read {short!r}{why}; give a name, or a call as Python writes it") from error


def pick(text: str, drawer: ModuleType, own: Mapping[str, Any] | None = None) -> Any:
    """Take something out of a drawer by its name in any case, or build it from an expression.

    Args:
        text: such as `lucid` or `Fourier(decay=1.5)`.
        drawer: `featviz.param` or `featviz.transforms`.
        own: what else may be named.

    Raises:
        SettingError: there is no such name.
        RecipeError: the expression cannot be read.
    """
    drawn = {name: getattr(drawer, name) for name in drawer.__all__}
    names = {name: value for name, value in drawn.items() if not isinstance(value, FunctionType)} | dict(own or {})
    found = next((value for name, value in names.items() if name.lower() == text.lower()), None)
    if found is not None:
        try:
            return found() if isinstance(found, type) else found
        except TypeError as error:
            raise SettingError(f"{text!r} needs arguments; write it as a call, {found.__name__}(...)") from error
    if text.isidentifier():
        raise SettingError(f"there is no {text!r} in {drawer.__name__.rpartition('.')[2]}{nearest(text, names)}")
    return build(text, names)


def _build(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(value for item in items for value in _spread(item, names))
        case ast.Name(id=name):
            if name not in names:
                raise RecipeError(
                    f"{name!r} is not one of featviz's names{nearest(name, names)}; if it is your own, give it: "
                    f"--own path/to/file.py:{name} (a picture never runs code)"
                )
            return names[name]
        case ast.Call(func=ast.Name() as function, args=items, keywords=keywords):
            given = {str(keyword.arg): _build(keyword.value, names) for keyword in keywords}
            return _build(function, names)(*(_build(item, names) for item in items), **given)
        case ast.Call(func=ast.Attribute(value=ast.Name("np"), attr=kind), args=[number], keywords=[]):
            return _number(kind, _build(number, names))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_build(operand, names)
        case ast.BinOp(op=op) if type(op) in _OPERATORS:
            return _chain(node, names)
    raise RecipeError(f"{ast.unparse(node)!r} is no value; calls of known names, numbers, strings and tuples are")


def _number(kind: str, value: Any) -> int | float:
    """Read one of numpy's numbers, as np.float64(0.5)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecipeError(f"np.{kind} of {value!r} is no number")
    return int(value) if "int" in kind else float(value)


def _spread(node: ast.expr, names: Mapping[str, Any]) -> tuple[Any, ...]:
    """Build one item of a tuple, or all that a starred one stands for."""
    if not isinstance(node, ast.Starred):
        return (_build(node, names),)
    value = _build(node.value, names)
    if not isinstance(value, tuple):
        raise RecipeError(f"{ast.unparse(node)!r} is no tuple, so it cannot be spread")
    return value


def _chain(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Go down the left side in a loop: a sum of hundreds of terms is hundreds deep there."""
    chain: list[tuple[Callable[[Any, Any], Any], ast.expr]] = []
    left = node
    while isinstance(left, ast.BinOp) and type(left.op) in _OPERATORS:
        chain.append((_OPERATORS[type(left.op)], left.right))
        left = left.left
    value = _build(left, names)
    for combine, node in reversed(chain):
        right = _build(node, names)
        if isinstance(value, str | tuple) or isinstance(right, str | tuple):  # "a" * 10000000000 is no objective
            raise RecipeError("only numbers and objectives can be added up or multiplied")
        value = combine(value, right)
    return value
