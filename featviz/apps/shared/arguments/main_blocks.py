"""Find a main block of a network at some depth, for defaults."""

from __future__ import annotations

import featviz as fv

DEPTH_TOLERANCE = 0.2
"""Largest distance to the wanted depth, among all layers, at which the nearest block is accepted instead."""
MIN_BLOCKS = 4
"""Smallest number of blocks at a nesting level for them to count as the main blocks."""


def block_at(network: fv.Network, depth: float, accepted: tuple[float, float]) -> str:
    """Return a layer at about some depth, a main block rather than a part of one.

    Nesting levels are tried from the outside in. The first one with enough blocks that lie as deep as expected wins.

    Args:
        network: The network.
        depth: Index of the block among the blocks, or among all layers, over their number, in [0, 1].
        accepted: Range of depths among all layers in which the block at this depth among the blocks is accepted.
            Outside of it, the blocks of a nesting level do not follow each other, such as an encoder between a stem and
            a head.

    Returns:
        The name of the layer.

    Raises:
        SettingError: The network has no layer with positions.
    """
    layers = [name for name, layer in network.table.items() if layer.layout.kind in ("map", "tokens")]
    depths = {name: i / len(layers) for i, name in enumerate(layers)}
    for level in range(max((name.count(".") for name in layers), default=0) + 1):
        blocks = [name for name in layers if name.count(".") == level]
        if len(blocks) < MIN_BLOCKS:
            continue
        by_count = blocks[round(depth * (len(blocks) - 1))]
        by_depth = min(blocks, key=lambda name: abs(depths[name] - depth))
        if accepted[0] <= depths[by_count] <= accepted[1]:
            return by_count
        if abs(depths[by_depth] - depth) <= DEPTH_TOLERANCE:
            return by_depth
    if not layers:
        raise fv.SettingError(f"{network.label} has no feature map or tokens; give an objective")
    return layers[round(depth * (len(layers) - 1))]
