"""Compare class images of a small VAE's decoder with those of Fourier coefficients: `make generators-bench`.

Both are rendered on motifnet and judged by motifvit. The distance is 1 - cosine similarity to the nearest new drawing,
whatever its class, in motifvit's features before the head; that of drawings to other drawings shows what is possible.
`--weights` takes a decoder from `python -m motifs.vae FILE`; without it, one is trained first, for minutes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from motifs.draw import draw
from motifs.vae import LATENT, MotifDecoder, train
from torch import Tensor

import featviz as fv

RATE = 0.1
"""Learning rate of Adam for latents."""
STEPS = 800
"""Batches of the training, without `--weights`."""
DRAWINGS = 8
"""New drawings of each class to which images are compared."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="file of the decoder")
    parser.add_argument("--steps", type=int, default=320, help="steps of a render (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=2, help="images of each class (default: %(default)s)")
    parser.add_argument("--only", help="params to render, by parts of their names, as Fourier,truncation")
    parser.add_argument("--save", type=Path, help="save the images of the decoder to this file")
    options = parser.parse_args()
    maker, judge = (fv.load(name, device="cpu") for name in ("motifnet", "motifvit"))
    decoder = train(STEPS, report=True) if options.weights is None else MotifDecoder()
    labels = torch.arange(len(maker.classes)).repeat_interleave(DRAWINGS)
    drawings = embedded(judge, draw(labels, judge.size, torch.Generator().manual_seed(1)))
    print("images                         s/image  top-1  mean p  distance")
    others = draw(labels, judge.size, torch.Generator().manual_seed(2))
    row("drawings", judge, others, labels, drawings, 0)
    few = {"size": maker.size, "batch": options.seeds}
    params = {
        "Fourier": fv.param.Image(**few),
        "Generator, no prior": fv.param.Generator(decoder, LATENT, options.weights, **few),
        "Generator, truncation 2": fv.param.Generator(decoder, LATENT, options.weights, truncation=2.0, **few),
        "Generator, penalty 0.01": fv.param.Generator(decoder, LATENT, options.weights, penalty=0.01, **few),
    }
    goals = [fv.objectives.Logit(name) for name in maker.classes]
    labels = torch.arange(len(maker.classes)).repeat_interleave(options.seeds)
    for name, param in params.items():
        if options.only and not any(part in name for part in options.only.split(",")):
            continue
        start = time.perf_counter()
        rate = RATE if name.startswith("Generator") else None
        made = fv.render(maker, goals, param=param, steps=options.steps, robustness_views=0, lr=rate, progress=None)
        row(name, judge, made.images, labels, drawings, (time.perf_counter() - start) / len(labels))
        if options.save is not None and name.startswith("Generator"):
            made.save(options.save)


def row(name: str, judge: fv.Network, images: Tensor, labels: Tensor, drawings: Tensor, seconds: float) -> None:
    """Print how surely the judge recognises images, and how near they are to drawings."""
    with torch.no_grad():
        chances = judge.capture(images, [""]).probabilities("")
    right = (chances.argmax(1) == labels).float().mean()
    sure = chances[torch.arange(len(labels)), labels].mean()
    nearest = 1 - (embedded(judge, images) @ drawings.T).amax(1)
    print(f"{name:30} {seconds:7.1f}   {right:.3f}   {sure:.3f}   {nearest.mean():.4f}", flush=True)


def embedded(judge: fv.Network, images: Tensor) -> Tensor:
    """Return the features of the judge's class token, of unit length."""
    with torch.no_grad():
        tokens = judge.capture(images, ["encoder.ln"])["encoder.ln"]
    return F.normalize(tokens[:, 0], dim=1)


if __name__ == "__main__":
    main()
