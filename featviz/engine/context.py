"""Facts about a render that objectives may need before the first step."""

from __future__ import annotations

from functools import partial

from featviz.interfaces import RenderContext, Size
from featviz.network import Network, batch_statistics


def context_of(network: Network, size: Size, view: Size) -> RenderContext:
    """Return the facts about images that a network will see.

    Args:
        network: What sees the images.
        size: Length of each axis of the images in px.
        view: The same of what the network sees at once, in px.
    """
    return RenderContext(
        network.capture,
        network.channels,
        size,
        view,
        network.embed_texts,
        partial(batch_statistics, network.module),
        tuple(network.inputs),
        network.given_per_image,
    )
