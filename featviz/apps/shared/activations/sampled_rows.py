"""Rows of activations at random positions of photographs, and their range in half precision."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from featviz.apps.shared.activations.image_batches import ImageBatch

ROW_COUNTS = ("seen", "rows", "photographs", "exponent")
"""What is counted while rows are collected: files that were read or skipped, rows, and photographs that rows are from;
and the power of 2 by which stored activations are divided."""
FLOAT16_LIMIT = 6e4
"""Stored activations are clipped to this absolute value, below the largest number in half precision."""
UNSCALED_RANGE = 2.0**-6, 2.0**13
"""Largest activations in this range are stored as they are."""
STORED_LARGEST = 8
"""Other activations are stored divided by a power of 2, so that the largest is about 2 to the power of this."""


def count_batch(counts: dict[str, int], batch: ImageBatch, rows: int) -> None:
    """Add the rows of a batch of photographs to the counts.

    Args:
        counts: The numbers by their names in `ROW_COUNTS`.
        batch: The photographs.
        rows: Number of their rows.
    """
    counts["seen"] = batch.read
    counts["rows"] += rows
    counts["photographs"] += len(batch.files)


def half_exponent(rows: np.ndarray) -> int:
    """Return the power of 2 by which the activations of a layer are divided to be stored in half precision.

    Args:
        rows: Those of the first photographs. Later ones may be larger by a factor of 200.
    """
    largest = float(np.abs(rows).max(initial=0.0))
    if not largest or UNSCALED_RANGE[0] <= largest <= UNSCALED_RANGE[1]:
        return 0
    return math.frexp(largest)[1] - STORED_LARGEST


def to_half(rows: np.ndarray, exponent: int) -> np.ndarray:
    """Return activations in half precision, divided by 2 to the power of `exponent`."""
    return np.ldexp(rows, -exponent).clip(-FLOAT16_LIMIT, FLOAT16_LIMIT).astype(np.float16)


def draw_positions(count: int, total: int, most: int, *, seed: int, first: int) -> Int64[Tensor, "count some"]:
    """Draw positions for each photograph from its index alone, so that an interrupted run draws the same ones.

    Args:
        count: Number of photographs.
        total: Number of positions of each.
        most: Largest number of positions to draw.
        seed: Seed of the positions.
        first: Index of the first photograph.
    """
    drawn = []
    for number in range(first, first + count):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        drawn.append(torch.randperm(total, generator=generator)[:most])
    return torch.stack(drawn)


def rows_at_random(
    values: Float[Tensor, "n channel *position"], most: int, *, seed: int, first: int
) -> Float[Tensor, "n some channel"]:
    """Return activations at random positions of each photograph, or at all positions in order if there are few.

    Args:
        values: Activations, with the channels first.
        most: Largest number of positions of a photograph.
        seed: Seed of the positions.
        first: Index of the first photograph.
    """
    flat = values.unsqueeze(-1).flatten(2).transpose(1, 2).float().cpu()
    if flat.shape[1] <= most:
        return flat
    positions = draw_positions(len(flat), flat.shape[1], most, seed=seed, first=first)
    return flat.gather(1, positions[..., None].expand(-1, -1, flat.shape[2]))
