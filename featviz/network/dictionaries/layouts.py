"""Recognise dictionaries by the names of their tensors or arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from featviz.errors import SettingError
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.dictionaries.making import from_autoencoder, from_centres, from_components
from featviz.network.dictionaries.overcomplete import from_overcomplete, is_overcomplete

Tensors = Mapping[str, Tensor]
Settings = Mapping[str, Any]

ARCHITECTURES = {
    "standard": "relu", "relu": "relu", "vanilla": "relu", "topk": "topk", "batchtopk": "batchtopk",
    "jumprelu": "jumprelu", "gated": "gated", "jump_relu": "jumprelu", "batch_topk": "batchtopk",
}  # fmt: skip
"""Kinds by the names that configurations of SAELens, ViT-Prisma and saev give them."""
UNSCALED = (None, "none", False)
"""Settings of SAELens' `normalize_activations` that leave the activations as they are."""
WEIGHTS = ("W_enc", "W_dec")
VECTORS = ("cav", "cavs", "probe", "vectors", "coef_", "weights", "arr_0")
"""Names of arrays that hold vectors of linear probes."""
ORTHONORMAL = 1e-2
"""Largest deviation of the products of principal components from the identity."""
KNOWN = (
    "W_enc and W_dec (SAELens, ViT-Prisma, saev), encoder.final_block.0.weight (overcomplete), components_ or "
    "cluster_centers_ (scikit-learn), or coef_, cav or vectors (probes)"
)


def from_tensors(tensors: Tensors, settings: Settings, kind: str | None = None) -> Dictionary:
    """Return the dictionary of a state_dict.

    Args:
        tensors: By name.
        settings: Values of the configuration beside the file; empty for none.
        kind: The kind; `None` to determine it from the names and settings.

    Raises:
        SettingError: No known dictionary format has these tensor names.
    """
    _check_finite(tensors)
    if all(name in tensors for name in WEIGHTS):
        return _autoencoder(tensors, settings, kind)
    if is_overcomplete(tensors):
        return from_overcomplete(tensors, _given_count(settings), kind)
    return from_arrays({name: tensor.numpy() for name, tensor in tensors.items()}, kind, _given_count(settings))


def from_arrays(arrays: Mapping[str, np.ndarray], kind: str | None = None, k: int | None = None) -> Dictionary:
    """Return the dictionary of arrays, as of scikit-learn.

    Args:
        arrays: By name.
        kind: The kind, as `"nmf"`; `None` to determine it from the names. Components without a mean are those of NMF.
        k: Largest number of codes above 0 at a position; `None` for no limit.

    Raises:
        SettingError: No known dictionary format has these tensor names.
    """
    numbers = {name: _as_numbers(name, array) for name, array in arrays.items()}
    _check_finite(numbers)
    if "cluster_centers_" in numbers:
        return from_centres(_matrix("cluster_centers_", numbers["cluster_centers_"]))
    if "components_" in numbers:
        components, mean = _matrix("components_", numbers["components_"]), numbers.get("mean_")
        found_kind = "ica" if "mixing_" in numbers else "pca" if mean is not None else "nmf"
        if kind is None:
            _check_factorisation(found_kind, components)
        return from_components(kind or found_kind, components, mean, numbers.get("mixing_"))
    for name in VECTORS:
        if name in numbers:
            vectors = numbers[name].reshape(-1, numbers[name].shape[-1]) if numbers[name].ndim else numbers[name]
            bias = numbers.get("intercept_")
            bias = None if bias is None else bias.flatten()
            return Dictionary(kind=kind or "probe", encoder=_matrix(name, vectors), bias=bias, k=k)
    found = ", ".join(list(arrays)[:3]) or "nothing"
    raise SettingError(f"no dictionary in the file: it must hold {KNOWN}; it holds {found}")


