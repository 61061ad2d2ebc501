"""The cosine between the activations of a layer and a vector, given as numbers or as a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from featviz.checks import as_whole
from featviz.errors import AddressError, SettingError, WeightsError
from featviz.interfaces import RenderContext
from featviz.io import Array, is_file
from featviz.network import Activations, Dictionary
from featviz.objectives.algebra import Objective, Unit
from featviz.objectives.directions import lengths

VectorSource = Any
"""What `Cosine` accepts as a vector: a file, or one number per channel. Values store a `str` or an `Array`."""
VECTOR_ENDINGS = (".npy", ".npz", ".pt", ".safetensors")
"""Endings of files that hold vectors."""


@dataclass(frozen=True)
class Cosine(Unit):
    """The cosine between a vector and the activations of all channels at a position, averaged over all positions.

    The score is in [-1, 1]. Unlike that of `Direction`, it does not depend on how strong the activations are: an image
    shows the vector and little else, even if faintly.

    Args:
        layer: Dotted module name.
        vector: One number per channel, not all 0: numbers, an array or a tensor; or a file of a concept, a dictionary
            or a vector: .safetensors, .pt, .npy or .npz. It is not read before a render.
        feature: Index of the feature of a file with several, from 0.

    Raises:
        SettingError: The vector is not one-dimensional or all 0, or the index is negative.

    Source: Lucid, lucid/optvis/objectives.py, `direction_cossim`.
    """

    layer: str
    vector: VectorSource
    feature: int = 0
    text_name = "cosine"

    def __post_init__(self) -> None:
        """Convert the vector to a value that a recipe can hold, and check the fields."""
        super().__post_init__()
        if as_whole("feature of Cosine", self.feature) < 0:
            raise SettingError(f"feature of Cosine must be >= 0, got {self.feature}")
        is_path = isinstance(self.vector, str | Path)
        object.__setattr__(self, "vector", str(self.vector) if is_path else _check_vector(Array.of(self.vector)))
        object.__setattr__(self, "feature", as_whole("feature of Cosine", self.feature))

    @property
    def files(self) -> tuple[str, ...]:
        """The file of the vector, if it comes from one."""
        return (self.vector,) if isinstance(self.vector, str) else ()

    def bind(self, context: RenderContext) -> Objective:
        """Read the vector.

        Raises:
            WeightsError: The file is missing, or holds no vector.
            SettingError: The dictionary has no such feature.
        """
        if isinstance(self.vector, Array):
            return self
        return replace(self, vector=_read(self.vector, self.feature), feature=0)

    def __call__(self, acts: Activations) -> Float[Tensor, " n"]:
        """Return the mean over positions.

        Raises:
            AddressError: The layer has another number of channels.
            SettingError: The vector is a file, which `bind` reads first.
        """
        if not isinstance(self.vector, Array):
            return super().__call__(acts)
        values = acts.channels_first(self.layer).unsqueeze(-1).flatten(2)
        if values.shape[1:2] != self.vector.shape:
            raise AddressError(
                f"the vector must have {values.shape[1]} numbers to match {self.layer!r}, got {self.vector.shape[0]}"
            )
        vector = self.vector.tensor.to(values, non_blocking=True)
        dot = (values * vector[:, None]).sum(1)
        return (dot / lengths(values) / vector.norm()).mean(1)


def _check_vector(vector: Array) -> Array:
    """Check that an array is a vector that has a direction."""
    if len(vector.shape) != 1 or not vector.shape[0]:
        raise SettingError(f"vector of Cosine must have one number per channel, got shape {vector.shape}")
    if not vector.tensor.any():
        raise SettingError("vector of Cosine must not be 0, which has no direction")
    return vector


def _read(file: str, feature: int) -> Array:
    """Read the vector of a feature: the encoder row of a linear probe, the decoder row of any other dictionary."""
    if not is_file(file):
        raise WeightsError(f"no file {file}; cosine needs a vector as {', '.join(VECTOR_ENDINGS)}, or a dictionary")
    found = Dictionary.load(file)
    if feature >= found.features:
        raise SettingError(f"feature must be < {found.features}, the number of those in {file}, got {feature}")
    rows = found.encoder if found.kind == "probe" else found.decoder
    assert rows is not None  # it is filled in when a dictionary is made
    return _check_vector(Array.of(rows[feature]))
