"""Train motifnet on drawings made as it goes: `make motifnet`, about 20 minutes on two cores.

Accuracy is not all that it is trained for: every drawing is first pushed by one step against its label
(Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572, in the L2 norm), because networks trained so have pictures
that people recognise (Engstrom et al. 2019, https://arxiv.org/abs/1906.00945).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tqdm import tqdm

from featviz.network.motifnet.draw import draw
from featviz.network.motifnet.motifs import MOTIFS
from featviz.network.motifnet.net import MEAN, SIZE, STD, MotifNet

PUSH = 6.0
"""Largest L2 length of the push, in [0, 1] pixel units over a whole drawing."""


def main() -> None:
    """Train, print the accuracy on fresh drawings, and save the weights in half precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("motifnet.safetensors"))
    options = parser.parse_args()

    torch.manual_seed(0)
    net = MotifNet(len(MOTIFS)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=options.steps)
    generator = torch.Generator().manual_seed(0)
    bar = tqdm(range(options.steps))
    for step in bar:
        labels = torch.randint(len(MOTIFS), (options.batch,), generator=generator)
        images = push(net, draw(labels, (SIZE, SIZE), generator), labels, generator)
        loss = F.cross_entropy(logits(net, images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"loss {loss.item():.3f}")
        if step % 300 == 299:
            save(net, options.output)
    print(f"accuracy on fresh drawings: {accuracy(net):.4f}")
    save(net, options.output)


def save(net: MotifNet, path: Path) -> None:
    """Write the weights in half precision."""
    weights = {key: value.contiguous() for key, value in net.state_dict().items()}
    save_file({key: value.half() if value.is_floating_point() else value for key, value in weights.items()}, path)


def logits(net: MotifNet, images: torch.Tensor) -> torch.Tensor:
    """Run the network on [0, 1] drawings, in bfloat16 where the CPU has it."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    images = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        return net(images).float()


def push(net: MotifNet, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each drawing up to `PUSH` in the direction that hides its label best."""
    net.eval()
    noise = torch.randn(images.shape, generator=generator) * 0.02
    start = (images + noise).requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(logits(net, start), labels), start)[0]
    net.train()
    length = PUSH * torch.rand((len(images), 1, 1, 1), generator=generator)
    gradient = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
    return (start.detach() + length * gradient).clamp(0, 1)


@torch.no_grad()
def accuracy(net: MotifNet, batches: int = 40, seed: int = 1_000_003) -> float:
    """Return the share of fresh drawings, 100 a batch, that the network names."""
    net.eval()
    generator, right = torch.Generator().manual_seed(seed), 0.0
    for _ in range(batches):
        labels = torch.randint(len(MOTIFS), (100,), generator=generator)
        right += (logits(net, draw(labels, (SIZE, SIZE), generator)).argmax(1) == labels).sum().item()
    return right / (100 * batches)


if __name__ == "__main__":
    main()
