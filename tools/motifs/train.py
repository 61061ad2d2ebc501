"""Train an embedded network on drawings made as it goes: `make motifnet motifvit`, some hours on two cores.

Accuracy is not all that it is trained for: every drawing is first pushed by one step against its label
(Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572, in the L2 norm), because networks trained so have pictures
that people recognise (Engstrom et al. 2019, https://arxiv.org/abs/1906.00945). The pushes grow over the first half:
what has never been told apart, such as rings and spirals, is not learned while it is being hidden. With `--further`
they begin at half.

Some drawings may be spoilt until nothing is left of their motif; of those the network is to have no opinion (Hendrycks
et al. 2018, https://arxiv.org/abs/1812.04606), however they are pushed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from featviz.network.bundled import BUNDLED, MOTIFS, weights
from featviz.network.bundled.motifnet import MEAN, SIZE, STD
from motifs.draw import draw
from motifs.spoil import grained, spoil

RATE = {"motifnet": 4e-3, "motifvit": 1.5e-3}
"""The highest learning rate of each."""
MEMORY = 0.05
"""How much a batch counts in what is known of a motif's loss."""
AT_ONCE = 16
"""How many batches are drawn at once: many small kernels draw a motif, however many drawings there are."""


def main() -> None:
    """Train, print the accuracy on fresh drawings, and save the weights in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=BUNDLED)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--push", type=float, default=6.0, help="L2 length at most, in [0, 1] pixels of a drawing")
    parser.add_argument("--spoilt", type=float, default=0.0, help="share of drawings of which nothing is to be seen")
    parser.add_argument("--grain", type=float, default=0.0, help="deviation at most of the noise over drawings")
    parser.add_argument("--further", action="store_true", help="begin with the weights that are there")
    parser.add_argument("--rate", type=float, help="the highest learning rate; left out: the network's own")
    parser.add_argument("--seed", type=int, default=0, help="of the drawings")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="left out: where the package has it")
    options = parser.parse_args()
    output = options.output or weights(options.name)
    unfinished = output.with_suffix(".unfinished")

    torch.manual_seed(0)
    net = BUNDLED[options.name]().to(memory_format=torch.channels_last).to(options.device)
    if options.further:
        net.load_state_dict(load_file(weights(options.name)))
    train(net, options, unfinished)
    print(f"accuracy on fresh drawings: {accuracy(net):.4f}")
    save(net, unfinished)
    unfinished.replace(output)


def train(net: nn.Module, options: argparse.Namespace, unfinished: Path) -> None:
    """Train as `main` was told to, saving the weights now and then."""
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.rate or RATE[options.name], options.steps)
    generator = torch.Generator(options.device).manual_seed(options.seed)
    trouble = torch.ones(len(MOTIFS), device=options.device)
    spoilt = round(options.spoilt * options.batch)
    begun = 0.5 if options.further else 0.0
    bar = tqdm(range(options.steps))
    for step in bar:
        if step % AT_ONCE == 0:
            drawn = draw_batches(trouble, options.batch, generator)
        images, labels = next(drawn)
        grown = min(1.0, begun + (1 - begun) * 2 * step / options.steps)
        images, truth = worsened(images, labels, spoilt, options.grain * grown, generator)
        images = push(net, images, truth, options.push * grown, generator)
        losses = F.cross_entropy(logits(net, images), truth, reduction="none")
        follow(trouble, labels[spoilt:], losses[spoilt:].detach())
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:  # to look at it waits for the device
            bar.set_postfix_str(f"loss {losses.mean().item():.3f}")
        if step % 300 == 299:
            save(net, unfinished)


def worsened(
    images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], spoilt: int, grain: float, generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n classes"]]:
    """Spoil the first so many drawings, lay grain over all, and say how likely each motif is to be in them now."""
    truth = F.one_hot(labels, len(MOTIFS)).float()
    if spoilt:
        images = torch.cat([spoil(images[:spoilt], labels[:spoilt], generator), images[spoilt:]])
        truth[:spoilt] = 1 / len(MOTIFS)
    return grained(images, grain, generator) if grain else images, truth


def draw_batches(
    trouble: Float[Tensor, " classes"], batch: int, generator: torch.Generator
) -> Iterator[tuple[Float[Tensor, "n 3 h w"], Int[Tensor, " n"]]]:
    """Draw some batches of images and labels at once, half of them of what the network still has trouble with."""
    chance = trouble / trouble.sum() + 1 / len(MOTIFS)
    labels = torch.multinomial(chance, AT_ONCE * batch, replacement=True, generator=generator)
    return zip(draw(labels, (SIZE, SIZE), generator).split(batch), labels.split(batch), strict=True)


def follow(trouble: Float[Tensor, " classes"], labels: Int[Tensor, " n"], losses: Float[Tensor, " n"]) -> None:
    """Keep account of each motif's loss."""
    total, count = (torch.zeros_like(trouble).index_add(0, labels, x) for x in (losses, torch.ones_like(losses)))
    trouble.lerp_(total / count.clamp(min=1), MEMORY * (count > 0))


def save(net: nn.Module, path: Path) -> None:
    """Write the weights in half precision."""
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)


def logits(net: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
    """Run the network on [0, 1] drawings, in bfloat16 where the device has it."""
    mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    able = images.is_cuda or torch.cpu._is_avx512_bf16_supported()
    lower = torch.autocast(images.device.type, torch.bfloat16, able)
    with lower, sdpa_kernel(SDPBackend.MATH):  # on a CPU the way back through the fused one takes 1.8 times as long
        return net(images).float()


def push(
    net: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    truth: Float[Tensor, "n classes"],
    most: float,
    generator: torch.Generator,
) -> Float[Tensor, "n 3 h w"]:
    """Move each drawing up to so far in the direction that hides its true probabilities best."""
    net.eval()
    noise = torch.randn(images.shape, generator=generator, device=images.device) * 0.02
    start = (images + noise).requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(logits(net, start), truth), start)[0]
    net.train()
    length = most * torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    gradient = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (start.detach() + length * gradient).clamp(0, 1)


@torch.no_grad()
def accuracy(net: nn.Module, batches: int = 40, seed: int = 1_000_003) -> float:
    """Return the share of fresh drawings, 100 a batch, that the network names."""
    net.eval()
    device = next(net.parameters()).device
    generator, right = torch.Generator(device).manual_seed(seed), 0.0
    for _ in range(batches):
        labels = torch.randint(len(MOTIFS), (100,), generator=generator, device=device)
        right += (logits(net, draw(labels, (SIZE, SIZE), generator)).argmax(1) == labels).sum().item()
    return right / (100 * batches)


if __name__ == "__main__":
    main()
