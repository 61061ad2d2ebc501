"""Read sparse autoencoders of the library overcomplete from their state_dict."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.errors import SettingError
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.dictionaries.making import from_autoencoder

LINEAR, NORM = "encoder.final_block.0.", "encoder.final_block.1."
"""Layers of the default encoder and of `mlp_bn_1`."""
SINGLE, TIED = "encoder.weight", "encoder.tied_to."
"""The encoder after `sae.untied()`, and after `sae.tied()`, whose weights are the atoms."""
ATOMS, MIXTURE = "dictionary._weights", "dictionary.W"
"""Free atoms, and weights of archetypal ones."""
THRESHOLDS, RUNNING = "thresholds", "running_threshold"
"""Logarithms of the thresholds of `JumpSAE`, and the attribute of `BatchTopKSAE` that its state_dict does not hold."""
NORM_EPSILON = 1e-5
"""Of `torch.nn.BatchNorm1d`."""
DEEPER = ("encoder.mlp_blocks.", "encoder.attention_blocks.", "encoder.resnet_blocks.")


def is_overcomplete(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of an autoencoder of overcomplete."""
    has_encoder = any(name.startswith(("encoder.final_block.", SINGLE, TIED)) for name in tensors)
    return f"{LINEAR}weight" in tensors or (has_encoder and (ATOMS in tensors or MIXTURE in tensors))


def from_overcomplete(tensors: Mapping[str, Tensor], k: int | None, kind: str | None) -> Dictionary:
    """Return the dictionary of a state_dict of overcomplete.

    Args:
        tensors: By name. That of `BatchTopKSAE` also needs its `running_threshold`.
        k: Number of codes that TopK keeps; `None` for other kinds. It is not in the state_dict.
        kind: The kind; `None` to infer it from the names and `k`.

    Raises:
        SettingError: The encoder has more than one layer, a layer normalisation, or quantised codes.

    Source: overcomplete 0.3.0, overcomplete/sae: `modules.py`, `dictionary.py`, `archetypal_dictionary.py`,
        `jump_sae.py`, `batchtopk_sae.py`.
    """
    _check_readable(tensors)
    atoms = _atoms(tensors)
    encoder, bias = _encoder(tensors, atoms)
    threshold, found_kind = None, "topk" if k is not None else "relu"
    if THRESHOLDS in tensors:
        threshold, found_kind = _inclusive(tensors[THRESHOLDS].exp()), "jumprelu"
    elif RUNNING in tensors:
        threshold, found_kind = _inclusive(tensors[RUNNING].expand(len(encoder))), "batchtopk"
    return from_autoencoder(
        kind or found_kind, encoder, atoms, bias, torch.zeros(encoder.shape[1]), centred=False, threshold=threshold, k=k
    )


def _check_readable(tensors: Mapping[str, Tensor]) -> None:
    deeper = next((name for name in tensors if name.startswith(DEEPER)), None)
    if deeper is not None:
        raise SettingError(f"the encoder has several layers ({deeper}); only the encoders linear and mlp_bn_1 are read")
    if f"{NORM}weight" in tensors and f"{NORM}running_mean" not in tensors:
        raise SettingError("the encoder has a layer normalisation; only the encoders linear and mlp_bn_1 are read")
    if "Q" in tensors:
        raise SettingError(
            "codes of QSAE are quantised, which is not read; read are SAE, TopKSAE, BatchTopKSAE, JumpSAE"
        )


def _inclusive(threshold: Tensor) -> Tensor:
    """Return the largest numbers below thresholds: overcomplete keeps codes that are equal to them."""
    return threshold.nextafter(torch.full_like(threshold, -torch.inf))


def _atoms(tensors: Mapping[str, Tensor]) -> Float[Tensor, "features channels"]:
    """Return the atoms: free ones, or mixtures of points with a relaxation; times the exponential of the multiplier."""
    if ATOMS in tensors:
        atoms = tensors[ATOMS]
    else:
        atoms = tensors[MIXTURE] @ tensors["dictionary.C"] + tensors["dictionary.Relax"]
    return atoms * tensors.get("dictionary.multiplier", torch.zeros(())).exp()


def _encoder(tensors: Mapping[str, Tensor], atoms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and the bias of the encoder, with its batch normalisation folded into them."""
    if f"{LINEAR}weight" not in tensors:
        weight = tensors.get(SINGLE, atoms)
        return weight, tensors.get("encoder.bias", torch.zeros(len(weight)))
    weight = tensors[f"{LINEAR}weight"]
    bias = tensors.get(f"{LINEAR}bias", torch.zeros(len(weight)))
    if f"{NORM}weight" in tensors:
        scale = tensors[f"{NORM}weight"] / (tensors[f"{NORM}running_var"] + NORM_EPSILON).sqrt()
        weight = weight * scale[:, None]
        bias = (bias - tensors[f"{NORM}running_mean"]) * scale + tensors[f"{NORM}bias"]
    return weight, bias
