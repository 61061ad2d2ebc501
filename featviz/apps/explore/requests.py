"""Read what a page sends: JSON of known fields within bounds, and objectives that name no file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featviz.engine.recipe import named_files
from featviz.errors import FeatvizError, caret_column, shown
from featviz.interfaces import Size
from featviz.objectives import Objective, parse

COMPARED = 4
"""Number of images of a batch that an objective compares, as diversity does."""
MAX_INDEX = 15
"""Largest index of an image in a batch that a page may ask for; an index above the batch is refused for that image."""
MAX_BODY = 64 * 1024
"""Largest number of bytes of a JSON body."""
MAX_TEXT = 1000
"""Largest number of characters of an objective."""
MAX_WANTED = 256
"""Largest number of images of one request."""
MAX_SEED = 2**31 - 1
MIN_SIDE, MAX_SIDE, MAX_GPU_SIDE = 16, 512, 1024
"""Sides of images in px, and the largest on a GPU."""
MAX_STEPS = 2048
"""Largest number of steps of an image."""
PARAMS = ("fourier", "pyramid", "phase", "pixel", "cppn", "alpha")
"""Image parameterizations that a page may ask for."""
TRANSFORMS = ("standard", "near", "lucid", "none")
"""Transforms that a page may ask for."""
IDS = re.compile(r"[0-9a-f]{16}", re.ASCII)
"""Ids of images and uploads."""
PAGES = re.compile(r"[\w-]{1,64}", re.ASCII)
"""Ids that pages give themselves."""


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        text: One plain line that says why.
        status: HTTP status.
        position: Column of a typed objective at which the problem is; `None` for none.
    """

    def __init__(self, text: str, status: int = 400, position: int | None = None) -> None:
        super().__init__(text)
        self.status, self.position = status, position


@dataclass(frozen=True)
class Bounds:
    """What a server accepts.

    Args:
        side: Largest side of an image in px.
        steps: Largest number of steps.
    """

    side: int = MAX_SIDE
    steps: int = MAX_STEPS


@dataclass(frozen=True)
class Wanted:
    """An image that a page asks for.

    Args:
        objective: What it shows.
        size: Height and width in px.
        steps: Number of steps.
        seed: Seed of the image, or of the first image of a batch that is compared.
        param: One of `PARAMS`.
        transforms: One of `TRANSFORMS`; `None` for those that suit the param.
        start: Id of the upload to start from; `None` for noise.
        live: Whether to send previews during the render.
        index: Index of the image in the batch, for an objective that compares images.
    """

    objective: Objective
    size: Size
    steps: int
    seed: int = 0
    param: str = "fourier"
    transforms: str | None = None
    start: str | None = None
    live: bool = False
    index: int = 0


def read_json(body: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RequestError: The body is not one.
    """
    try:
        found = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body must be a JSON object") from error
    if not isinstance(found, dict):
        raise RequestError("the body must be a JSON object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def read_text(body: Mapping[str, Any], name: str, default: str | None = None, *, most: int = MAX_TEXT) -> str:
    """Read a field of text.

    Args:
        body: The JSON object.
        name: Name of the field.
        default: Its value where it is missing; `None` if it must be there.
        most: Largest number of characters.

    Raises:
        RequestError: The value is missing, too long, or not text.
    """
    value = body.get(name, default)
    if not isinstance(value, str):
        raise RequestError(f"{name} must be text, got {shown(value)}")
    if len(value) > most:
        raise RequestError(f"{name} must have at most {most} characters, got {len(value)}")
    return value


def read_whole(body: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None) -> int:
    """Read a field with a whole number.

    Raises:
        RequestError: The value is missing without a default, no whole number, or out of its range.
    """
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise RequestError(f"{name} must be a whole number in {least}…{most}, got {shown(value)}")
    return value


def read_number(body: Mapping[str, Any], name: str, least: float, most: float, default: float) -> float:
    """Read a field with a number.

    Raises:
        RequestError: The value is no number, or out of its range.
    """
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise RequestError(f"{name} must be a number in {least:g}…{most:g}, got {shown(value)}")
    return float(value)


def read_choice(body: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    """Read a field with one of some texts; `null` stands for the default.

    Raises:
        RequestError: The value is not one of the choices.
    """
    value = body.get(name)
    value = default if value is None else value
    if value not in choices:
        raise RequestError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
    return str(value)


def read_id(body: Mapping[str, Any], name: str) -> str:
    """Read a field with an id.

    Raises:
        RequestError: The value is not an id that the server gave.
    """
    value = body.get(name)
    if not isinstance(value, str) or not IDS.fullmatch(value):
        raise RequestError(f"{name} must be an id that this server gave, got {shown(value)}")
    return value


def read_list(body: Mapping[str, Any], name: str, most: int) -> list[Any]:
    """Read a field with a list.

    Raises:
        RequestError: The value is not a list, or too long.
    """
    value = body.get(name)
    if not isinstance(value, list) or len(value) > most:
        got = f"one of {len(value)}" if isinstance(value, list) else shown(value)
        raise RequestError(f"{name} must be a list of at most {most}, got {got}")
    return value


def read_page(value: Any) -> str:
    """Read the id of a page.

    Raises:
        RequestError: The value is not the id of a page.
    """
    if not isinstance(value, str) or not PAGES.fullmatch(value):
        raise RequestError(f"page must be 1…64 letters, digits, _ and -, got {shown(value)}")
    return value


def read_objective(text: str) -> Objective:
    """Parse an objective that a page typed. It may name no file of this machine.

    Raises:
        RequestError: It cannot be parsed, or names a file.
    """
    if not text.strip():
        raise RequestError("type an objective, such as layer:channel or logit:class", position=0)
    try:
        objective = parse(text)
        str(objective)
    except FeatvizError as error:
        line, column = caret_column(str(error))
        raise RequestError(line, position=column) from error
    files = named_files(objective)
    if files:
        where = text.find(files[0])
        raise RequestError("an objective on this page cannot name a file", position=where if where >= 0 else None)
    return objective


def read_wanted(found: Any, default_size: Size, bounds: Bounds) -> Wanted:
    """Read an image that a page asks for.

    Args:
        found: The JSON value.
        default_size: Height and width in px where the page gives none.
        bounds: What the server accepts.

    Raises:
        RequestError: A field has another type, or is out of its range.
    """
    if not isinstance(found, dict):
        raise RequestError(f"wanted must list objects, got {shown(found)}")
    live = found.get("live", False)
    if not isinstance(live, bool):
        raise RequestError(f"live must be true or false, got {shown(live)}")
    transforms = found.get("transforms")
    return Wanted(
        read_objective(read_text(found, "objective")),
        read_size(found, default_size, bounds.side),
        read_whole(found, "steps", 0, bounds.steps),
        read_whole(found, "seed", 0, MAX_SEED, 0),
        read_choice(found, "param", PARAMS, PARAMS[0]),
        None if transforms is None else read_choice(found, "transforms", TRANSFORMS, TRANSFORMS[0]),
        None if found.get("start") is None else read_id(found, "start"),
        live,
        read_whole(found, "index", 0, MAX_INDEX, 0),
    )


def read_size(found: Mapping[str, Any], default: Size, most: int) -> Size:
    """Read the size of an image: one side, height and width, or `null` for the default.

    Raises:
        RequestError: The size is out of its range.
    """
    value = found.get("size")
    if value is None:
        return default
    sides = value if isinstance(value, list) and len(value) == 2 else [value, value]
    least = min(MIN_SIDE, *default)
    height, width = (read_whole({"size": side}, "size", least, max(most, *default)) for side in sides)
    return height, width
