"""Compare the speed on a CUDA GPU with other libraries and with the limit of the hardware: `make bench-gpu`.

The most important rows come first, each is printed as soon as it is known, and rows that the output file holds already
are not measured again. All times are of a step, for all images of a batch together.

- `limit`: the fastest bare forward and backward pass of the network: frozen weights, stopped at the layer, batch norm
  folded, channels last, in TF32 and in bfloat16, replayed as a CUDA graph. It draws nothing and updates nothing.
- `featviz`: a whole call of `fv.render` at its defaults, whose views have 128 px for images of 224 px.
- `featviz_near`: the same with the transforms of Lucid and views of 224 px, as the other libraries have.
- the other libraries at their defaults, in processes of their own: one run of 128 steps (64 for 8 images) after one of
  3, where featviz takes the faster of two runs of 256 after one of 64. Times are per step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from contenders import IMAGENET
from overhead import StopError, fold
from peers import environment, live_channels, open_contender, save_weights
from torch import Tensor, nn

import featviz as fv

CASES = {
    "googlenet": "inception4a",
    "resnet50 2": "layer2",
    "resnet50 4": "layer4",
    "mobilenet_v2": "classifier.1",
    "vit_b_16": "encoder.layers.encoder_layer_5",
}
STEPS = {1: 256, 8: 256, 64: 128, 256: 128}
"""Steps of featviz by number of images, so that the preparation weighs as much as in a short render."""
PEER_STEPS = {1: 128, 8: 64}
SIZE, VIEW = 224, 128
"""Height and width in px of the images and of the default views."""
GALLERY = 1000
"""Number of classes of the gallery."""


class Table:
    """Rows of a JSON lines file, by name.

    Args:
        file: Is made if it does not exist.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self.rows = dict(json.loads(line) for line in lines)

    def whole(self, key: str) -> float:
        """Return the milliseconds of a whole render of featviz that was measured before; NaN where it was not."""
        found = self.rows.get(key, float("nan"))
        return found[0] if isinstance(found, list | tuple) else found

    def measure(self, key: str, run: Any) -> Any:
        """Return numbers from the file, or measure it and write it; NaN where it cannot be measured."""
        if key not in self.rows:
            try:
                self.rows[key] = run()
            except Exception as error:
                print(f"{key}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", flush=True)
                self.rows[key] = float("nan")
            with self.file.open("a") as lines:
                lines.write(json.dumps([key, self.rows[key]]) + "\n")
        return self.rows[key]


def module_of(model: str, weights: Path) -> nn.Module:
    """Return a network with the weights that all libraries get."""
    options = {"init_weights": False} if model == "googlenet" else {}
    module = torchvision.models.get_model(model, weights=None, **options)
    module.load_state_dict(torch.load(weights, weights_only=True))
    return module.eval().cuda()


def limit(model: str, layer: str, weights: Path, count: int, size: int) -> float:
    """Return the milliseconds of the fastest bare pass."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    times = []
    try:
        for dtype in (torch.float32, torch.bfloat16):
            module = fold(module_of(model, weights)).requires_grad_(False).to(dtype, memory_format=torch.channels_last)
            times.append(1e3 * graphed_pass(module, layer, count, size, dtype))
    finally:
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")
    return min(times)


def graphed_pass(module: nn.Module, layer: str, count: int, size: int, dtype: torch.dtype) -> float:
    """Return the seconds of a forward and backward pass to a layer, replayed as a CUDA graph."""
    images = torch.rand(count, 3, size, size, device="cuda").to(dtype, memory_format=torch.channels_last)
    images.requires_grad_()
    found: list[Tensor] = []

    def stop(_: nn.Module, __: object, output: Tensor) -> None:
        found.append(output)
        raise StopError

    handle = module.get_submodule(layer).register_forward_hook(stop)

    def run() -> Tensor:
        with suppress(StopError):
            module(images)
        return torch.autograd.grad(found.pop().float().mean(), images)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    handle.remove()
    return timed(graph.replay, 30)


def timed(run: Any, times: int) -> float:
    """Return the median seconds of a call, by the clock of the GPU."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(times + 1)]
    for _ in range(5):
        run()
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return median(a.elapsed_time(b) for a, b in pairwise(marks)) / 1e3


