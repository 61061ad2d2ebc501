"""Compare the speed with Lucent, torch-dreams, dreamlens and Horama: `make bench`, about an hour on two cores.

Each library renders the same channels of the same network with the same weights, size and number of steps, and with
its own defaults otherwise. They take turns in one run, each in a process of its own that waits while the others work;
the quoted figure is the ratio to featviz within a turn. The other libraries are installed into an environment of
their own, because they need an old kornia; torch is the same for all.

The activation of the channels on the finished images without transforms is printed next to the times, so that speed
does not hide a loss of quality. It is from the first row of each network, whose images have the most steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from contenders import IMAGENET, LIBRARIES, ONE_AT_A_TIME, score
from torch import nn

import featviz as fv

PEERS = ["torch-lucent==0.1.8", "torch-dreams==4.0.0", "dreamlens==0.1.1", "horama==0.3.0"]
THEIR_NEEDS = ["kornia==0.4.1", "einops", "decorator", "future", "opencv-python-headless", "scikit-learn", "matplotlib"]
"""Packages that they import and featviz does not."""
CASES = (
    ("googlenet", "inception4a"),
    ("resnet50", "layer2"),
    ("resnet50", "layer4"),
    ("mobilenet_v2", "features.14"),
    ("mobilenet_v2", "classifier.1"),
    ("vit_b_16", "encoder.layers.encoder_layer_5"),
)
OURS = ("featviz", "featviz_near")
"""With the default views, and with views of the size of the image."""
ROWS = ((1, 64, 3), (8, 16, 3), (32, 8, 1))
"""Images, steps and turns. Larger batches get fewer steps, or the slowest library would take a day."""


@dataclass
class Contender:
    """A library's process."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    failed: str = ""

    def run(self, **task: Any) -> dict[str, float]:
        """Run a task, and return its seconds and peak memory; nothing after a failure."""
        if self.failed:
            return {}
        assert self.process.stdin
        assert self.process.stdout
        try:
            print(json.dumps(task), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.failed = (self.log.read_text().strip() or "it was stopped").splitlines()[-1]
            return {}
        return json.loads(line)

    def close(self) -> None:
        """Stop the process."""
        self.process.terminate()
        self.process.wait()


def open_contender(name: str, python: Path, folder: Path, device: str) -> Contender:
    """Start a library's process, whose error output goes to a file in the folder."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}  # Lucent takes a GPU wherever there is one
    command = [
        sys.executable if name.startswith("featviz") else python,
        Path(__file__).with_name("contenders.py"),
        name,
    ]
    log, pipe = folder / f"{name}.log", subprocess.PIPE
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=os.environ | hidden)
        return Contender(name, process, log)


def environment(folder: Path) -> Path:
    """Create the environment of the other libraries if it is missing, and return its Python."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"installing the peers into {folder}", flush=True)
        venv.create(folder, with_pip=True)
        inside = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
        )
        Path(inside.stdout.decode().strip(), "zz_ours.pth").write_text(sysconfig.get_path("purelib"))
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *PEERS, *THEIR_NEEDS], check=True)
        (folder / "ready").touch()
    return python


def live_channels(network: fv.Network, layer: str, count: int) -> list[int]:
    """Choose channels that are active on noise, so that no library starts with a dead unit."""
    noise = torch.rand(8, 3, *network.size, generator=torch.Generator().manual_seed(1))
    answers = network.capture(noise, [layer]).channels_first(layer).unsqueeze(-1).flatten(2).mean((0, 2))
    return answers.topk(count).indices.tolist()


def response(network: fv.Network, layer: str, channels: list[int], file: Path) -> float:
    """Return the mean activation of the channels, each on its own image without transforms."""
    images = torch.load(file, weights_only=True).float().clamp(0, 1)
    return score(network.capture(images, [layer])[layer].float(), channels).mean().item()


