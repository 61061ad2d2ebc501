"""Train a bundled network on drawings that are made during training (`make motifnet motifvit`, hours on two cores).

Before it is used, every drawing is moved by one adversarial step against its label (Goodfellow et al. 2015,
https://arxiv.org/abs/1412.6572, in the L2 norm), because networks that are trained so have visualizations that people
recognise (Engstrom et al. 2019, https://arxiv.org/abs/1906.00945). The steps grow during the first half of the
training: a network does not learn to tell similar motifs apart, such as rings and spirals, while adversarial steps
hide the difference. With `--further` they start at half of their length.

A fraction of the drawings may have their motif destroyed. For these, the network is trained to output equal
probabilities for all motifs, also after an adversarial step (Hendrycks et al. 2018, https://arxiv.org/abs/1812.04606).

Of another fraction only the pixels are shown that are most relevant for the network itself, or those that are least
relevant, and the rest is blurred. The most relevant ones should be enough to recognise the motif, and the least
relevant ones should not. Without such drawings in its training, a network is unsure of partly blurred ones because they
are unusual, and insertion and deletion measure that (Hase et al. 2021, https://arxiv.org/abs/2106.00786). There is no
adversarial step for these.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from featviz.network.bundled import IMAGE_NETWORKS, MOTIFS, weights
from featviz.network.bundled.motifnet import MEAN, SIZE, STD
from motifs.corruptions import add_noise, blurred_copies, destroy_motifs, reveal_parts
from motifs.draw import draw

MAX_LEARNING_RATE = {"motifnet": 4e-3, "motifvit": 1.5e-3}
"""Peak of the learning-rate schedule of each network."""
LOSS_AVERAGE_WEIGHT = 0.05
"""Weight of a batch in the running average of each motif's loss."""
BATCHES_PER_DRAW = 16
"""Number of batches that are drawn together: the time of drawing a motif hardly depends on the number of drawings."""
STEPS_PER_SAVE = 300


def main() -> None:
    """Train, print the accuracy on new drawings, and save the weights in half precision."""
    options = _parser().parse_args()
    if options.spoilt + options.revealed > 1:
        raise SystemExit(f"--spoilt and --revealed must add up to <= 1, got {options.spoilt} and {options.revealed}")
    if options.average and not options.further:
        raise SystemExit("--average needs --further, which reads the weights to average with")
    output = options.output or weights(options.name)
    unfinished = output.with_suffix(".unfinished")

    torch.manual_seed(0)
    net = IMAGE_NETWORKS[options.name]().to(memory_format=torch.channels_last).to(options.device)
    before = load_file(weights(options.name), str(options.device)) if options.further else {}
    if before:
        net.load_state_dict(before)
    train(net, options, unfinished)
    average(net, before, options.average)
    sharpen(net, options.sharpen)
    print(f"accuracy on new drawings: {accuracy(net):.4f}")
    save(net, unfinished)
    unfinished.replace(output)


def _parser() -> argparse.ArgumentParser:
    rates = ", ".join(f"{rate} for {name}" for name, rate in MAX_LEARNING_RATE.items())
    parser = argparse.ArgumentParser(
        description="Train a bundled network on drawings that are made during training. Hours on two cores.",
    )
    parser.add_argument("name", choices=IMAGE_NETWORKS, help="the network to train")
    parser.add_argument("--steps", type=int, default=2000, help="number of training steps (default: %(default)s)")
    parser.add_argument(
        "--push",
        type=float,
        default=6.0,
        help="largest L2 length of the adversarial step in [0, 1] pixels, >= 0 (default: %(default)s)",
    )
    parser.add_argument(
        "--spoilt",
        type=float,
        default=0.0,
        help="fraction of drawings whose motif is destroyed, in [0, 1] (default: %(default)s)",
    )
    parser.add_argument(
        "--revealed",
        type=float,
        default=0.0,
        help="fraction of drawings of which only a part is shown; with --spoilt at most 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--grain",
        type=float,
        default=0.0,
        help="largest standard deviation of the added noise, >= 0 (default: %(default)s)",
    )
    parser.add_argument("--further", action="store_true", help="start from the weights that ship with featviz")
    parser.add_argument(
        "--average",
        type=float,
        default=0.0,
        help="with --further, the share of the weights before in an average with those after, in [0, 1] "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--sharpen",
        type=float,
        default=1.0,
        help="after the training, multiply the logits by this, > 0 (default: %(default)s)",
    )
    parser.add_argument("--rate", type=float, help=f"peak learning rate (default: {rates})")
    parser.add_argument("--seed", type=int, default=0, help="seed of the drawings (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="number of drawings per step (default: %(default)s)")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, help="file of the weights (default: replace those that ship with featviz)"
    )
    return parser


