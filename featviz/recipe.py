"""How a picture was made, as text that makes it again and runs nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from jaxtyping import Float
from torch import Tensor

from featviz.errors import RecipeError
from featviz.expression import build
from featviz.output import read_recipe

FORMAT = 3

EXPECTS = ("size", "mean", "std", "order", "layout", "smooth_pools")
"""What a network is told besides its name and weights."""
FILES = ("mask", "picture", "pictures", "prior")
"""Fields of objectives and params that may name a file."""


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
            kinds = get_type_hints(cls)
            wrong = [name for name in known if not _is_kind(getattr(recipe, name), kinds[name])]
            if wrong or set(recipe.expects) != set(EXPECTS) or recipe.picture not in (None, *range(len(recipe.seeds))):
                raise ValueError(wrong)
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


def _is_kind(value: Any, kind: Any) -> bool:
    """Say whether a value is what an annotation of a recipe allows."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_kind(value, one) for one in inner)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_kind, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_kind(one, inner[1]) for one in value.values())
    return kind is Any or (isinstance(value, kind) and not isinstance(value, bool))


def _plain(value: Any) -> Any:
    """Make one of numpy's or torch's numbers Python's own, for JSON."""
    return value.item()


def _frozen(value: Any) -> Any:
    """JSON has no tuples."""
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
