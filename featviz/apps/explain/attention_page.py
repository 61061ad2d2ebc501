"""A self-contained page of the attention of a transformer: every layer and head, and rollouts through the layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from featviz.apps.explain.attention_flow import gradient_steps
from featviz.apps.explain.attention_record import AttentionRecord
from featviz.apps.explain.drawing import enlarged
from featviz.apps.shared.pages.input_pictures import rgb
from featviz.apps.shared.pages.page import base64, compress, render_template
from featviz.errors import pluralize
from featviz.io import encode

THUMBNAIL = 24
"""Most rows and columns of the thumbnail of a head."""


def attention_page(record: AttentionRecord) -> str:
    """Return the page as HTML.

    The matrices stand behind the script of the page, each in an element of its own, compressed. So the page shows
    something before it has loaded completely, and unpacks only the heads that are looked at.

    Args:
        record: The attention weights.
    """
    heads = [len(matrix) for matrix in record.weights]
    total = pluralize(sum(heads), "head")
    about = f"{pluralize(len(record.tokens), 'token')}, {pluralize(len(record.layers), 'layer')}, {total}"
    return render_template(
        "explain/attention.html",
        _facts(record) | {"heads": heads},
        title=f"Attention of {record.network}",
        about=about,
        target=record.target if record.gradients is not None else "",
        on_grid=record.image is not None and record.grid is not None,
        matrices=_matrices(record),
    )


def _facts(record: AttentionRecord) -> dict[str, Any]:
    """Return the data that the script loads first: tokens, the image, and thumbnails of the heads."""
    side = min(THUMBNAIL, len(record.tokens))
    heads = [torch.cat([matrix.mean(0, keepdim=True), matrix]) for matrix in record.weights]
    facts: dict[str, Any] = {
        "tokens": record.tokens,
        "layers": record.layers,
        "side": side,
        "thumbnails": base64(b"".join(_thumbnails(matrix, side).numpy().tobytes() for matrix in heads)),
        "image": None,
    }
    if record.image is not None and record.grid is not None:
        pixels = enlarged(rgb(record.image[None])[0])
        facts["image"] = {
            "data": base64(encode(pixels, ".webp")),
            "size": pixels.shape[:2],
            "grid": record.grid,
            "patches": record.patches,
        }
    return facts


def _matrices(record: AttentionRecord) -> Iterator[tuple[str, str]]:
    """Yield the name and the packed numbers of each matrix, those that the page needs first at the front.

    The means of the heads are multiplied with each other on the page, where errors add up.
    """
    for layer, matrix in enumerate(record.weights):
        yield f"mean-{layer}", pack(matrix.mean(0), companded=True)
    if record.gradients is not None:
        for layer, step in enumerate(gradient_steps(record.weights, record.gradients)):
            yield f"class-{layer}", pack(step - torch.eye(len(step)), companded=True)
    for layer, matrix in enumerate(record.weights):
        for head, weights in enumerate(matrix):
            yield f"head-{layer}-{head}", pack(weights)


def pack(matrix: Float[Tensor, "l l"], *, companded: bool = False) -> str:
    """Return a matrix of numbers >= 0 as text: the largest number of each row, and each number with 8 bits.

    Args:
        matrix: The numbers.
        companded: Store square roots, so that small numbers keep a relative precision; the text is longer.

    Returns:
        Little-endian float32 maxima followed by the bytes, compressed by zlib and encoded in base 64.
    """
    largest = matrix.amax(1)
    share = (matrix / largest.clamp(min=1e-30)[:, None]).clamp(0, 1)
    cells: UInt8[Tensor, "l l"] = ((share.sqrt() if companded else share) * 255).round().byte()
    data = largest.float().numpy().astype("<f4").tobytes() + cells.numpy().tobytes()
    return compress(data)


def _thumbnails(matrices: Float[Tensor, "n l l"], side: int) -> UInt8[Tensor, "n side side"]:
    """Return small copies. Maxima are kept, because a mean would fade diagonals."""
    small = F.adaptive_max_pool2d(matrices[:, None], side)[:, 0]
    largest = small.flatten(1).amax(1).clamp(min=1e-30)
    return ((small / largest[:, None, None]).clamp(0, 1).sqrt() * 255).round().byte()