def train(net: nn.Module, options: argparse.Namespace, unfinished: Path) -> None:
    """Train a network, and save its weights regularly.

    Args:
        net: The network.
        options: Parsed command line.
        unfinished: File of the intermediate weights.
    """
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    rate = options.rate or MAX_LEARNING_RATE[options.name]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, options.steps)
    generator = torch.Generator(options.device).manual_seed(options.seed)
    class_losses = torch.ones(len(MOTIFS), device=options.device)
    destroyed = round(options.spoilt * options.batch)
    whole = options.batch - round(options.revealed * options.batch)
    first_strength = 0.5 if options.further else 0.0
    bar = tqdm(range(options.steps))
    for step in bar:
        if step % BATCHES_PER_DRAW == 0:
            drawn = draw_batches(class_losses, options.batch, generator)
        images, labels = next(drawn)
        strength = min(1.0, first_strength + (1 - first_strength) * 2 * step / options.steps)
        images, truth = corrupted(images, labels, destroyed, options.grain * strength, generator)
        if whole < len(images):
            images[whole:], truth[whole:] = partly_shown(net, images[whole:], labels[whole:], generator)
        images[:whole] = adversarial_step(net, images[:whole], truth[:whole], options.push * strength, generator)
        losses = F.cross_entropy(logits(net, images), truth, reduction="none")
        update_class_losses(class_losses, labels[destroyed:whole], losses[destroyed:whole].detach())
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:  # reading the loss waits for the device
            bar.set_postfix_str(f"loss {losses.mean().item():.3f}")
        if (step + 1) % STEPS_PER_SAVE == 0:
            save(net, unfinished)


def corrupted(
    images: Float[Tensor, "n 3 h w"],
    labels: Int[Tensor, " n"],
    destroyed: int,
    noise_std: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n classes"]]:
    """Corrupt a batch of drawings.

    Args:
        images: Drawings in [0, 1].
        labels: Their motifs.
        destroyed: Number of drawings, from the first, whose motif is destroyed.
        noise_std: Largest standard deviation of the noise added to all of them, >= 0.
        generator: Source of all random numbers.

    Returns:
        The images, and the true probabilities of the motifs: one for its own motif, or equal where it is destroyed.
    """
    truth = F.one_hot(labels, len(MOTIFS)).float()
    if destroyed:
        images = torch.cat([destroy_motifs(images[:destroyed], labels[:destroyed], generator), images[destroyed:]])
        truth[:destroyed] = 1 / len(MOTIFS)
    return add_noise(images, noise_std, generator) if noise_std else images, truth


def draw_batches(
    class_losses: Float[Tensor, " classes"], batch: int, generator: torch.Generator
) -> Iterator[tuple[Float[Tensor, "n 3 h w"], Int[Tensor, " n"]]]:
    """Draw several batches. Half of the drawings are of uniformly random motifs, half of those with a large loss.

    Args:
        class_losses: Average loss of each motif.
        batch: Number of drawings per batch.
        generator: Source of all random numbers.

    Returns:
        Images in [0, 1] and labels of `BATCHES_PER_DRAW` batches.
    """
    weight = class_losses / class_losses.sum() + 1 / len(MOTIFS)
    labels = torch.multinomial(weight, BATCHES_PER_DRAW * batch, replacement=True, generator=generator)
    return zip(draw(labels, (SIZE, SIZE), generator).split(batch), labels.split(batch), strict=True)


def update_class_losses(
    class_losses: Float[Tensor, " classes"], labels: Int[Tensor, " n"], losses: Float[Tensor, " n"]
) -> None:
    """Update the running average of each motif's loss in place.

    Args:
        class_losses: Average loss of each motif. Motifs that are not in the batch keep theirs.
        labels: Motif of each drawing of a batch.
        losses: Loss of each drawing.
    """
    total, count = (torch.zeros_like(class_losses).index_add(0, labels, x) for x in (losses, torch.ones_like(losses)))
    class_losses.lerp_(total / count.clamp(min=1), LOSS_AVERAGE_WEIGHT * (count > 0))


def average(net: nn.Module, before: Mapping[str, Tensor], share: float) -> None:
    """Average the weights of a network with those from before its training, in place.

    Most of what the training improved is kept, and less of what it made worse, such as visualizations.

    Args:
        net: The network.
        before: Its weights before.
        share: Their share, in [0, 1].

    Source: Wortsman et al. 2022, https://arxiv.org/abs/2109.01903.
    """
    if share:
        for key, value in net.state_dict().items():
            if value.is_floating_point():
                value.lerp_(before[key].to(value.dtype), share)


def sharpen(net: nn.Module, factor: float) -> None:
    """Multiply the logits by a factor in place.

    After adversarial training the probability of the right motif is much smaller than the accuracy.

    Args:
        net: A network whose last linear layer outputs its logits.
        factor: > 1 for larger probabilities of the motifs with the highest logits.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, section 4.2.
    """
    classifier = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        classifier.weight.mul_(factor)
        classifier.bias.mul_(factor)


def save(net: nn.Module, path: Path) -> None:
    """Save the weights in half precision.

    Args:
        net: The network.
        path: A safetensors file.
    """
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)


