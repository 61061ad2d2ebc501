"""Time DeepDream against the original algorithm, and tiles against whole images: `make dreambench`.

The original is the algorithm of google/deepdream's notebook in plain PyTorch: the whole image at once, trainable
weights, a roll, the gradient divided by its mean magnitude, steps clipped to the valid range, details carried from
octave to octave. All take turns in one run; times are per megapixel and octave step, ratios are within a turn.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import featviz as fv

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
CASES = (("googlenet", "inception4c"), ("mobilenet_v2", "features.12"))


class StopError(Exception):
    """Raised when the layer has run."""


def original(
    module: nn.Module, layer: str, photo: Tensor, *, steps: int, octaves: int, scale: float = 1.4, jitter: int = 32
) -> Tensor:
    """Run DeepDream as google/deepdream does: the pass ends at the layer, and weights are not frozen."""
    found: list[Tensor] = []

    def hook(_: nn.Module, __: object, output: Tensor) -> None:
        found.append(output)
        raise StopError

    handle = module.get_submodule(layer).register_forward_hook(hook)
    mean, std = (torch.tensor(IMAGENET[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    bases = [photo]
    for _ in range(octaves - 1):
        bases.append(F.interpolate(bases[-1], scale_factor=1 / scale, mode="bilinear"))
    detail = torch.zeros_like(bases[-1])
    for base in reversed(bases):
        detail = F.interpolate(detail, base.shape[2:], mode="bilinear")
        image = base + detail
        for _ in range(steps):
            shift = torch.randint(-jitter, jitter + 1, (2,)).tolist()
            rolled = image.roll(shift, (2, 3)).detach().requires_grad_()
            with suppress(StopError):
                module((rolled - mean) / std)
            (found.pop().square().sum() / 2).backward()
            gradient = rolled.grad
            image = (rolled.detach() + 1.5 / 255 * gradient / gradient.abs().mean()).clamp(0, 1)
            image = image.roll([-shift[0], -shift[1]], (2, 3))
        detail = image - base
    handle.remove()
    return image


def timed(run: Callable[[], object]) -> float:
    """Return seconds."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def contenders(model: str, layer: str, photo: Tensor, options: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """Return functions that dream of the layer: the original, and featviz without and with tiles."""
    torch.manual_seed(0)
    extra = {"init_weights": False} if model == "googlenet" else {}
    module = torchvision.models.get_model(model, weights=None, **extra).eval()
    network, same = fv.Network(module, size=224, **IMAGENET), {"steps": options.steps, "octaves": options.octaves}

    def ours(tile: int) -> fv.Rendering:
        return fv.dream(network, photo, fv.objectives.Layer(layer), execution=fv.Execution(tile=tile), **same)

    return {
        "original": lambda: original(module, layer, photo, **same),
        "whole": lambda: ours(max(options.size)),
        "tiled": lambda: ours(options.tile),
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(720, 960), help="height and width in px")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--octaves", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tile", type=int, default=640)
    options = parser.parse_args()
    height, width = options.size
    photo = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(0))
    photo = F.interpolate(photo, (height, width), mode="bicubic").clamp(0, 1)
    work = options.steps * sum(height * width / 1e6 / 1.4 ** (2 * octave) for octave in range(options.octaves))
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {height} x {width} px, tiles {options.tile} px"
    )
    print(
        "seconds per megapixel and step:     original   whole   tiled   original/tiled (spread)   tiled/whole (spread)"
    )
    for model, layer in CASES:
        kinds = contenders(model, layer, photo, options)
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for turn in range(options.turns + 1):
            for kind, run in kinds.items():
                passed = timed(run)
                if turn:  # the first is a warm-up
                    seconds[kind].append(passed / work)
        each = "".join(f"{median(seconds[kind]):8.2f}" for kind in kinds)
        ratios = ""
        for one, two in (("original", "tiled"), ("tiled", "whole")):
            found = sorted(a / b for a, b in zip(seconds[one], seconds[two], strict=True))
            ratios += f"     {median(found):.2f} ({found[0]:.2f} - {found[-1]:.2f})"
        print(f"{model:13} {layer:20} {each} {ratios}", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
