"""Compare class images of a small VAE's decoder with those of Fourier coefficients: `make generators-bench`.

Both are rendered on motifnet and judged by motifvit. The distance is 1 - cosine similarity to the nearest new drawing,
whatever its class, in motifvit's features before the head; that of drawings to other drawings shows what is possible.
"Decoded drawings" are fitted to drawings by `param.Generator.fit`, and show what the decoder can draw.
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
from featviz import transforms as T

RATE = 0.1
"""Learning rate of Adam for latents."""
NARROW_ZOOM = (T.Shift(0.2), T.Rotate(15), T.Scale(T.LogUniform(0.8, 1.25)), T.ColorShift(0.3))
"""The default transforms with a narrower zoom: a decoder draws motifs at the size that they have in its training."""
STEPS = 800
"""Batches of the training, without `--weights`."""
DRAWINGS = 8
"""New drawings of each class to which images are compared."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="file of the decoder")
    parser.add_argument("--steps", type=int, default=320, help="steps of a render (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="images of each class (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="first seed (default: %(default)s)")
    parser.add_argument("--only", help="rows, by parts of their names: Fourier;Generator, narrow zoom")
    parser.add_argument("--save", type=Path, help="save the images of the last row to this file")
    options = parser.parse_args()
    maker, judge = (fv.load(name, device="cpu") for name in ("motifnet", "motifvit"))
    decoder = train(STEPS, report=True) if options.weights is None else MotifDecoder()
    labels = torch.arange(len(maker.classes)).repeat_interleave(DRAWINGS)
    drawings = embedded(judge, draw(labels, judge.size, torch.Generator().manual_seed(1)))
    print("images                         s/image  top-1  mean p  distance")
    others = draw(labels, judge.size, torch.Generator().manual_seed(2))
    row("drawings", judge, others, labels, drawings, 0)
    few = {"size": maker.size, "batch": options.seeds}
    generator = fv.param.Generator(decoder, LATENT, options.weights, **few)
    labels = torch.arange(len(maker.classes)).repeat_interleave(options.seeds)
    if wanted("decoded drawings", options.only):
        start = time.perf_counter()
        targets = draw(labels, maker.size, torch.Generator().manual_seed(3))
        decoded = generator.images(generator.fit(targets), maker.size).detach()
        row("decoded drawings", judge, decoded, labels, drawings, (time.perf_counter() - start) / len(labels))
    bounded = fv.param.Generator(decoder, LATENT, options.weights, truncation=2.0, **few)
    penalised = fv.param.Generator(decoder, LATENT, options.weights, penalty=0.01, **few)
    rows = {
        "Fourier": (fv.param.Image(**few), None),
        "Fourier, narrow zoom": (fv.param.Image(**few), NARROW_ZOOM),
        "Generator": (generator, None),
        "Generator, narrow zoom": (generator, NARROW_ZOOM),
        "Generator, truncation 2": (bounded, NARROW_ZOOM),
        "Generator, penalty 0.01": (penalised, NARROW_ZOOM),
    }
    goals = [fv.objectives.Logit(name) for name in maker.classes]
    for name, (param, transforms) in rows.items():
        if not wanted(name, options.only):
            continue
        start = time.perf_counter()
        how = {"steps": options.steps, "seed": options.first, "lr": RATE if name.startswith("Generator") else None}
        made = fv.render(maker, goals, param=param, transforms=transforms, robustness_views=0, progress=None, **how)
        row(name, judge, made.images, labels, drawings, (time.perf_counter() - start) / len(labels))
        if options.save is not None:
            made.save(options.save)


def wanted(name: str, only: str | None) -> bool:
    """Return whether the row is among those that were asked for."""
    return not only or any(part in name for part in only.split(";"))


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
