"""Make dictionaries from what factorisations and autoencoders learn."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.network.dictionaries.dictionary import Dictionary


def from_centres(centres: Float[Tensor, "features channels"]) -> Dictionary:
    """Return a dictionary of k-means: the nearest centre has a code, all others 0.

    The nearest centre is the one with the largest `centre · x - ‖centre‖² / 2`. Its code is the length of the
    projection of the activations on it, relative to its own length: 1 at the centre.

    Args:
        centres: One per feature.
    """
    centres = centres.float()
    squares = centres.square().sum(1).clamp(min=torch.finfo(torch.float32).tiny ** 0.5)
    return Dictionary(
        kind="kmeans", encoder=centres, decoder=centres, bias=-squares / 2, gain=1 / squares,
        shift=torch.full_like(squares, 0.5), threshold=-squares / 2,
    )  # fmt: skip


def from_components(
    kind: str,
    components: Float[Tensor, "features channels"],
    mean: Float[Tensor, " channels"] | None = None,
    mixing: Float[Tensor, "channels features"] | None = None,
) -> Dictionary:
    """Return a dictionary of a linear factorisation.

    Args:
        kind: `"nmf"`, `"pca"` or `"ica"`.
        components: One per feature. Of ICA, the rows of the unmixing matrix.
        mean: Subtracted from the activations first; `None` for 0.
        mixing: Of ICA, from codes to activations; `None` for the pseudo-inverse of the components.
    """
    components = components.float()
    centre = components.new_zeros(components.shape[1]) if mean is None else mean.float()
    decoder = components if kind != "ica" else None if mixing is None else mixing.float().T
    return Dictionary(kind=kind, encoder=components, decoder=decoder, bias=-components @ centre, offset=centre)


def from_autoencoder(
    kind: str,
    encoder: Float[Tensor, "features channels"],
    decoder: Float[Tensor, "features channels"],
    bias: Float[Tensor, " features"],
    offset: Float[Tensor, " channels"],
    *,
    centred: bool = True,
    threshold: Float[Tensor, " features"] | None = None,
    gain: Float[Tensor, " features"] | None = None,
    magnitude_bias: Float[Tensor, " features"] | None = None,
    k: int | None = None,
) -> Dictionary:
    """Return a dictionary of a sparse autoencoder.

    Args:
        kind: One of the kinds of sparse autoencoders.
        encoder: One row per feature.
        decoder: One row per feature.
        bias: Of the encoder; of a gated autoencoder that of its gate.
        offset: Of the decoder.
        centred: Whether the offset is subtracted from the activations first.
        threshold: Of JumpReLU and BatchTopK.
        gain: Of a gated autoencoder, its magnitudes over the products of its gate: `exp(r_mag)`.
        magnitude_bias: Of a gated autoencoder, that of the magnitudes.
        k: Of TopK.
    """
    encoder, offset = encoder.float(), offset.float()
    from_offset = encoder @ offset if centred else torch.zeros(len(encoder))
    shift = None
    if gain is not None and magnitude_bias is not None:
        # The gate opens where pi + bias > 0; then the code is relu(gain * pi + magnitude_bias), of the same product pi.
        shift = magnitude_bias - gain * bias
    return Dictionary(
        kind=kind, encoder=encoder, decoder=decoder, bias=bias - from_offset, offset=offset, threshold=threshold,
        gain=gain, shift=shift, k=k,
    )  # fmt: skip
