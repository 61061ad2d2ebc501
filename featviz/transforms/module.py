"""Modules of other libraries as transforms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from featviz.checks import check_kind
from featviz.errors import SettingError
from featviz.interfaces import Shape
from featviz.random import Generators, keep_global_state


@dataclass(frozen=True)
class ModuleTransform:
    """Apply a module, such as those of `torchvision.transforms.v2` and kornia. `fuse` wraps modules in it.

    Each image goes through the module alone and with a seed of its own, so that the result does not depend on the rest
    of the batch. The global random state is left unchanged. Masks cannot follow it.

    Args:
        module: Takes a batch of images in [0, 1], and returns images, all of one size.

    Raises:
        SettingError: `module` is no module.
    """

    module: nn.Module

    def __post_init__(self) -> None:
        """Check the module."""
        instead = "use e.g. torchvision.transforms.v2.GaussianBlur(3)"
        check_kind("module of ModuleTransform", self.module, nn.Module, instead)

    def draw(self, rng: Generators, shape: Shape) -> Int64[Tensor, " n"]:
        """Draw the seed of each image."""
        return (rng.uniform() * 2**24).long()

    def apply(self, images: Float[Tensor, "n c *size"], draw: Int64[Tensor, " n"]) -> Float[Tensor, "n c2 *size2"]:
        """Apply the module to one image after another."""
        views = []
        # Some modules modify tensors in place that autograd has saved for the backward pass. It gets copies.
        with keep_global_state(images.device) as sources, _frozen(self.module), saved_tensors_hooks(torch.clone, _same):
            for image, seed in zip(images, draw.tolist(), strict=True):
                for source in sources:
                    source.set_state(source.state_of(seed))
                views.append(self.module(image[None]))
        return torch.cat(views)

    def move(self, masks: Float[Tensor, "n c *size"], draw: Int64[Tensor, " n"]) -> Float[Tensor, "n c *size"]:
        """Refuse to move masks, because it is unknown how the module moves pixels.

        Raises:
            SettingError: Always.
        """
        raise SettingError(
            f"masks cannot follow {type(self.module).__name__}, a module of another library; use transforms of featviz"
        )


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Compute no gradients of a module's weights within a context."""
    trainable = [weight for weight in module.parameters() if weight.requires_grad]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trainable:
            weight.requires_grad_(True)


def _same(tensor: Tensor) -> Tensor:
    return tensor