def race(
    model: str,
    layer: str,
    weights: Path,
    libraries: list[str],
    python: Path,
    rows: tuple[Any, ...],
    size: int,
    device: str,
) -> list[str]:
    """Print the rows of one layer, and return those of the summary."""
    options = {"init_weights": False} if model == "googlenet" else {}
    module = torchvision.models.get_model(model, weights=None, **options)
    module.load_state_dict(torch.load(weights, weights_only=True))
    network = fv.Network(module, size=size, **IMAGENET)
    channels = live_channels(network, layer, 32)
    contenders = [open_contender(name, python, weights.parent, device) for name in libraries]
    task = {"model": model, "layer": layer, "weights": str(weights), "size": size, "device": device}
    with tempfile.TemporaryDirectory() as folder:
        pictures = {one.name: Path(folder, one.name) for one in contenders}
        summary = []
        for first, (count, steps, turns) in zip([True] + [False] * len(rows), rows, strict=False):
            each = {one.name: channels[: 1 if one.name in ONE_AT_A_TIME else count] for one in contenders}
            seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
            megabytes: dict[str, float] = {}
            for turn in range(-1, turns):  # the first is a warm-up
                for one in contenders:
                    mine = each[one.name]
                    output = str(pictures[one.name]) if first else None
                    asked = 2 if turn < 0 else steps
                    done = one.run(**task, channels=mine, steps=asked, output=output)
                    megabytes[one.name] = done.get("megabytes", 0)
                    if done and turn >= 0:
                        seconds[one.name].append(done["seconds"] / len(mine) / steps)
            for one in contenders:
                if one.failed:
                    print(f"{model:12} {layer[-15:]:15} {count:3} x {steps:3}  {one.name:12} {one.failed}", flush=True)
                    continue
                ratios = [theirs / ours for theirs, ours in zip(seconds[one.name], seconds["featviz"], strict=True)]
                spread = f"{median(ratios):6.2f}x ({min(ratios):.2f} - {max(ratios):.2f})"
                shown = f"{response(network, layer, each[one.name], pictures[one.name]):9.3f}" if first else ""
                times = f"{1e3 * median(seconds[one.name]):8.1f} ms {spread:24} {megabytes[one.name]:7.0f} MB {shown}"
                print(f"{model:12} {layer[-15:]:15} {count:3} x {steps:3}  {one.name:12} {times}", flush=True)
            summary.append(summarize(f"{model} {layer[-15:]}", count, seconds))
    for one in contenders:
        one.close()
    return summary


def summarize(name: str, count: int, seconds: dict[str, list[float]]) -> str:
    """Return a Markdown row: milliseconds of featviz, and ratios to it with its default and with full views."""

    def ratio(library: str, base: str) -> str:
        turns = list(zip(seconds[library], seconds.get(base, ()), strict=False))
        return f"{median(theirs / ours for theirs, ours in turns):.1f}" if turns else "-"

    peers = [library for library in seconds if library not in OURS]
    cells = [f"{ratio(library, OURS[0])}, {ratio(library, OURS[1])}" for library in peers]
    return f"| {name} | {count} | {1e3 * median(seconds[OURS[0]]):.1f} | " + " | ".join(cells) + " |"


def save_weights(model: str, folder: Path, mobilenet: Path | None) -> Path:
    """Write the weights that every library uses: random ones, or trained ones of MobileNetV2 if given."""
    path = folder / f"{model}.pt"
    if model == "mobilenet_v2" and mobilenet:
        module: nn.Module = fv.load(model, weights=str(mobilenet)).module
    else:
        torch.manual_seed(0)
        options = {"init_weights": False} if model == "googlenet" else {}
        module = torchvision.models.get_model(model, weights=None, **options)
    torch.save(module.state_dict(), path)
    return path


def main() -> None:
    """Print a table of times, ratios, memory and responses, and a summary of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mobilenet", type=Path, help="trained weights of MobileNetV2; default: random ones")
    parser.add_argument("--size", type=int, default=224, help="px")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", help="run rows whose network or layer contains this text")
    parser.add_argument("--rows", type=int, default=len(ROWS), help="number of rows per layer")
    parser.add_argument("--longer", type=int, default=1, help="multiply the number of steps, for fast machines")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="which, featviz first")
    parser.add_argument("--environment", type=Path, default=Path("benchmarks/.peers"))
    options = parser.parse_args()
    python = environment(options.environment.absolute())
    on_gpu = options.device.startswith("cuda")
    machine = torch.cuda.get_device_name(options.device) if on_gpu else platform.processor() or platform.machine()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {machine}, {options.size} px")
    print("model        layer       images x steps  library      per step and image, over featviz   peak  response")
    libraries, summary = options.libraries.split(","), []
    with tempfile.TemporaryDirectory() as folder:
        for model, layer in CASES:
            if options.only is None or options.only in f"{model} {layer}":
                weights = save_weights(model, Path(folder), options.mobilenet)
                rows = tuple((count, steps * options.longer, turns) for count, steps, turns in ROWS[: options.rows])
                summary += race(model, layer, weights, libraries, python, rows, options.size, options.device)
    peers = [library for library in libraries if library not in OURS]
    print(f"\n| network | images | featviz, ms | {' | '.join(peers)} |\n|{'---|' * (3 + len(peers))}")
    print("\n".join(summary))


if __name__ == "__main__":
    main()
