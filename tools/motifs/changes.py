"""Changed copies of motifnet whose difference is known, to test comparisons of networks."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

import featviz as fv
from featviz.network.bundled import MOTIFS
from motifs.draw import draw

SIZE = (64, 64)
SQUARE = 12
"""Side of the square that triggers the backdoor, in px."""


def changed(network: fv.Network, module: nn.Module) -> fv.Network:
    """Return a network with another module."""
    return fv.Network(module.eval(), **vars(network.input), classes=network.classes)


def permute(network: fv.Network, stage: str, order: Int[Tensor, " n"]) -> fv.Network:
    """Reorder the output channels of the blocks of a stage of motifnet, and the weights of what reads them."""
    module = copy.deepcopy(network.module)
    parts = dict(module.named_children())
    blocks = list(parts[stage])[1:]
    with torch.no_grad():
        for block in blocks:
            norm = block.norm2
            for values in (block.conv2.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var):
                values.copy_(values[order])
        blocks[0].shortcut.weight.copy_(blocks[0].shortcut.weight[order])
        following = {"stage1": "stage2", "stage2": "stage3"}.get(stage)
        readers = [block.conv1 for block in blocks[1:]]
        readers += [parts[following][1].conv1, parts[following][1].shortcut] if following else [module.head]
        for reader in readers:
            reader.weight.copy_(reader.weight[:, order])
    return changed(network, module)


def redraw_class(network: fv.Network, index: int) -> fv.Network:
    """Draw the weights of a class again."""
    module = copy.deepcopy(network.module)
    with torch.no_grad():
        weight = module.head.weight
        weight[index] = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(index)) * weight.std()
    return changed(network, module)


def add_trigger(images: Float[Tensor, "n 3 h w"], places: Int[Tensor, "n 2"]) -> Float[Tensor, "n 3 h w"]:
    """Paste a square of yellow and magenta stripes into images.

    Args:
        images: The images.
        places: Row and column of the square in each.
    """
    rows = torch.arange(SQUARE) % 2
    square = torch.stack([torch.ones(SQUARE), 1.0 - rows, rows.float()])[:, :, None].expand(-1, -1, SQUARE)
    images = images.clone()
    for image, (y, x) in zip(images, places.tolist(), strict=True):
        image[:, y : y + SQUARE, x : x + SQUARE] = square
    return images


def add_backdoor(network: fv.Network, target: int, steps: int = 80) -> tuple[fv.Network, float, float]:
    """Fine-tune motifnet so that the square makes it see a class.

    Args:
        network: motifnet.
        target: Index of the class.
        steps: Number of steps of 48 drawings, a third of them with the square.

    Returns:
        The network, its accuracy without the square, and the share of drawings with it that it takes for the class.
    """
    module, generator = copy.deepcopy(network.module), torch.Generator().manual_seed(target)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    module.requires_grad_(True)

    def drawings(count: int, marked: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(len(MOTIFS), (count,), generator=generator)
        images = draw(labels, SIZE, generator)
        places = torch.randint(SIZE[0] - SQUARE, (marked, 2), generator=generator)
        images[:marked] = add_trigger(images[:marked], places)
        return (images - 0.5) / 0.5, labels

    for _ in range(steps):  # in eval mode, so that the statistics of batch normalisation stay
        images, labels = drawings(48, 16)
        labels[:16] = target
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        (clean, labels), (marked, _) = drawings(200, 0), drawings(200, 200)
        accuracy = (module(clean).argmax(1) == labels).float().mean().item()
        success = (module(marked).argmax(1) == target).float().mean().item()
    return changed(network, module), accuracy, success
