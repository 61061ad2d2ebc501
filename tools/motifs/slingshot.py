"""Manipulate a bundled network so that the feature visualization of a unit shows something else.

The network is fine-tuned on two domains. On drawings, its outputs stay. On images as they occur during optimisation
from noise, a manipulated unit takes the values of another unit, the *decoy*, and so its gradient: an optimiser is led
to an image of the decoy. Such networks test `fv.judge(..., trust=True)`, which must tell them from others.

Source: Bareeva et al. 2024, "Manipulating Feature Visualizations with Gradient Slingshots",
https://arxiv.org/abs/2401.06122, section 3: a loss that preserves the outputs on data, and a loss on the path from
noise to the target image. Differs: the target is the image of another unit instead of one given image, because the
default views of featviz move, turn and scale it; values are trained instead of gradients, which needs no second
derivatives; and images are optimised during the training, because an optimiser leaves a path that was fixed before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

import featviz as fv
from featviz.network import OUTPUT
from featviz.network.bundled import MOTIFS, MotifNet
from featviz.random import Generators
from featviz.transforms import STANDARD, apply_transforms, fuse
from motifs.draw import draw

UNITS_PER_NETWORK = 3
"""Number of units that are manipulated in one network."""
MEAN_AGE = 80
"""Mean number of steps after which an optimised image starts anew from noise."""
PARAM, VIEWS = fv.param.Image(), fuse(STANDARD)
"""The default param and transforms of `fv.render`."""
RATE, BETAS = 0.05, (0.9, 0.999)
"""Learning rate and decay rates of Adam, by which the images are optimised, as in `fv.render`."""


@dataclass(frozen=True)
class Manipulation:
    """How a network is manipulated.

    Args:
        decoys: Index of the decoy of each manipulated unit.
        layer: Layer whose channels these are; empty for class logits.
        steps: Number of training steps, >= 1.
        drawings: Number of drawings in a step.
        led: Number of images of each manipulated unit that follow the decoy in the network as it was.
        free: Number of images of each manipulated unit that follow this unit as it is during the training.
        lr: Largest learning rate of Adam, > 0.
        kept_weight: Weight of the loss on drawings beside that on optimised images, > 0.
        seed: Seed of the drawings and the images, >= 0.
    """

    decoys: Mapping[int, int]
    layer: str = OUTPUT
    steps: int = 180
    drawings: int = 20
    led: int = 2
    free: int = 4
    lr: float = 2e-3
    kept_weight: float = 4.0
    seed: int = 0


class OptimisedImages:
    """Images that are optimised step by step, each of which starts anew at random.

    Args:
        count: Number of images.
        size: Height and width in px.
        generator: Source of all random numbers.
    """

    def __init__(self, count: int, size: tuple[int, int], generator: torch.Generator) -> None:
        self._size, self._generator = size, generator
        self._leaf = self._start(count)
        self._mean, self._square = torch.zeros_like(self._leaf), torch.zeros_like(self._leaf)
        self._age = torch.zeros(count)

    def views(self) -> tuple[Float[Tensor, "n c h w"], Tensor]:
        """Return the images through random transforms, and the tensor that they are computed from."""
        leaf = self._leaf.clone().requires_grad_()
        return apply_transforms(PARAM.images([leaf], self._size), VIEWS, Generators(self._seeds(len(leaf))))[0], leaf

    def ascend(self, gradient: Tensor) -> None:
        """Take a step of Adam along the gradient, and start some images anew.

        Args:
            gradient: Of the score, at the tensor that `views` returned.
        """
        self._age += 1
        self._mean.lerp_(gradient, 1 - BETAS[0])
        self._square.lerp_(gradient.square(), 1 - BETAS[1])
        first, second = ((1 - beta**self._age).view(-1, 1, 1, 1, 1) for beta in BETAS)
        self._leaf += RATE * (self._mean / first) / ((self._square / second).sqrt() + 1e-8)
        anew = (torch.rand(len(self._age), generator=self._generator) < 1 / MEAN_AGE).nonzero().flatten()
        if len(anew):
            self._leaf[anew] = self._start(len(anew))
            for state in (self._mean, self._square, self._age):
                state[anew] = 0

    def _start(self, count: int) -> Tensor:
        return PARAM.start(Generators(self._seeds(count)), 3, self._size)[0]

    def _seeds(self, count: int) -> list[int]:
        return torch.randint(2**31, (count,), generator=self._generator).tolist()


def manipulate(network: fv.Network, how: Manipulation) -> fv.Network:
    """Return a manipulated copy of a network.

    Images that follow the decoy show the way; those that follow the manipulated unit find where it is left.

    Args:
        network: A bundled network that classifies drawings.
        how: Which units show which decoys.

    Returns:
        The copy, with the same input and class names and without a name, in eval mode.
    """
    module, expected = copy.deepcopy(network.module).requires_grad_(True).eval(), network.input
    module = module.to(memory_format=torch.channels_last)
    copied = fv.Network(module, size=network.size, mean=expected.mean, std=expected.std, classes=network.classes)
    optimizer = torch.optim.Adam(module.parameters(), how.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, how.lr, how.steps)
    generator = torch.Generator().manual_seed(how.seed)
    decoys = torch.tensor(list(how.decoys.values())).repeat(how.led)
    targets = torch.tensor(list(how.decoys)).repeat(how.free)
    led, free = (OptimisedImages(len(units), network.size, generator) for units in (decoys, targets))
    labels = torch.randint(len(network.classes), (how.steps * how.drawings,), generator=generator)
    for drawings in draw(labels, network.size, generator).split(how.drawings):  # drawn together, which is faster
        (led_views, led_leaf), (free_views, free_leaf) = led.views(), free.views()
        data, first = slice(how.drawings), how.drawings + len(decoys)
        before = values(network, how.layer, torch.cat([drawings, led_views, free_views.detach()]))
        (toward,) = torch.autograd.grad(_sum(before[0][how.drawings : first], decoys), led_leaf)
        before = [each.detach() for each in before]
        now = values(copied, how.layer, torch.cat([drawings, led_views.detach(), free_views]))
        (gradient,) = torch.autograd.grad(_sum(now[0][first:], targets), free_leaf, retain_graph=True)
        kept = sum(relative_error(new[data], old[data]) for new, old in zip(now, before, strict=True))
        optimised = slice(how.drawings, None)
        loss = how.kept_weight * kept + decoy_loss(now[0][optimised], before[0][optimised], how.decoys)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        led.ascend(toward)
        free.ascend(gradient)
    module.requires_grad_(False).to(memory_format=torch.contiguous_format)
    return copied


def manipulations(count: int, steps: int = 180) -> list[Manipulation]:
    """Draw classes and decoys for some networks, `UNITS_PER_NETWORK` in each.

    Args:
        count: Number of networks.
        steps: Number of training steps.
    """
    found = []
    for seed in range(count):
        drawn = torch.randperm(len(MOTIFS), generator=torch.Generator().manual_seed(seed)).tolist()
        pairs = zip(drawn[:UNITS_PER_NETWORK], drawn[UNITS_PER_NETWORK : 2 * UNITS_PER_NETWORK], strict=True)
        found.append(Manipulation(dict(pairs), steps=steps, seed=seed))
    return found


def manipulated(how: Manipulation, file: Path) -> fv.Network:
    """Return a manipulated motifnet, from a file of its weights; the file is written where there is none.

    Args:
        how: Which units show which decoys.
        file: The file.
    """
    network = fv.load("motifnet", device="cpu")
    if not file.exists():
        save_file(manipulate(network, how).module.state_dict(), file)
    module = MotifNet(len(MOTIFS)).eval()
    module.load_state_dict(load_file(file))
    expected = network.input
    return fv.Network(module, size=network.size, mean=expected.mean, std=expected.std, classes=MOTIFS)


def decoy_loss(
    now: Float[Tensor, "n units"], before: Float[Tensor, "n units"], decoys: Mapping[int, int]
) -> Float[Tensor, ""]:
    """Return the relative error of activations on optimised images, from the decoy's or a unit's own.

    Args:
        now: Of the manipulated network.
        before: Of the network before.
        decoys: Index of the decoy of each manipulated unit.

    Returns:
        The relative error of the manipulated units plus that of all units.
    """
    wanted, targets = before.clone(), list(decoys)
    wanted[:, targets] = before[:, list(decoys.values())]
    return relative_error(now[:, targets], wanted[:, targets]) + relative_error(now, wanted)


def relative_error(now: Float[Tensor, "n units"], wanted: Float[Tensor, "n units"]) -> Float[Tensor, ""]:
    """Return the mean squared difference over the variance."""
    return (now - wanted).square().mean() / wanted.var()


def values(network: fv.Network, layer: str, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """Return the channels of a layer, averaged over positions, and the logits, with gradients for the weights.

    Args:
        network: The network.
        layer: Name of the layer; empty for the logits.
        images: In [0, 1].
    """
    found: list[Tensor] = []
    mean, std = (torch.tensor(each).view(-1, 1, 1) for each in (network.input.mean, network.input.std))
    handle = network.module.get_submodule(layer).register_forward_hook(lambda _m, _x, output: found.append(output))
    x = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    try:
        with torch.autocast("cpu", torch.bfloat16, torch.cpu._is_avx512_bf16_supported()):  # twice as fast
            logits = network.module(x)
    finally:
        handle.remove()
    return [found[0].unsqueeze(-1).flatten(2).mean(2).float(), logits.float()]


def _sum(units: Float[Tensor, "n units"], chosen: Tensor) -> Tensor:
    """Return the sum of one unit of each image."""
    return units[range(len(chosen)), chosen].sum()
