"""Train an embedded network on drawings made as it goes: `make motifnet motifvit`, some hours on two cores.

Accuracy is not all that it is trained for: every drawing is first pushed by one step against its label
(Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572, in the L2 norm), because networks trained so have pictures
that people recognise (Engstrom et al. 2019, https://arxiv.org/abs/1906.00945). The pushes grow over the first half:
what has never been told apart, such as rings and spirals, is not learned while it is being hidden.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from featviz.network.motifs import EMBEDDED, MOTIFS, draw, weights
from featviz.network.motifs.motifnet import MEAN, SIZE, STD

RATE = {"motifnet": 4e-3, "motifvit": 1.5e-3}
"""The highest learning rate of each."""
MEMORY = 0.05
"""How much a batch counts in what is known of a motif's loss."""


def main() -> None:
    """Train, print the accuracy on fresh drawings, and save the weights in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=EMBEDDED)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--push", type=float, default=6.0, help="L2 length at most, in [0, 1] pixels of a drawing")
    parser.add_argument("--further", action="store_true", help="begin with the weights that are there")
    parser.add_argument("--rate", type=float, help="the highest learning rate; left out: the network's own")
    parser.add_argument("--seed", type=int, default=0, help="of the drawings")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="left out: where the package has it")
    options = parser.parse_args()
    output = options.output or weights(options.name)

    torch.manual_seed(0)
    net = EMBEDDED[options.name]().to(memory_format=torch.channels_last).to(options.device)
    if options.further:
        net.load_state_dict(load_file(weights(options.name)))
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate or RATE[options.name], options.steps)
    generator = torch.Generator().manual_seed(options.seed)
    trouble = torch.ones(len(MOTIFS))
    bar = tqdm(range(options.steps))
    for step in bar:
        labels = torch.multinomial(trouble / trouble.sum() + 1 / len(MOTIFS), options.batch, True, generator=generator)
        most = options.push * min(1.0, 2 * step / options.steps)
        images = push(net, draw(labels, (SIZE, SIZE), generator), labels, most, generator)
        losses = F.cross_entropy(logits(net, images), labels, reduction="none")
        follow(trouble, labels, losses.detach())
        loss = losses.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"loss {loss.item():.3f}")
        if step % 300 == 299:
            save(net, output)
    print(f"accuracy on fresh drawings: {accuracy(net):.4f}")
    save(net, output)


def follow(trouble: torch.Tensor, labels: torch.Tensor, losses: torch.Tensor) -> None:
    """Keep account of each motif's loss: half of all drawings are of what the network still has trouble with."""
    for label in labels.unique():
        trouble[label].lerp_(losses[labels == label].mean(), MEMORY)


def save(net: nn.Module, path: Path) -> None:
    """Write the weights in half precision."""
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)


def logits(net: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Run the network on [0, 1] drawings, in bfloat16 where the device has it; what it puts out is on the CPU."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    device = next(net.parameters()).device.type
    images = ((images - mean) / std).to(device).contiguous(memory_format=torch.channels_last)
    lower = torch.autocast(device, torch.bfloat16, device == "cuda" or torch.cpu._is_avx512_bf16_supported())
    with lower, sdpa_kernel(SDPBackend.MATH):  # on a CPU the way back through the fused one takes 1.8 times as long
        return net(images).float().cpu()


def push(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, most: float, generator: torch.Generator
) -> torch.Tensor:
    """Move each drawing up to so far in the direction that hides its label best."""
    net.eval()
    noise = torch.randn(images.shape, generator=generator) * 0.02
    start = (images + noise).requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(logits(net, start), labels), start)[0]
    net.train()
    length = most * torch.rand((len(images), 1, 1, 1), generator=generator)
    gradient = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (start.detach() + length * gradient).clamp(0, 1)


@torch.no_grad()
def accuracy(net: nn.Module, batches: int = 40, seed: int = 1_000_003) -> float:
    """Return the share of fresh drawings, 100 a batch, that the network names."""
    net.eval()
    generator, right = torch.Generator().manual_seed(seed), 0.0
    for _ in range(batches):
        labels = torch.randint(len(MOTIFS), (100,), generator=generator)
        right += (logits(net, draw(labels, (SIZE, SIZE), generator)).argmax(1) == labels).sum().item()
    return right / (100 * batches)


if __name__ == "__main__":
    main()
