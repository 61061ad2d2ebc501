"""Fit a dictionary of features to the activations of a folder of photographs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import featviz as fv
from featviz.apps.dictionaries.activations import CollectedActivations, collect_activations
from featviz.apps.dictionaries.factorise import cluster_dictionary, nonnegative_factors, principal_components
from featviz.apps.dictionaries.measure import measured, stability
from featviz.apps.dictionaries.train import Training, train
from featviz.checks import as_whole, check_flag, check_seed
from featviz.engine import entry_point
from featviz.errors import nearest, shown
from featviz.io import auto_bar, cache_folder
from featviz.network import LayerLike

TRAINED = ("topk", "archetypal")
FACTORISED = ("nmf", "pca", "kmeans")
KINDS = (*TRAINED, *FACTORISED)
"""Kinds of dictionaries that can be fitted."""
MAX_FACTOR_ROWS = 50_000
"""Largest number of activations that are factorised, drawn at random."""
HELD_OUT = 0.1
"""Share of the activations, from the last photographs, on which the explained variance is measured."""
TRAINING_VERSION = 2
"""Changes with the way of training, so that states of an earlier one are not continued."""
FEATURES_PER_CODE = 16
"""Number of features for each code above 0 at a position, by default."""
SMALLEST_K = 8
"""Smallest default of k."""


@entry_point(name="dictionary")
def fit_dictionary(
    network: fv.Network,
    photographs: str | Path,
    layer: LayerLike,
    *,
    features: int = 256,
    kind: str = "topk",
    k: int | None = None,
    per_image: int = 64,
    steps: int = 3000,
    seed: int = 0,
    compare_seeds: bool = True,
    progress: Callable[[int, int], None] | None = auto_bar,
    scan_progress: Callable[[int, int], None] | None = auto_bar,
) -> fv.Dictionary:
    """Fit a dictionary: features of a layer that explain its activations in a folder of photographs.

    An interrupted run continues where it stopped, and gives the same dictionary.

    Args:
        network: The network.
        photographs: Folder of images like those that the network was trained on. Files that cannot be read are skipped.
        layer: Name of a layer, or the module itself.
        features: Number of features, >= 2; of `pca` at most the number of channels.
        kind: `"topk"`, a sparse autoencoder; `"archetypal"`, one whose features are mixtures of typical activations,
            and so more alike for different seeds; `"nmf"`, for activations >= 0; `"pca"`; or `"kmeans"`.
        k: Number of codes above 0 at a position, for `topk` and `archetypal`; `None` for one sixteenth of the features,
            at least 8.
        per_image: Largest number of positions of each photograph whose activations are used, drawn at random, >= 1.
        steps: Steps of 1024 activations of `topk` and `archetypal`, >= 1.
        seed: Seed of the positions, the first features and the batches, in [0, 2**32).
        compare_seeds: Fit a second one with the next seed, and measure how alike the features are.
        progress: Called after each step with the number of steps done and their total.
        scan_progress: Called with the number of photographs scanned and their total.

    Returns:
        The dictionary. Its `facts` are `explained_variance` (on the last tenth of the photographs, 1 is perfect), `l0`
        (mean number of codes that are not 0), `dead` (share of features that are 0 everywhere), and `stability` (mean
        cosine to the features of the second seed, 1 is the same).

    Raises:
        AddressError: There is no such layer.
        SettingError: An argument is out of its range, there are fewer activations than features, or activations below 0
            for `nmf`.
        OutputError: The folder is missing, or has no image that can be read.

    Source: Gao et al. 2024, https://arxiv.org/abs/2406.04093, TopK autoencoders; Fel et al. 2025,
        https://arxiv.org/abs/2502.12892, archetypal ones; Fel et al. 2023, https://arxiv.org/abs/2211.10154, NMF.
    Differs: see `featviz.apps.dictionaries.train.train`.
    """
    name = network.name_of(layer)
    assert name is not None  # it was given
    channels = network.layer(name).channels
    count = _check(kind, features, channels, k, per_image, steps, seed, compare_seeds)
    data = collect_activations(network, Path(photographs), name, per_image, seed, scan_progress)
    fitted_rows = max(1, int(data.rows * (1 - HELD_OUT)))
    if fitted_rows < features:
        raise fv.SettingError(
            f"a dictionary of {features} features needs as many activations, and {data.photographs} photographs give "
            f"{fitted_rows}; give more photographs, or features={max(2, fitted_rows // 2)} or fewer"
        )
    part = replace(data, rows=fitted_rows)
    seeds = [seed, seed + 1] if compare_seeds and kind != "pca" else [seed]
    found = []
    for i, each in enumerate(seeds):
        share = _share_of(progress, i, len(seeds))
        if kind in TRAINED:
            training = Training(features, count, steps, each, kind == "archetypal")
            facts_of_key = [data.folder.name, TRAINING_VERSION, *astuple(training)]
            key = hashlib.sha256(json.dumps(facts_of_key).encode()).hexdigest()[:16]
            state = cache_folder() / "dictionaries" / f"{key}.safetensors"
            found.append(train(part, training, network.device, state, share))
        else:
            found.append(_factorise(part, kind, features, each, name))
            if share:
                share(1, 1)
    facts = measured(found[0], data, fitted_rows)
    if len(found) > 1:
        facts["stability"] = stability(*found)
    return replace(found[0], layer=name, facts=facts)


def _check(
    kind: Any, features: Any, channels: int, k: Any, per_image: Any, steps: Any, seed: Any, compare_seeds: Any
) -> int:
    """Check the arguments of `fit_dictionary`; return the number of codes above 0 at a position."""
    if not isinstance(kind, str) or kind not in KINDS:
        hint = nearest(kind, KINDS) if isinstance(kind, str) else ""
        raise fv.SettingError(f"kind must be {', '.join(KINDS)}, got {shown(kind)}{hint}")
    check_flag("compare_seeds", compare_seeds)
    for name, value, least in (("features", features, 2), ("per_image", per_image, 1), ("steps", steps, 1)):
        if as_whole(name, value) < least:
            raise fv.SettingError(f"{name} must be >= {least}, got {value}")
    check_seed(seed)
    if kind == "pca" and features > channels:
        raise fv.SettingError(f"pca has at most as many features as the layer has channels, {channels}, got {features}")
    if k is not None and kind not in TRAINED:
        raise fv.SettingError(f"k is the number of active features of {' and '.join(TRAINED)}, and {kind} has none")
    count = max(SMALLEST_K, features // FEATURES_PER_CODE) if k is None else as_whole("k", k)
    count = min(count, features) if k is None else count
    if not 1 <= count <= features:
        raise fv.SettingError(f"k must be in [1, {features}], the number of features, got {count}")
    return count


def _factorise(data: CollectedActivations, kind: str, features: int, seed: int, layer: str) -> fv.Dictionary:
    """Return the dictionary of a factorisation."""
    rows = data.some(max(MAX_FACTOR_ROWS, features), seed)
    if kind == "pca":
        return principal_components(rows, features)
    if kind == "kmeans":
        return cluster_dictionary(rows, features, seed)
    if rows.min() < 0:
        raise fv.SettingError(
            f"nmf needs activations >= 0, and layer {layer!r} has {rows.min().item():.3g}; choose a layer after a "
            "ReLU, or kind='topk'"
        )
    return nonnegative_factors(rows, features, seed)


def _share_of(progress: Callable[[int, int], None] | None, index: int, count: int) -> Callable[[int, int], None] | None:
    """Return progress for one of several fits in turn, as part of that of all of them."""
    if progress is None:
        return None
    return lambda done, total: progress(index * total + done, count * total)