def _autoencoder(tensors: Tensors, settings: Settings, kind: str | None) -> Dictionary:
    """Return the dictionary of SAELens, ViT-Prisma or saev; their weights are (channels, features)."""
    if settings.get("normalize_activations") not in UNSCALED:
        raise SettingError(
            f"the dictionary scales its input by {settings['normalize_activations']}, which is not read; fold the "
            "scale into its weights (SAELens: fold_activation_norm_scaling_factor) and save it again"
        )
    encoder, decoder = _matrix("W_enc", tensors["W_enc"]).T, _matrix("W_dec", tensors["W_dec"])
    if decoder.shape != encoder.shape and decoder.T.shape == encoder.shape:
        decoder = decoder.T
    count, channels = encoder.shape
    bias = tensors.get("b_gate", tensors.get("b_enc", torch.zeros(count)))
    offset = tensors.get("b_dec", torch.zeros(channels))
    found = kind or _kind_of(tensors, settings)
    if settings.get("rescale_acts_by_decoder_norm"):  # codes are compared, and returned, times these norms
        norms = decoder.norm(dim=1)
        encoder, bias, decoder = encoder * norms[:, None], bias * norms, decoder / norms[:, None]
    threshold = tensors["log_threshold"].exp() if "log_threshold" in tensors else tensors.get("threshold")
    return from_autoencoder(
        found,
        encoder,
        decoder,
        bias,
        offset,
        centred=bool(settings.get("apply_b_dec_to_input", True)),
        threshold=None if threshold is None else threshold.flatten().expand(count),
        gain=tensors["r_mag"].exp() if found == "gated" else None,
        magnitude_bias=tensors["b_mag"] if found == "gated" else None,
        k=_count_of(settings, found),
    )


def _check_factorisation(found_kind: str, components: Tensor) -> None:
    """Check that components can be those of the factorisation of the names of the arrays."""
    if found_kind == "nmf" and components.min() < 0:
        raise SettingError(
            "components_ without mean_ are read as those of NMF, and these are below 0; give kind='pca' if codes are "
            "products with the components, as those of TruncatedSVD"
        )
    if found_kind == "pca" and (components @ components.T - torch.eye(len(components))).abs().max() > ORTHONORMAL:
        raise SettingError(
            "components_ with mean_ are read as those of PCA, and these are not orthonormal, as of SparsePCA and "
            "FactorAnalysis; give kind='pca' if codes are products with the components"
        )


def _kind_of(tensors: Tensors, settings: Settings) -> str:
    """Return the kind of an autoencoder, by the names of its tensors or by its settings."""
    if "r_mag" in tensors:
        return "gated"
    named = [settings.get(key) for key in ("architecture", "activation_fn_str", "activation_fn", "activation")]
    texts = [value.get("cls", value.get("key", "")) if isinstance(value, dict) else value for value in named]
    keys = [str(text).lower().replace("-", "_") for text in texts if text]
    unknown = next((key for key in keys if key not in ARCHITECTURES), None)
    if unknown is not None:
        raise SettingError(
            f"its configuration names the architecture or activation {unknown!r}, which is not read; read are "
            f"{', '.join(ARCHITECTURES)}"
        )
    kinds = [ARCHITECTURES[key] for key in keys]
    special = next((kind for kind in kinds if kind != "relu"), None)  # "standard" may have any activation function
    if special is not None:
        return special
    if "log_threshold" in tensors or "threshold" in tensors:
        return "jumprelu"
    return "topk" if _given_count(settings) is not None and not kinds else "relu"


def _count_of(settings: Settings, kind: str) -> int | None:
    k = _given_count(settings)
    if kind == "topk" and k is None:
        raise SettingError("the file does not contain k, the number of codes above 0; give k=32 to fv.Dictionary.load")
    return k


def _given_count(settings: Settings) -> int | None:
    """Return the number of codes above 0 in a configuration; `None` where it has none."""
    nested = [value for key in ("activation_fn_kwargs", "activation") if isinstance(value := settings.get(key), dict)]
    nested += [value["params"] for value in nested if isinstance(value.get("params"), dict)]
    counts = [each.get(key) for each in (settings, *nested) for key in ("k", "top_k")]
    return next((int(count) for count in counts if isinstance(count, int | float) and count > 0), None)


def _as_numbers(name: str, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise SettingError(f"the array {name} of the file must hold numbers, and holds {array.dtype}")
    return torch.from_numpy(np.array(array, np.float32))


def _matrix(name: str, values: Tensor) -> Tensor:
    if values.ndim != 2 or not values.numel():
        raise SettingError(f"{name} must be a matrix, got shape {tuple(values.shape)}")
    return values


def _check_finite(tensors: Tensors) -> None:
    bad = next((name for name, each in tensors.items() if not each.isfinite().all()), None)
    if bad is not None:
        raise SettingError(f"the dictionary is damaged: {bad} has NaN or infinite numbers")
