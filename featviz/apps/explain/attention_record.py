"""Record the attention weights of a transformer for one image or text, to follow them through heads and layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.attention_flow import gradient_steps, rolled, rollout_steps
from featviz.apps.explain.methods.attention_weights import TokenAttention, TokenGrid, attention_layers, check_whole
from featviz.apps.explain.request import AttributionRequest
from featviz.apps.explain.text import check_no_text, read_text, separate_texts
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.arguments.targets import Target, as_target
from featviz.engine import entry_point
from featviz.io import GivenImage


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Attention weights of every layer and attention head for one image or text. Returned by `fv.attention`.

    Args:
        network: Label of the network.
        tokens: The text of each token. For images as in addresses: `"@y,x"` for a patch, `"@cls"` for the class token.
        layers: Name of each layer with attention, in execution order.
        weights: Attention weights of each layer: share of token j in what token i reads. Each row adds up to 1.
        gradients: Gradient of the target's score with respect to `weights`; `None` if there is no target.
        target: Text of the target; empty if there is none.
        image: The image, in [0, 1]; `None` for a text.
        grid: Rows and columns of the patch grid; `None` if the tokens are not on one.
        patches: Index of the token of each patch, row by row.
    """

    network: str
    tokens: tuple[str, ...]
    layers: tuple[str, ...]
    weights: Sequence[Float[Tensor, "heads l l"]]
    gradients: Sequence[Float[Tensor, "heads l l"]] | None = None
    target: str = ""
    image: Float[Tensor, "c h w"] | None = None
    grid: tuple[int, int] | None = None
    patches: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that every layer has the same tokens.

        Raises:
            SettingError: A matrix has another size, or there is not one name for each layer.
        """
        count = len(self.tokens)
        given = [("weights", self.weights), ("gradients", self.weights if self.gradients is None else self.gradients)]
        for name, matrices in given:
            shapes = [tuple(each.shape) for each in matrices]
            if len(shapes) != len(self.layers) or not all(shape[1:] == (count, count) for shape in shapes):
                raise fv.SettingError(
                    f"{name} must hold (heads, {count}, {count}) for each of {len(self.layers)} layers, got {shapes}"
                )

    def __repr__(self) -> str:
        """Name the network; count the layers, heads and tokens."""
        heads = "/".join(str(each) for each in dict.fromkeys(len(matrix) for matrix in self.weights))
        target = f" for {self.target}" if self.target else ""
        return f"<attention of {self.network}{target}: {len(self.layers)} layers x {heads} heads, {len(self)} tokens>"

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.tokens)

    def rollout(self) -> Float[Tensor, "l l"]:
        """Return the share of each token at the start (second dimension) in each token after the last layer.

        Source: Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928.
        """
        return rolled(rollout_steps(self.weights))

    def gradient_rollout(self) -> Float[Tensor, "l l"]:
        """Return the relevance of each token at the start (second dimension) to each token after the last layer.

        Only attention that raises the target's score counts.

        Raises:
            SettingError: There is no target.

        Source: Chefer et al. 2021, https://arxiv.org/abs/2103.15679.
        """
        if self.gradients is None:
            raise fv.SettingError("gradient_rollout needs a target; record with fv.attention(network, image, target)")
        return rolled(gradient_steps(self.weights, self.gradients))

    def save(self, path: str | Path) -> Path:
        """Write a page that shows every layer and attention head. It is one file, which opens from the disk.

        Weights are stored with 8 bits, relative to the largest of their row.

        Args:
            path: A .html file.

        Returns:
            The path.

        Raises:
            OutputError: The folder is missing or not writable, or the file has another ending.
        """
        from featviz.apps.explain.attention_page import attention_page
        from featviz.io import check_output, write

        path = Path(path)
        check_output(path, ".html")
        write(path, attention_page(self).encode())
        return path


@entry_point(reads_text=True)
def attention(network: fv.Network, image: GivenImage, target: Target | None = None) -> AttentionRecord:
    """Record the attention weights of a transformer for one image or text, in every layer and attention head.

    The weights are those of each softmax over tokens, whichever function or module computes it.

    Args:
        network: The network.
        image: A file, a Pillow image, or an array or tensor (h, w), (h, w, c) or (c, h, w). For a network that reads
            text: a str, or its token ids.
        target: Score of the class-specific rollout: address, text of an objective, an objective, or the index of a
            class; `None` for no class-specific rollout.

    Returns:
        The weights, with their gradients if there is a target, and the names of the tokens.

    Raises:
        AddressError: The network has no such unit, or the target cannot be parsed.
        OutputError: The file cannot be read.
        SettingError: There are several images or texts, the network has no attention over tokens, or its layers have
            different tokens.
    """
    bound, images = _one_input(network, image)
    objective = fv.objectives.Logit(0) if target is None else as_target(target)
    request = AttributionRequest(bound, objective, (images.shape[-2], images.shape[-1]))
    found = attention_layers(request, images, gradients=target is not None)
    _check_alike(bound, found)
    layers, weights = [f"layer {i}" for i in range(len(found))], [each.weights[0].float().cpu() for each in found]
    gradients = [each.gradients[0].float().cpu() for each in found if each.gradients is not None] or None
    text = "" if target is None else str(objective)
    if bound.tokens is not None:
        words = bound.tokens.words(bound.ids)
        return AttentionRecord(bound.label, words, tuple(layers), weights, gradients, text)
    grid, count = found[0].grid, found[0].weights.shape[-1]
    return AttentionRecord(
        bound.label,
        _token_names(grid, count),
        tuple(layers),
        weights,
        gradients,
        text,
        image=images[0],
        grid=None if grid is None else (grid.rows, grid.columns),
        patches=() if grid is None else tuple(grid.patches),
    )


def _one_input(network: fv.Network, given: Any) -> tuple[fv.Network, Float[Tensor, "1 c h w"]]:
    """Return the network, bound to the text if it reads text, and the image or the embedding sequence.

    Raises:
        OutputError: The file cannot be read.
        SettingError: There is not one, or the network does not read it.
    """
    if network.tokens is None:
        check_no_text(network, given)
        images = as_images(network, given)
        if len(images) != 1:
            raise fv.SettingError(f"attention is recorded for one image, got {len(images)}; pass each on its own")
        return network, images
    several = separate_texts(network, given)
    if several is not None:
        raise fv.SettingError(f"attention is recorded for one text, got {len(several)}; pass each on its own")
    return read_text(network, given)


def _check_alike(network: fv.Network, layers: Sequence[TokenAttention]) -> None:
    """Check that every attention is over all tokens, and that these are the same.

    Raises:
        SettingError: Attention is over windows, or the number of queries or tokens differs.
    """
    check_whole(network.label, layers)
    shapes = list(dict.fromkeys(tuple(layer.weights.shape[-2:]) for layer in layers))
    if len(shapes) > 1 or shapes[0][0] != shapes[0][1]:
        sizes = ", ".join(f"{queries} x {tokens}" for queries, tokens in shapes)
        raise fv.SettingError(
            f"every layer must have the same tokens, got attention of {sizes} in {network.label}; use "
            "fv.methods.Attention"
        )


def _token_names(grid: TokenGrid | None, count: int) -> tuple[str, ...]:
    """Return a name for each token: as in addresses for patches and the class token, or its index."""
    names = [str(i) for i in range(count)]
    if grid is not None:
        for cell, token in enumerate(grid.patches):
            names[token] = f"@{cell // grid.columns},{cell % grid.columns}"
        others = [i for i in range(count) if i not in {*grid.patches, grid.class_token}]
        for number, token in enumerate(others):
            names[token] = f"token {number}"
        if grid.class_token is not None:
            names[grid.class_token] = "@cls"
    return tuple(names)
