"""Render channels with each library, for `peers.py`: one process per library, which reads tasks as JSON lines."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
OPENED: dict[nn.Module, Any] = {}
"""The `Network` of each module, so that it is measured once."""
Draw = Callable[[nn.Module, str, Sequence[int], int, int], Tensor]


def score(tensor: Tensor, channels: Sequence[int]) -> Tensor:
    """Return the mean activation of each image's channel; channels are last in tokens and logits."""
    tensor = tensor if tensor.ndim == 4 else tensor.movedim(-1, 1)
    return torch.stack([tensor[i, channel].mean() for i, channel in enumerate(channels)])


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the module's weights."""
    return next(module.parameters()).device


def featviz(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render a batch of different objectives at the defaults; the execution is that of a full render."""
    return _featviz(module, layer, channels, size, steps)


def featviz_near(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render the same through Lucid's transforms, at full view size, which gives higher responses."""
    from featviz import transforms

    return _featviz(module, layer, channels, size, steps, transforms=transforms.LUCID)


def _featviz(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int, **options: Any) -> Tensor:
    import featviz as fv

    if module not in OPENED:
        OPENED[module] = fv.Network(module, size=size, **IMAGENET)
    goals = [fv.objectives.Channel(layer, channel) for channel in channels]
    return fv.render(OPENED[module], goals, steps=max(steps, 64), until=steps, robustness_views=0, **options).images


def lucent(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render a batch with Lucent's default transforms and optimizer."""
    from lucent.optvis import param, render

    name = layer.replace(".", "_")
    images = render.render_vis(
        module,
        lambda acts: -score(acts(name), channels).sum(),
        lambda: param.image(size, batch=len(channels)),
        thresholds=(steps,),
        progress=False,
        show_image=False,
    )
    return torch.from_numpy(images[-1]).permute(0, 3, 1, 2)


def torch_dreams(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render one image after another, at the defaults."""
    from torch_dreams import Dreamer

    dreamer = Dreamer(module, device=str(device_of(module)), quiet=True)
    pictures = []
    for channel in channels:
        drawn = dreamer.render(
            layers=[module.get_submodule(layer)],
            width=size,
            height=size,
            iters=steps,
            custom_func=lambda acts, channel=channel: -score(acts[0], [channel]).sum(),
        )
        pictures.append(drawn.to_chw_tensor())
    return torch.stack(pictures)


def dreamlens(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render a batch at the defaults."""
    from dreamlens import FeatureVisualizer, FourierCanvas

    device = str(device_of(module))
    drawn = FeatureVisualizer(module, quiet=True, device=device).synthesize(
        layers=[layer],
        image_parameter=FourierCanvas(height=size, width=size, batch_size=len(channels), device=device),
        iters=steps,
        custom_func=lambda acts: -score(acts[0], channels).sum(),
    )
    return drawn.as_nchw()


def horama(module: nn.Module, layer: str, channels: Sequence[int], size: int, steps: int) -> Tensor:
    """Render one image after another, with two views per step, its minimum."""
    from horama import fourier

    found: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _module, _inputs, output: found.append(output))

    def objective(images: Tensor, channel: int) -> Tensor:
        module(images)
        return score(found.pop(), [channel] * len(images)).mean()

    pictures = []
    for channel in channels:
        drawn, _ = fourier(
            lambda images, channel=channel: objective(images, channel),
            total_steps=steps,
            image_size=size,
            crops_per_iteration=2,
            device=str(device_of(module)),
        )
        pictures.append(((drawn.detach() + 2.5) / 5).clamp(0, 1))  # its values range from -2.5 to 2.5
    handle.remove()
    return torch.stack(pictures)


ONE_AT_A_TIME = ("torch_dreams", "horama")
LIBRARIES: dict[str, Draw] = {
    draw.__name__: draw for draw in (featviz, featviz_near, lucent, torch_dreams, dreamlens, horama)
}


def main() -> None:
    """Read tasks as JSON lines, and answer each with its seconds and the peak memory in MB."""
    draw, answers = LIBRARIES[sys.argv[1]], sys.stdout
    sys.stdout = sys.stderr  # some libraries print their progress
    modules: dict[str, Any] = {}
    torch.manual_seed(0)
    for line in sys.stdin:
        task = json.loads(line)
        if task["weights"] not in modules:
            options = {"init_weights": False} if task["model"] == "googlenet" else {}
            module = torchvision.models.get_model(task["model"], weights=None, **options)
            module.load_state_dict(torch.load(task["weights"], weights_only=True))
            modules[task["weights"]] = module.eval().to(task["device"])
        start = time.perf_counter()
        images = draw(modules[task["weights"]], task["layer"], task["channels"], task["size"], task["steps"])
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        if task["output"]:
            torch.save(images.detach().cpu(), Path(task["output"]))
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"seconds": seconds, "megabytes": megabytes}), file=answers, flush=True)


if __name__ == "__main__":
    importlib.import_module(sys.argv[1].removesuffix("_near"))
    main()