class Opened:
    """A network of featviz, and what it renders.

    Args:
        model: Name in torchvision.
        layer: Its layer.
        weights: Its weights.
    """

    def __init__(self, model: str, layer: str, weights: Path) -> None:
        self.network = fv.Network(module_of(model, weights), size=SIZE, **IMAGENET)
        live = live_channels(self.network, layer, min(64, self.network.layer(layer).channels))
        self.objectives = [fv.objectives.Channel(layer, channel) for channel in live]

    def render(
        self, count: int, steps: int, transforms: Any, execution: fv.Execution, progress: Any = None
    ) -> fv.Rendering:
        """Render a batch."""
        goals = (self.objectives * (count // len(self.objectives) + 1))[:count]
        options = {"transforms": transforms, "robustness_views": 0, "progress": progress}
        return fv.render(self.network, goals, steps=steps, execution=execution, **options)

    def milliseconds(self, count: int, transforms: Any, execution: fv.Execution) -> tuple[float, float]:
        """Return the milliseconds of a step of a whole render, and those of a step once all is prepared.

        The first render measures the precision, and the algorithms of convolutions if asked to.
        """
        self.render(count, 64, transforms, execution)
        whole, step = [], []
        for _ in range(2):
            events: list[Any] = []

            def mark(*_: int, events: list[Any] = events) -> None:
                events.append(torch.cuda.Event(enable_timing=True))
                events[-1].record()

            torch.cuda.synchronize()
            start = time.perf_counter()
            rendering = self.render(count, STEPS[count], transforms, execution, mark)
            whole.append(1e3 * (time.perf_counter() - start) / STEPS[count])
            step.append(median(a.elapsed_time(b) for a, b in pairwise(events[len(events) // 2 :])))
        print(f"    {rendering.execution.precision}, {rendering.plan}", flush=True)
        return min(whole), min(step)


def gallery(weights: Path) -> float:
    """Return the seconds of a gallery of 1000 classes with the command."""
    with tempfile.TemporaryDirectory() as folder:
        start_command = [sys.executable, "-c", "from featviz.cli import main; main()", "gallery"]
        command = [*start_command, "--model", "mobilenet_v2", "--weights", str(weights)]
        start = time.perf_counter()
        subprocess.run([*command, "--classes", "all", "-o", folder], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        made = len(list(Path(folder, "images").glob("*.png")))
        if made != GALLERY:
            raise RuntimeError(f"made {made} images")
    return seconds


def main() -> None:
    """Print the rows in the order of their importance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/.gpu.jsonl"), help="rows that are measured")
    parser.add_argument("--mobilenet", type=Path, help="trained weights of MobileNetV2; default: random ones")
    parser.add_argument("--environment", type=Path, default=Path("benchmarks/.peers"))
    parser.add_argument("--python", type=Path, help="Python that has the other libraries")
    parser.add_argument("--libraries", default="lucent,dreamlens,torch_dreams,horama", help="others, or nothing")
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    parser.add_argument("--no-gallery", action="store_true", help="leave out the gallery")
    parser.add_argument("--no-algorithms", action="store_true", help="do not measure algorithms of convolutions")
    options = parser.parse_args()
    execution = fv.Execution(benchmark=not options.no_algorithms)
    table = Table(options.output)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}: ms of a step of all images", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = {case: save_weights(case.split()[0], folder, options.mobilenet) for case in CASES}
        cases = [case for case in CASES if options.only in case]
        for count in (8, 64):
            for case in cases:
                measure_case(table, case, saved[case], count, execution)
        if not options.no_gallery:
            seconds = table.measure("gallery of 1000 classes", lambda: gallery(saved["mobilenet_v2"]))
            print(f"gallery of 1000 classes: {seconds:.1f} s", flush=True)
        libraries = list(filter(None, options.libraries.split(",")))
        python = (options.python or environment(options.environment.absolute())) if libraries else None
        for count, compared in ((1, libraries[:1]), (256, libraries[1:])):
            for case in cases:
                measure_case(table, case, saved[case], count, execution)
            for library in compared:
                measure_peer(table, library, python, folder, {case: saved[case] for case in cases})


def measure_case(table: Table, case: str, weights: Path, count: int, execution: fv.Execution) -> None:
    """Print featviz and the limit, in both sizes of views."""
    model, layer = case.split()[0], CASES[case]
    opened = Opened(model, layer, weights)
    view = SIZE if opened.network.fixed_size else VIEW
    for name, size, transforms in (("featviz", view, None), ("featviz_near", SIZE, fv.transforms.LUCID)):
        key = f"{case} {count}"
        least = table.measure(f"{key} limit {size}", lambda size=size: limit(model, layer, weights, count, size))
        run = partial(opened.milliseconds, count, transforms, execution)
        found = table.measure(f"{key} {name}", run)
        whole, step = found if isinstance(found, list | tuple) else (found, found)
        ratios = f"{step / least:5.2f} x, whole render {whole:9.3f} ms a step, {whole / least:5.2f} x"
        print(f"{key:16} {name:12} limit {least:8.3f} ms, step {step:8.3f} ms, {ratios}", flush=True)
        torch.cuda.empty_cache()


def measure_peer(table: Table, library: str, python: Path, folder: Path, saved: dict[str, Path]) -> None:
    """Print a library's times, over those of featviz."""
    for count in (8, 1):
        for case, weights in saved.items():
            channels = list(range(1 if library in ("torch_dreams", "horama") else count))
            task = {"model": case.split()[0], "layer": CASES[case], "weights": str(weights), "size": SIZE}
            task |= {"device": "cuda", "channels": channels, "output": None}

            def run(task: dict[str, Any] = task, count: int = count) -> float:
                one = open_contender(library, python, folder, "cuda")
                one.run(**task, steps=3)
                done = one.run(**task, steps=PEER_STEPS[count])
                one.close()
                if one.failed:
                    raise RuntimeError(one.failed)
                return 1e3 * done["seconds"] / PEER_STEPS[count] / len(task["channels"]) * count

            taken = table.measure(f"{case} {count} {library}", run)
            rows = [table.whole(f"{case} {count} {name}") for name in ("featviz", "featviz_near")]
            ratios = f"{taken / rows[0]:6.1f} x featviz, {taken / rows[1]:6.1f} x at equal view size"
            print(f"{case} {count:3} {library:12} {taken:9.2f} ms, {ratios}", flush=True)


if __name__ == "__main__":
    main()
