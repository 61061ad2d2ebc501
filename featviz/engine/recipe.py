"""The recipe of an image: text that renders it again, and that can run no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from featviz.engine.repr_parser import parse_repr
from featviz.errors import FeatvizError, RecipeError, shown
from featviz.interfaces import NamesClass, UsesFiles
from featviz.io import is_file, read_recipe, recipe_in
from featviz.io.array import as_tuples
from featviz.network import CODES, DEFAULT_WEIGHTS, RANDOM_WEIGHTS, Execution, InputSpec, index_of_class
from featviz.network.inputs.input_spec import without_defaults

FORMAT = 4
"""Version of the recipe format."""

_UNREADABLE = "the recipe cannot be read; was the file changed?"


@dataclass(frozen=True)
class Recipe:
    """Everything that determines an image.

    Args:
        model: Name of the network for `fv.load`; empty for a module made in Python.
        weights: `"default"`, `"none"` or the file of the weights.
        fingerprint: Hash of the weights.
        input: The network's input specification.
        smooth_pools: The network's `smooth_pools`.
        objectives: `repr` of each objective.
        param: `repr` of the param.
        transforms: `repr` of the transforms.
        optimizer: `repr` of the optimizer.
        execution: `repr` of the execution.
        size: Height and width in px.
        steps: Number of steps of the whole render.
        until: Step after which the render stopped, if that was earlier.
        seeds: One per image.
        start: File from which the render started, or `Recipe.TENSOR`, or `None`.
        start_fingerprint: Hash of the images from which it started.
        machine: Versions, device and threads, on which the last bits depend.
        files: Files that the objectives, the param and the transforms use, with a hash of their content.
        index: Index of the image in the batch that this file shows; `None` for a contact sheet of all.
        shown: Height and width in px at which it was drawn again; `None` for the size of the render.
        dream: The settings of `fv.dream`, for its images. Settings that are text are files.
        accentuation: The settings of `fv.accentuate`, for its images.
        classes: Class names that the objectives use, with their indices.
        head: The network's `head`.
        outputs: The network's `outputs`.
        dictionaries: Of the layers `layer~` that the objectives read, the file of the dictionary (empty for one made in
            Python) and its fingerprint, by layer.
        given: Inputs that the network gets beside the optimised one, by name: how the value belongs to the images
            (`"one"` row for all, its `"own"` row for each, or `"none"`), the value if it is small, else its type and
            shape, and its hash.
        texts: The classes of a network whose classes are texts, which are part of its fingerprint.
        inputs: Names and specifications of several optimised inputs; empty for one. `input` and `size` are then those
            of all of them packed into one signal.
        part: Of several optimised inputs, the one that this file shows; empty for all.
    """

    model: str
    weights: str | None
    fingerprint: str
    input: InputSpec
    smooth_pools: bool
    objectives: tuple[str, ...]
    param: str
    transforms: str
    optimizer: str
    execution: str
    size: tuple[int, ...]
    steps: int
    until: int | None
    seeds: tuple[int, ...]
    start: str | None
    start_fingerprint: str | None
    machine: Mapping[str, str]
    files: Mapping[str, str]
    index: int | None = None
    shown: tuple[int, ...] | None = None
    dream: Mapping[str, Any] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    head: str = ""
    outputs: str | None = None
    dictionaries: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    accentuation: Mapping[str, Any] | None = None
    given: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    inputs: tuple[tuple[str, InputSpec], ...] = ()
    part: str = ""

    TENSOR: ClassVar[str] = "an image made in Python"
    """Value of `start` for an image that was made in Python."""
    # Files are named by `hash`, so it must not change. A new field belongs to one of these.
    NOT_HASHED: ClassVar[frozenset[str]] = frozenset(
        {"machine", "execution", "model", "weights", "start", "files", "texts"}
    )
    """Fields on which the image does not depend, or whose content is in other fields."""
    HASHED_IF_SET: ClassVar[frozenset[str]] = frozenset(
        {"classes", "head", "outputs", "dictionaries", "accentuation", "given", "inputs", "part"}
    )
    """Fields that older recipes do not have."""

    @classmethod
    def of(cls, path: str | Path | bytes | Image) -> Recipe:
        """Read the recipe of a file that featviz saved, of its bytes, or of a Pillow image opened from one.

        The recipe of a .npy, .mp4 or .webm file is in the file beside it, whose name has .json added. Files that the
        recipe names by relative paths are looked for in the current folder, then in those above the image.

        Raises:
            OutputError: The file is missing or no image.
            RecipeError: It holds no recipe, or one that cannot be read.
        """
        path = Path(path) if isinstance(path, str) else path
        if isinstance(path, Path):
            return cls.from_json(recipe_in(path))._with_files_above(path)
        return cls.from_json(read_recipe(path))

    def _with_files_above(self, image: Path) -> Recipe:
        """Return the recipe with its relative paths resolved from the current folder or the folders above the image.

        Relative paths are those from the folder in which the image was rendered, often one above that of the image.
        """
        named = [*self.files, self.start, self.weights, *(file for file, _ in self.dictionaries.values())]
        files = [name for name in named if name and name not in (DEFAULT_WEIGHTS, RANDOM_WEIGHTS)]
        moved = {name: file for name in files if (file := _find_above(name, image)) != name}

        def follow(text: str) -> str:
            for name, file in moved.items():
                text = text.replace(repr(name), repr(file))
            return text

        def place(name: str | None) -> str | None:
            return None if name is None else moved.get(name, name)

        dream = self.dream and {
            key: place(value) if isinstance(value, str) else value for key, value in self.dream.items()
        }
        return replace(
            self,
            objectives=tuple(map(follow, self.objectives)),
            param=follow(self.param),
            transforms=follow(self.transforms),
            files={moved.get(name, name): content for name, content in self.files.items()},
            start=place(self.start),
            weights=place(self.weights),
            dictionaries={layer: (moved.get(file, file), which) for layer, (file, which) in self.dictionaries.items()},
            dream=dream,
        )

    def arguments(self, names: Mapping[str, Any], transforms: Any = None) -> dict[str, Any]:
        """Rebuild the arguments of `fv.render`, except the network.

        Args:
            names: Values that the reprs may name.
            transforms: Transforms to use instead of the recipe's, for those that cannot be rebuilt from text.

        Raises:
            RecipeError: The reprs name anything else, or a file that they use has changed.
        """
        try:
            transforms = parse_repr(self.transforms, names) if transforms is None else transforms
        except RecipeError as error:
            raise RecipeError(f"{error}; or give all transforms: fv.replay(..., transforms=...)") from error
        objectives = [parse_repr(text, names) for text in self.objectives]
        param = parse_repr(self.param, names)
        self.check_files(*objectives, param, transforms)
        return {
            "objective": objectives,
            "param": param,
            "transforms": transforms,
            "optimizer": parse_repr(self.optimizer, names),
            "execution": parse_repr(self.execution, names),
            "steps": self.steps,
            "until": self.until,
            "seed": self.seeds,
            "start": self.start,
        }

    def check_files(self, *values: Any) -> None:
        """Check that the files that objectives, params and transforms use have not changed.

        Raises:
            RecipeError: One is missing or has other content.
        """
        for file, content in files_of(*values).items():
            if self.files.get(file) != content:
                raise RecipeError(
                    f"the image was rendered with the file {file}, which is missing or has changed; restore the file"
                    f"{'' if Path(file).is_absolute() else ', in the current folder or in one above the image'}"
                )

    def check_classes(self, heads: Mapping[str, Sequence[str]], *objectives: Any) -> None:
        """Check that class names in the objectives have the indices that they had.

        Args:
            heads: The network's class names, by head.
            objectives: The objectives of the recipe.

        Raises:
            RecipeError: A name has another index.
        """
        for name, index in classes_of(heads, *objectives).items():
            if self.classes.get(name, index) != index:
                raise RecipeError(
                    f"class {name!r} had index {self.classes[name]} when the image was rendered and has {index} here; "
                    "give the network with its original class names"
                )

    @property
    def spec(self) -> InputSpec:
        """Specification of the input that is shown."""
        return dict(self.inputs)[self.part] if self.part else self.input

    def only(self, index: int) -> Recipe:
        """Return the recipe of one image of the batch."""
        return replace(self, index=index)

    @property
    def alone(self) -> Recipe:
        """Recipe of the shown image alone, if the other images of its batch cannot have influenced it."""
        if self.index is None or self.start is not None or len(self.objectives) != len(self.seeds):
            return self
        if any(rows == "own" for rows, _, _ in self.given.values()):
            return self
        # Without a start image, image i depends on objective i and seed i only, so the rest of the batch is left out.
        i = self.index
        named = {name: index for name, index in self.classes.items() if repr(name) in self.objectives[i]}
        used = {
            layer: which
            for layer, which in self.dictionaries.items()
            if _names(self.objectives[i], layer) or not any(_names(each, layer) for each in self.objectives)
        }
        return replace(
            self,
            objectives=(self.objectives[i],),
            seeds=(self.seeds[i],),
            files=self._files_in(self.objectives[i], self.param, self.transforms),
            classes=named,
            dictionaries=used,
            index=None,
        )

    def _files_in(self, *texts: str) -> dict[str, str]:
        """Return the files that some texts name, with the hashes of their content."""
        return {name: content for name, content in self.files.items() if any(repr(name) in each for each in texts)}

    def about(self, objective: Any, seed: int, heads: Mapping[str, Sequence[str]]) -> Recipe:
        """Return a recipe with the same settings for another objective and seed.

        Args:
            objective: The other objective.
            seed: The other seed.
            heads: The network's class names, by head.
        """
        return replace(
            self,
            objectives=(repr(objective),),
            seeds=(seed,),
            files=self._files_in(self.param, self.transforms) | files_of(objective),
            classes=classes_of(heads, objective),
        )

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        return json.dumps({"featviz": FORMAT, **self._content}, sort_keys=True, default=_to_python)

    @property
    def _content(self) -> dict[str, Any]:
        """The fields by name, without default `axes` and `value_range` of the input."""
        content = asdict(self)
        return content | {"input": without_defaults(content["input"])}

    @property
    def hash(self) -> str:
        """Name of the image: the same hash for the same image, up to rounding.

        Depends on the precision, and not on file names, the machine, how else the network is run, or the other images
        of the batch.

        Raises:
            RecipeError: The execution cannot be read.
        """
        decisive = {
            key: value
            for key, value in self.alone._content.items()
            if key not in self.NOT_HASHED and (value or key not in self.HASHED_IF_SET)
        }
        decisive["precision"] = parse_repr(self.execution, {"Execution": Execution}).precision
        if "dictionaries" in decisive:
            decisive["dictionaries"] = {layer: content for layer, (_, content) in decisive["dictionaries"].items()}
        if self.dream is not None:  # the content of its files is in the param
            decisive["dream"] = {key: each for key, each in self.dream.items() if not isinstance(each, str | None)}
        text = json.dumps(decisive, sort_keys=True, default=_to_python)
        for name, content in self.files.items():  # the content of a file counts, its name does not
            text = text.replace(json.dumps(repr(name))[1:-1], content)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read a recipe from JSON.

        Raises:
            RecipeError: `text` is no recipe, or one of another format.
        """
        try:
            content = json.loads(text)
            version = content.pop("featviz")
            if version != FORMAT:
                raise RecipeError(
                    f"the recipe has format {shown(version)}, this featviz reads {FORMAT}; use another version"
                )
            known = {field.name for field in fields(cls)}
            content["input"] = _input_spec(content["input"])
            content["inputs"] = tuple((name, _input_spec(spec)) for name, spec in content.get("inputs", ()))
            recipe = cls(**{key: as_tuples(value) for key, value in content.items() if key in known})
            kinds = get_type_hints(cls)
            wrong = [name for name in known if not _is_kind(getattr(recipe, name), kinds[name])]
            axes = len(recipe.input.size)
            wrong += [] if len(recipe.size) == axes else ["size"]
            wrong += [] if recipe.shown is None or len(recipe.shown) == axes else ["shown"]
            images, objectives = len(recipe.seeds), len(recipe.objectives)
            uneven = not objectives or not images or images % objectives
            wrong += ["part"] if recipe.part and recipe.part not in dict(recipe.inputs) else []
            if wrong or uneven or recipe.index not in (None, *range(images)):
                raise ValueError(wrong)
            return recipe
        except RecipeError:
            raise
        except (FeatvizError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RecipeError(_UNREADABLE) from error


def fingerprint(images: Float[Tensor, "n c *size"]) -> str:
    """Return a hash of images."""
    return hashlib.sha256(str(tuple(images.shape)).encode() + images.numpy().tobytes()).hexdigest()[:16]


def files_of(*values: Any) -> dict[str, str]:
    """Return the files that objectives, params and transforms use, with a hash of their content."""
    return {file: _content_hash(Path(file)) for file in named_files(*values)}


def named_files(*values: Any) -> list[str]:
    """Return the files that objectives, params and transforms name, without reading them."""
    return [file for value in _walk(*values) if isinstance(value, UsesFiles) for file in value.files]


def classes_of(heads: Mapping[str, Sequence[str]], *values: Any) -> dict[str, int]:
    """Return the class names that objectives use, with their indices.

    Args:
        heads: Class names, by the layer that outputs the logits.
        values: Objectives.
    """
    indices: dict[str, int] = {}
    for value in _walk(*values):
        if isinstance(value, NamesClass) and value.class_name is not None:
            head, name = value.class_name
            index = index_of_class(name, heads.get(head, ()))
            if index is not None:
                indices[name] = index
    return indices


def _names(objective: str, layer: str) -> bool:
    """Whether the repr of an objective names the codes of a dictionary at a layer."""
    return repr(f"{layer}{CODES}") in objective


def _walk(*values: Any) -> Iterator[Any]:
    """Yield frozen values and, recursively, the values of their fields."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _walk(*value)
        elif is_dataclass(value) and not isinstance(value, type):
            yield value
            yield from _walk(*(getattr(value, field.name) for field in fields(value)))


def _content_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if is_file(path) else "missing"


def _input_spec(content: Mapping[str, Any]) -> InputSpec:
    """Rebuild an input specification from JSON.

    Raises:
        ValueError: A field is missing or has another type.
    """
    kinds = get_type_hints(InputSpec)
    values: dict[str, Any] = {"axes": "", "value_range": None} | as_tuples(content)
    if set(values) != set(kinds) or not all(_is_kind(values[name], kind) for name, kind in kinds.items()):
        raise ValueError("input")
    return InputSpec(**values)


def _is_kind(value: Any, kind: Any) -> bool:
    """Return whether a value has the type of an annotation."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_is_kind(value, one) for one in inner)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_kind, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_kind(one, inner[1]) for one in value.values())
    return kind is Any or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))


def _to_python(value: Any) -> Any:
    """Convert a number of numpy or torch for JSON."""
    return value.item()


def _find_above(name: str, image: Path) -> str:
    """Return the path of a file with a relative path from the current folder, or from one above an image."""
    if Path(name).is_absolute() or is_file(name):
        return name
    places = (folder / name for folder in image.absolute().parents)
    return next((str(place) for place in places if is_file(place)), name)