def logits(net: nn.Module, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
    """Return class logits, computed in bfloat16 where the device supports it.

    Args:
        net: The network.
        images: In [0, 1].
    """
    mean, std = (torch.tensor(x, device=images.device).view(3, 1, 1) for x in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    supported = images.is_cuda or torch.cpu._is_avx512_bf16_supported()
    autocast = torch.autocast(images.device.type, torch.bfloat16, supported)
    with autocast, sdpa_kernel(SDPBackend.MATH):  # on a CPU, backward of the fused attention takes 1.8 times as long
        return net(images).float()


def partly_shown(
    net: nn.Module, images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n classes"]]:
    """Show the most or the least relevant pixels of each image, according to the network itself, and blur the rest.

    Args:
        net: The network.
        images: In [0, 1].
        labels: Their motifs.
        generator: Source of all random numbers.

    Returns:
        The images, and the true probabilities of the motifs: between one for its own motif and equal ones, by what is
        shown.
    """
    images, certainty = reveal_parts(images, input_times_gradient(net, images, labels, generator), generator)
    return images, certainty * F.one_hot(labels, len(MOTIFS)) + (1 - certainty) / len(MOTIFS)


def input_times_gradient(
    net: nn.Module, images: Float[Tensor, "n 3 h w"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> Float[Tensor, "n h w"]:
    """Return the contribution of each pixel to the logit of the image's motif.

    It is the difference from a blurred copy times the gradient at a random point between both: one random term of
    integrated gradients, because more would take too long for each step of a training.

    Args:
        net: The network. It is left in train mode.
        images: In [0, 1].
        labels: Their motifs.
        generator: Source of all random numbers.

    Source: Erion et al. 2021, https://arxiv.org/abs/1906.10670, for one random term in each step.
    """
    net.eval()
    empty = blurred_copies(images)
    shown = torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    between = empty.lerp(images, shown).requires_grad_()
    gradient = torch.autograd.grad(logits(net, between).gather(1, labels[:, None]).sum(), between)[0]
    net.train()
    return ((images - empty) * gradient).sum(1)


def adversarial_step(
    net: nn.Module,
    images: Float[Tensor, "n 3 h w"],
    truth: Float[Tensor, "n classes"],
    max_length: float,
    generator: torch.Generator,
) -> Float[Tensor, "n 3 h w"]:
    """Move each image along the gradient of its loss, starting from a random point close by.

    Args:
        net: The network.
        images: In [0, 1].
        truth: True probabilities of the motifs.
        max_length: Largest L2 length of a step. The length of each is random.
        generator: Source of all random numbers.

    Returns:
        Images in [0, 1].
    """
    net.eval()
    noise = torch.randn(images.shape, generator=generator, device=images.device) * 0.02
    start = (images + noise).requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(logits(net, start), truth), start)[0]
    net.train()
    length = max_length * torch.rand((len(images), 1, 1, 1), generator=generator, device=images.device)
    gradient = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (start.detach() + length * gradient).clamp(0, 1)


@torch.no_grad()
def accuracy(net: nn.Module, batches: int = 40, seed: int = 1_000_003) -> float:
    """Return the fraction of new drawings that a network classifies correctly, in [0, 1].

    Args:
        net: The network. It is left in eval mode.
        batches: Number of batches of 100 drawings.
        seed: Seed of the drawings.
    """
    net.eval()
    device = next(net.parameters()).device
    generator, right = torch.Generator(device).manual_seed(seed), 0.0
    for _ in range(batches):
        labels = torch.randint(len(MOTIFS), (100,), generator=generator, device=device)
        right += (logits(net, draw(labels, (SIZE, SIZE), generator)).argmax(1) == labels).sum().item()
    return right / (100 * batches)


if __name__ == "__main__":
    main()
