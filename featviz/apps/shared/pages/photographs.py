"""Photographs on pages: find those of a class, and compress them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.arguments.class_files import class_of_file, known_names
from featviz.apps.shared.arguments.inputs import inputs_in, read_input
from featviz.io import read_whole_photograph
from featviz.network import InputSpec

WHOLE_SIDE = 256
"""Longer side in px to which whole photographs are reduced for a page."""


def photographs_of_classes(
    classes: Sequence[str], folder: str | Path, spec: InputSpec, *, limit: int = 3
) -> dict[str, list[Float[Tensor, "c *size"]]]:
    """Find photographs whose file or folder is named after a class, apart from numbers and punctuation.

    Args:
        classes: Class names.
        folder: Folder of photographs. Files that cannot be read are skipped.
        spec: Input specification of the network.
        limit: Maximum number of photographs per class.

    Returns:
        Photographs by class, uncropped; signals and volumes at the network's input size. Classes without one are left
        out.

    Raises:
        OutputError: The folder is missing or has no image.
    """
    known = known_names(classes)
    found: dict[str, list[Tensor]] = {}
    for file in inputs_in(folder, spec):
        name = class_of_file(known, file)
        if name is not None and len(found.get(name, ())) < limit:
            with contextlib.suppress(fv.FeatvizError):
                image = read_whole(file, spec)
                found.setdefault(name, []).append(image)
    return found


def read_whole(file: str | Path, spec: InputSpec) -> Float[Tensor, "c *size"]:
    """Read a photograph for a page, uncropped and reduced; a signal or a volume at the network's input size.

    Args:
        file: The file.
        spec: Input specification of the network.

    Raises:
        OutputError: The file cannot be read.
        SettingError: The file has other channels or axes.
    """
    if len(spec.size) != 2:
        return read_input(file, spec)
    return read_whole_photograph(file, longer_side=WHOLE_SIDE, channels=spec.channels)
