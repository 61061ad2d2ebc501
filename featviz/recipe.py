"""How a picture was made, as text that makes it again and runs nothing."""

from __future__ import annotations

import ast
import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from featviz.errors import FeatvizError, RecipeError, SettingError, nearest
from featviz.output import read_recipe

FORMAT = 3

EXPECTS = ("size", "mean", "std", "order", "layout", "smooth_pools")
"""What a network is told besides its name and weights."""
FILES = ("mask", "picture", "pictures", "prior")
"""Fields of objectives and params that may name a file."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a picture.

    Args:
        model: what `fv.load` calls the network; empty for a module made in Python.
        weights: `default`, `none` or the file they came from.
        fingerprint: a hash of the weights.
        expects: the network's `EXPECTS`.
        objectives: their expressions.
        param: its expression.
        transforms: their expression.
        optimizer: its expression.
        plan: its expression.
        size: height and width in px.
        steps: as asked for.
        until: where the render stopped, if that was earlier.
        seeds: one for each picture.
        start: the file it started from, or `TENSOR`, or `None`.
        start_fingerprint: a hash of the images it started from.
        machine: versions, device and threads, on which the last bits depend.
        files: those that the expressions name, and a hash of what is in each.
        picture: which one of the batch this file shows; `None` means a sheet of them all.
        shown: height and width in px at which it was drawn again; `None` means as it was made.
        dream: the settings of `fv.dream`, where that made it.
        classes: those that the objectives name, and which numbers they had.
    """

    model: str
    weights: str | None
    fingerprint: str
    expects: Mapping[str, Any]
    objectives: tuple[str, ...]
    param: str
    transforms: str
    optimizer: str
    plan: str
    size: tuple[int, int]
    steps: int
    until: int | None
    seeds: tuple[int, ...]
    start: str | None
    start_fingerprint: str | None
    machine: Mapping[str, str]
    files: Mapping[str, str]
    picture: int | None = None
    shown: tuple[int, int] | None = None
    dream: Mapping[str, Any] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)

    TENSOR: ClassVar[str] = "an image made in Python"
    """What `start` says of an image that came from no file."""

    @classmethod
    def of(cls, path: str | Path | bytes) -> Recipe:
        """Read the recipe inside a picture, which may be given as the bytes in its file.

        Raises:
            OutputError: the file is missing or no picture.
            RecipeError: it holds no recipe, or one that cannot be read.
        """
        return cls.from_json(read_recipe(path if isinstance(path, bytes) else Path(path)))

    def arguments(self, names: Mapping[str, Any], transforms: Any = None) -> dict[str, Any]:
        """Build what to call `fv.render` with, besides the network.

        Args:
            names: what its expressions may name.
            transforms: the stack, where the recipe cannot build it; `None` means that it can.

        Raises:
            RecipeError: they name anything else, or a file that they name holds something else now.
        """
        try:
            transforms = build(self.transforms, names) if transforms is None else transforms
        except RecipeError as error:
            raise RecipeError(f"{error}; or give the whole stack by hand: fv.replay(..., transforms=...)") from error
        objectives = [build(text, names) for text in self.objectives]
        param = build(self.param, names)
        self.check_files(*objectives, param)
        return {
            "objective": objectives,
            "param": param,
            "transforms": transforms,
            "optimizer": build(self.optimizer, names),
            "plan": build(self.plan, names),
            "steps": self.steps,
            "until": self.until,
            "seed": self.seeds,
            "start": self.start,
        }

    def check_files(self, *values: Any) -> None:
        """Make sure that the files that objectives and params name hold what they held.

        Raises:
            RecipeError: one is missing or holds something else now.
        """
        for file, content in files_of(*values).items():
            if self.files.get(file) != content:
                raise RecipeError(f"the picture was made with the file {file}, which is missing or holds another now")

    def check_classes(self, heads: Mapping[str, Sequence[str]], *objectives: Any) -> None:
        """Make sure that the classes that objectives name have the numbers that they had.

        Args:
            heads: the network's class names.
            objectives: those of the recipe.

        Raises:
            RecipeError: one has another number now.
        """
        for name, number in classes_of(heads, *objectives).items():
            if self.classes.get(name, number) != number:
                found = f"the picture shows class {name!r}, which was number {self.classes[name]} and is {number} here"
                raise RecipeError(f"{found}; give the network with the class names that it was made with")

    def only(self, picture: int) -> Recipe:
        """Say which picture of the batch is shown."""
        return replace(self, picture=picture)

    @property
    def alone(self) -> Recipe:
        """The recipe of the one picture that is shown, where the others of its batch had no part in it."""
        if self.picture is None or self.start is not None or len(self.objectives) != len(self.seeds):
            return self
        i = self.picture
        named = {name: number for name, number in self.classes.items() if repr(name) in self.objectives[i]}
        return replace(self, objectives=(self.objectives[i],), seeds=(self.seeds[i],), classes=named, picture=None)

    def about(self, objective: Any, seed: int, heads: Mapping[str, Sequence[str]]) -> Recipe:
        """Say what the same settings make of another objective and seed.

        Args:
            objective: the other one.
            seed: the other one.
            heads: the network's class names.
        """
        return replace(self, objectives=(repr(objective),), seeds=(seed,), classes=classes_of(heads, objective))

    def to_json(self) -> str:
        """Write it down."""
        return json.dumps({"featviz": FORMAT, **asdict(self)}, sort_keys=True, default=_plain)

    @property
    def hash(self) -> str:
        """A name for what it makes: the same for the same picture, but for rounding.

        Neither the names of the files it came from count, nor the machine, nor what else was in its batch.
        """
        names = ("machine", "plan", "model", "weights", "start", "files")
        decides = {key: value for key, value in asdict(self.alone).items() if key not in names}
        if not decides["classes"]:
            del decides["classes"]
        if self.dream is not None:
            decides["dream"] = {key: value for key, value in self.dream.items() if key != "mask"}  # the param has it
        text = json.dumps(decides, sort_keys=True, default=_plain)
        for name, content in self.files.items():
            text = text.replace(json.dumps(repr(name))[1:-1], content)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read it back.

        Raises:
            RecipeError: it is not a recipe, or a later featviz wrote it.
        """
        try:
            found = json.loads(text)
            version = found.pop("featviz")
            if version != FORMAT:
                raise RecipeError(f"the recipe has format {version}, this featviz reads {FORMAT}; use another version")
            known = {field.name for field in fields(cls)}
            recipe = cls(**{key: _frozen(value) for key, value in found.items() if key in known})
            if set(recipe.expects) != set(EXPECTS):
                raise ValueError("expects")
            return recipe
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecipeError("the recipe cannot be read; was the file changed?") from error


def fingerprint(images: Float[Tensor, "n c h w"]) -> str:
    """Return a hash of images."""
    return hashlib.sha256(str(tuple(images.shape)).encode() + images.numpy().tobytes()).hexdigest()[:16]


def files_of(*values: Any) -> dict[str, str]:
    """Find the files that objectives and params were made with, and hash what is in them."""
    found: dict[str, str] = {}
    for value in _within(*values):
        for name in FILES:
            inner = vars(value).get(name)
            named = inner if isinstance(inner, tuple) else (inner,)
            found |= {file: _content(Path(file)) for file in named if isinstance(file, str)}
    return found


def classes_of(heads: Mapping[str, Sequence[str]], *values: Any) -> dict[str, int]:
    """Find the classes that objectives name, and their numbers.

    Args:
        heads: class names, by the layer that puts them out.
        values: the objectives.
    """
    found: dict[str, int] = {}
    for value in _within(*values):
        name, names = vars(value).get("name"), heads.get(vars(value).get("network", "?"), ())
        if isinstance(name, str) and name in names:
            found[name] = names.index(name)
    return found


def _within(*values: Any) -> Iterator[Any]:
    """Go through objectives and params, and those that they are composed of."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _within(*value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield value
            yield from _within(*(getattr(value, field.name) for field in fields(value)))


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else "missing"


def _plain(value: Any) -> Any:
    """Make one of numpy's or torch's numbers Python's own, for JSON."""
    return value.item()


def _frozen(value: Any) -> Any:
    """JSON has no tuples."""
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


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
