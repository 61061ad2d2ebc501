"""Time until a response is reached: `make reach`, about 20 minutes on two cores.

Lucent renders one channel of each network with its defaults, 512 steps. featviz renders the same channel in as many
steps; if its image then excites the channel as much, without transforms, it renders with more and more steps, each time
from the start, until one does. A response that is only reached with fewer steps is not found. The time is that of this
render alone: what a user waits for. Both are measured after a warm-up of their own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from contenders import IMAGENET
from peers import CASES, Contender, environment, live_channels, open_contender, response, save_weights

import featviz as fv
from featviz import param, transforms

STEPS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "Lucid's transforms": {"transforms": transforms.LUCID},
    "and its spectrum": {"transforms": transforms.LUCID, "param": param.Fourier(decay=1.0)},
}
"""Settings of featviz. The images of Lucid's spectrum, 1 / f, have stronger fine patterns than the default's."""
LUCENT_STEPS = 512


def reached(
    network: fv.Network, layer: str, channel: int, target: float, folder: Path, settings: Mapping[str, Any]
) -> str:
    """Find the number of steps that reach the response, and describe that render."""
    last = timed(network, layer, channel, STEPS[-1], folder, settings)
    if last[1] < target:
        return f"not in {STEPS[-1]}: {last[1]:.3f}"
    for steps in STEPS:
        seconds, found = last if steps == STEPS[-1] else timed(network, layer, channel, steps, folder, settings)
        if found >= target:
            break
    return f"{steps:4} steps {seconds:7.2f} s"


def timed(
    network: fv.Network, layer: str, channel: int, steps: int, folder: Path, settings: Mapping[str, Any]
) -> tuple[float, float]:
    """Render a channel, and return the seconds and the response of the image."""
    started = time.perf_counter()
    objective = fv.objectives.Channel(layer, channel)
    rendering = fv.render(network, objective, steps=steps, robustness_views=0, progress=None, **settings)
    seconds = time.perf_counter() - started
    images = folder / "featviz.pt"
    torch.save(rendering.images, images)
    return seconds, response(network, layer, [channel], images)


def race(model: str, layer: str, weights: Path, lucent: Contender, size: int) -> None:
    """Print the row of one layer."""
    options = {"init_weights": False} if model == "googlenet" else {}
    module = torchvision.models.get_model(model, weights=None, **options)
    module.load_state_dict(torch.load(weights, weights_only=True))
    network = fv.Network(module, size=size, **IMAGENET)
    channel, images = live_channels(network, layer, 1)[0], weights.parent / "lucent.pt"
    task = {"model": model, "layer": layer, "weights": str(weights), "size": size, "device": "cpu"}
    lucent.run(**task, channels=[channel], steps=2, output=None)
    done = lucent.run(**task, channels=[channel], steps=LUCENT_STEPS, output=str(images))
    row = f"{model:12} {layer[-15:]:15}"
    if not done:
        print(f"{row} {lucent.failed}", flush=True)
        return
    target = response(network, layer, [channel], images)
    for title, settings in SETTINGS.items():
        fv.render(network, fv.objectives.Channel(layer, channel), steps=64, progress=None, **settings)
        answer = reached(network, layer, channel, target, weights.parent, settings)
        print(f"{row} {target:9.3f} {done['seconds']:9.1f} s  {title:19} {answer}", flush=True)


def main() -> None:
    """Print a table of times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mobilenet", type=Path, help="trained weights of MobileNetV2; default: random ones")
    parser.add_argument("--size", type=int, default=224, help="px")
    parser.add_argument("--only", help="run rows whose network or layer contains this text")
    parser.add_argument("--environment", type=Path, default=Path("benchmarks/.peers"))
    options = parser.parse_args()
    python = environment(options.environment.absolute())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.size} px, one image")
    print("model        layer            response  Lucent, 512  featviz             the same response after")
    with tempfile.TemporaryDirectory() as folder:
        for model, layer in CASES:
            if options.only is None or options.only in f"{model} {layer}":
                lucent = open_contender("lucent", python, Path(folder), "cpu")
                race(model, layer, save_weights(model, Path(folder), options.mobilenet), lucent, options.size)
                lucent.close()


if __name__ == "__main__":
    main()
