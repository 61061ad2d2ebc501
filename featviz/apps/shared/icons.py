"""Small pictures, many of a kind: made alike, and laid side by side in sprite sheets."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

import featviz as fv
from featviz.interfaces import Param
from featviz.apps.shared.batches import Batch, thumb_file
from featviz.io import Store

ICON = 72
"""Px of an icon in a sprite sheet."""


def check_param(param: Any) -> None:
    """Make sure that a param can hold icons, before anything is done.

    Raises:
        SettingError: it draws several pictures of each objective.
    """
    count = param.batch if isinstance(param, Param) else 1
    if count != 1:
        raise fv.SettingError(f"{type(param).__name__} draws {count} pictures where one is wanted; give a param of one")


def icons(
    network: fv.Network, goals: Sequence[Any], param: Any, size: int | tuple[int, int] | None, steps: int, seed: int
) -> Batch:
    """Ask for an icon of each objective, all from the same noise and seen in the same way, so that like look alike.

    Args:
        network: which draws.
        goals: what the icons show.
        param: how they are held; in `param.Alpha` what does not matter to the objective becomes transparent.
        size: height and width in px, or one side; `None` means the param's own.
        steps: of each.
        seed: of each.

    Raises:
        FeatvizError: the first of them cannot be rendered.
    """
    sides = (size, size) if isinstance(size, int) else size
    held = fv.param.sized(fv.param.Image() if param is None else param, sides, 1)
    if isinstance(held, fv.param.Alpha):
        goals = [goal * (1 - fv.objectives.Opacity()) for goal in goals]
    return Batch.of(network, goals, [seed] * len(goals), steps=steps, param=held)


def sprites(store: Store, names: Sequence[str], file: str) -> int:
    """Write pictures' small copies side by side into one .webp file, as many in a row as make it a square.

    A JSON file of the same name says where each is, for pages of one's own.

    Returns:
        How many stand in a row.
    """
    columns = math.isqrt(max(1, len(names)) - 1) + 1
    sheet = Image.new("RGBA", (columns * ICON, max(1, -(-len(names) // columns)) * ICON))
    places = {}
    for i, name in enumerate(names):
        x, y = i % columns * ICON, i // columns * ICON
        icon = Image.open(BytesIO(store.read(thumb_file(name)))).convert("RGBA")
        sheet.paste(ImageOps.pad(icon, (ICON, ICON), Image.Resampling.LANCZOS, (0, 0, 0, 0)), (x, y))
        places[name] = [x, y, ICON, ICON]
    data = BytesIO()
    sheet.save(data, "webp", quality=82)
    store.write(file, data.getvalue())
    store.write(str(Path(file).with_suffix(".json")), json.dumps({"sprite": Path(file).name, "icons": places}))
    return columns
