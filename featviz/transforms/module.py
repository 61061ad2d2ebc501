"""Transforms of other libraries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from featviz.errors import SettingError
from featviz.interfaces import Shape
from featviz.random import Generators, global_sources


@dataclass(frozen=True)
class ModuleTransform:
    """A module of `torchvision.transforms.v2` or kornia, or any that takes a batch of images; stacks wrap them in it.

    Each image goes through it alone and with a seed of its own; the caller's random state is left as it was. Masks do
    not follow it.

    Args:
        module: gives images of one size, in or near [0, 1].
    """

    module: nn.Module

    def draw(self, rng: Generators, shape: Shape) -> Int64[Tensor, " n"]:
        """Draw the seed of each image."""
        return (rng.uniform() * 2**24).long()

    def apply(self, images: Float[Tensor, "n c h w"], draw: Int64[Tensor, " n"]) -> Float[Tensor, "n c2 h2 w2"]:
        """Run the module on one image after another."""
        devices = [images.device] if images.device.type == "cuda" else []
        trained = [weight for weight in self.module.parameters() if weight.requires_grad]
        seen = []
        try:
            self.module.requires_grad_(False)
            with torch.random.fork_rng(devices), saved_tensors_hooks(torch.clone, _as_it_is):  # some write in place
                for image, seed in zip(images, draw.tolist(), strict=True):
                    for source in global_sources(images.device):
                        source.manual_seed(seed)
                    seen.append(self.module(image[None]))
        finally:
            for weight in trained:
                weight.requires_grad_(True)
        return torch.cat(seen)

    def move(self, masks: Float[Tensor, "n c h w"], draw: Int64[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """Refuse: how the module moves pixels is not known.

        Raises:
            SettingError: Always.
        """
        raise SettingError(f"a mask cannot follow {type(self.module).__name__}; use transforms of featviz with masks")


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor
