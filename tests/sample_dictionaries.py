"""Dictionaries of every kind, with random numbers."""

from __future__ import annotations

import torch

from featviz.network.dictionaries import from_autoencoder, from_centres, from_components

KINDS = ("relu", "topk", "batchtopk", "jumprelu", "gated", "nmf", "pca", "ica", "kmeans", "probe")


def numbers(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dictionary(kind="relu", channels=8, features=12):
    """Return a dictionary of any kind with random numbers."""
    encoder, decoder = numbers(features, channels), numbers(features, channels, seed=1, scale=0.3)
    bias, offset = numbers(features, seed=2, scale=0.1), numbers(channels, seed=3, scale=0.1)
    if kind == "kmeans":
        return from_centres(encoder)
    if kind in ("nmf", "pca", "ica"):
        return from_components(kind, encoder.abs() if kind == "nmf" else encoder, None if kind == "nmf" else offset)
    more = {"topk": {"k": 3}, "jumprelu": {"threshold": numbers(features, seed=4).abs()}}.get(kind, {})
    if kind == "batchtopk":
        more = {"threshold": torch.full((features,), 0.7)}
    if kind == "gated":
        more = {"gain": numbers(features, seed=5).exp(), "magnitude_bias": numbers(features, seed=6)}
    return from_autoencoder(kind, encoder, decoder, bias, offset, **more)
