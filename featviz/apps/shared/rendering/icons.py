"""Icons: small images rendered under equal conditions, and sprite sheets of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

import featviz as fv
from featviz.apps.shared.rendering.album import Album
from featviz.apps.shared.rendering.stored_images import ICONS_FOLDER, icon_file, thumbnail_file
from featviz.engine.shorthand import as_param
from featviz.interfaces import Param
from featviz.io import Store, open_image

ICON_SIZE = 72
"""Side in px of an icon in a sprite sheet."""


def check_icon_param(param: Any) -> None:
    """Check that a param makes one image per objective, before anything is computed.

    Args:
        param: A param, or `None` for the default one.

    Raises:
        SettingError: It makes several images.
    """
    count = param.batch if isinstance(param, Param) else 1
    if count != 1:
        raise fv.SettingError(f"an icon needs a param that makes 1 image, got {type(param).__name__} with {count}")


def add_icons(
    album: Album,
    objectives: Sequence[Any],
    titles: Sequence[str],
    *,
    param: Any,
    size: int | tuple[int, ...] | None,
    steps: int,
    seed: int,
) -> tuple[str, ...]:
    """Plan one icon per objective. All start from the same noise and see the same transforms, so similar ones compare.

    Args:
        album: The images of the page.
        objectives: What the icons show.
        titles: Title of each icon.
        param: Image parameterization; `None` for the default of `fv.render`. With `param.Alpha`, opacity is penalised,
            so that what does not matter to the objective becomes transparent.
        size: Height and width in px, or one side; `None` for the param's own size.
        steps: Number of steps, >= 0.
        seed: Seed of every icon, >= 0.

    Returns:
        The names of the icons.

    Raises:
        FeatvizError: The first icon cannot be rendered.
    """
    sized = as_param(param, size, spec=album.network.input)
    if isinstance(sized, fv.param.Alpha):
        objectives = [objective * (1 - fv.objectives.Opacity()) for objective in objectives]
    return album.add(objectives, [seed] * len(objectives), titles, steps=steps, param=sized)


def write_sprites(store: Store, names: Sequence[str], file: str) -> int:
    """Write the icons or thumbnails of images side by side into one .webp file, in rows that make it about square.

    A .json file of the same name lists the position of each icon, for use outside of featviz.

    Args:
        store: The store that has the thumbnails.
        names: Names of the images.
        file: File of the sheet in the store, ending in .webp.

    Returns:
        Number of icons per row.

    Raises:
        OutputError: A thumbnail is missing, or the store cannot be written to.
    """
    own = store.names(ICONS_FOLDER)
    columns = math.isqrt(max(1, len(names)) - 1) + 1
    sheet = Image.new("RGBA", (columns * ICON_SIZE, max(1, -(-len(names) // columns)) * ICON_SIZE))
    boxes = {}
    for i, name in enumerate(names):
        x, y = i % columns * ICON_SIZE, i // columns * ICON_SIZE
        source = icon_file(name) if f"{name}.webp" in own else thumbnail_file(name)
        icon = open_image(store.read(source)).convert("RGBA")
        sheet.paste(ImageOps.pad(icon, (ICON_SIZE, ICON_SIZE), Image.Resampling.LANCZOS, (0, 0, 0, 0)), (x, y))
        boxes[name] = [x, y, ICON_SIZE, ICON_SIZE]
    data = BytesIO()
    sheet.save(data, "webp", quality=82)
    store.write(file, data.getvalue())
    store.write(str(Path(file).with_suffix(".json")), json.dumps({"sprite": Path(file).name, "icons": boxes}))
    return columns
