"""Measure attribution methods on images whose truth is known: `make explain-bench`, over an hour on two cores.

A mosaic of four motif drawings: does a method point at the drawing of the class with the highest logit? Further
columns are insertion and deletion, the weight randomisation test of Adebayo et al., and the completeness error of
methods that conserve the score. At the end, dataset examples are collected from a million files: names on disk,
images simulated.
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from motifs.draw import draw
from torch import Tensor, nn
from torchvision.models.vision_transformer import interpolate_embeddings

import featviz as fv
from featviz import methods as m
from featviz.apps.examples import scan
from featviz.apps.explain.faithfulness import blur, measure_faithfulness
from featviz.apps.explain.methods import train_scouter
from featviz.apps.explain.request import AttributionRequest
from featviz.apps.shared.activations.image_batches import ImageBatch
from featviz.network.bundled import MOTIFS
from featviz.network.bundled.motifvit import PATCH, motifvit

SHIFTED = m.NoiseTunnel(m.LRP("attn_lrp"), samples=16, noise=0.0, shift=16)
METHODS: dict[str, Any] = {
    "Gradient": m.Gradient(),
    "SmoothGrad": m.SMOOTHGRAD,
    "SmoothGrad squared": m.SMOOTHGRAD_SQUARED,
    "VarGrad": m.VARGRAD,
    "InputXGradient": m.InputXGradient(),
    "IntegratedGradients": m.IntegratedGradients(steps=64),
    "DeconvNet": m.DeconvNet(),
    "GuidedBackprop": m.GuidedBackprop(),
    "CAM": m.CAM(),
    "GradCAM": m.GradCAM(),
    "GradCAMPlusPlus": m.GradCAMPlusPlus(),
    "HiResCAM": m.HiResCAM(),
    "LayerCAM": m.LayerCAM(),
    "ScoreCAM": m.ScoreCAM(),
    "GuidedGradCAM": m.GuidedGradCAM(),
    "LRP epsilon": m.LRP("epsilon"),
    "LRP gamma": m.LRP("gamma"),
    "LRP zplus": m.LRP("zplus"),
    "LRP alphabeta": m.LRP("alphabeta"),
    "LRP flat": m.LRP("flat"),
    "LRP deep_taylor": m.LRP("deep_taylor"),
    "LRP epsilon_plus": m.LRP("epsilon_plus"),
    "LRP epsilon_gamma_box": m.LRP("epsilon_gamma_box"),
    "LRP cp_lrp": m.LRP("cp_lrp"),
    "LRP attn_lrp": m.LRP("attn_lrp"),
    "LRP attn_lrp, shifted": SHIFTED,
    "shifted and smoothed": m.Smoothed(SHIFTED),
    "Attention": m.Attention(),
    "Rollout": m.Rollout(),
    "GradientRollout": m.GradientRollout(),
    "Occlusion": m.Occlusion(),
    "FeatureAblation": m.FeatureAblation(),
    "RISE": m.RISE(),
    "ClassAttention": m.ClassAttention(),
}
STAGES = {
    "motifnet": ("head", "stage3", "stage2", "stage1", "stem"),
    "motifvit": ("heads", "encoder.layers.encoder_layer_3", "encoder.layers.encoder_layer_2",
                 "encoder.layers.encoder_layer_1", "encoder.layers.encoder_layer_0", "conv_proj"),
}  # fmt: skip
"""Parts whose weights are randomised, from the top down."""
SIDE = 64
"""Side in px of a drawing in a mosaic."""
SLOTS = "stage3"
"""The layer that SCOUTER's slots attend to."""


def mosaics(network: fv.Network, count: int) -> tuple[Tensor, list[int], list[int]]:
    """Return mosaics of four different motifs, the class with the highest logit, and its quadrant."""
    generator = torch.Generator().manual_seed(1)
    images, classes, cells = [], [], []
    for _ in range(count):
        four = torch.randperm(len(MOTIFS), generator=generator)[:4]
        drawn = draw(four, (SIDE, SIDE), generator)
        images.append(torch.cat([torch.cat([drawn[0], drawn[1]], 2), torch.cat([drawn[2], drawn[3]], 2)], 1))
        cells.append(int(network.capture(images[-1][None], [""]).logits()[0, four].argmax()))
        classes.append(int(four[cells[-1]]))
    return torch.stack(images), classes, cells


def enlarged(network: fv.Network) -> fv.Network:
    """Return a network that accepts mosaics: a transformer's position embeddings are interpolated."""
    if not network.fixed_size:
        return network
    module = motifvit(2 * SIDE, len(MOTIFS)).eval()
    module.load_state_dict(interpolate_embeddings(2 * SIDE, PATCH, dict(network.module.state_dict())))
    return fv.Network(module, size=2 * SIDE, mean=network.input.mean, std=network.input.std, classes=network.classes)


def located(network: fv.Network, method: Any, count: int) -> tuple[float, float, float]:
    """Return the share of relevance in the right quadrant, how often the peak is there, and seconds per image."""
    network = enlarged(network)
    images, classes, cells = mosaics(network, count)
    shares, hits = [], []
    started = time.perf_counter()
    for image, index, cell in zip(images, classes, cells, strict=True):
        found = fv.explain(network, image, fv.objectives.Logit(index), method).map[0]
        half = found.shape[0] // 2
        quarters = [found[:half, :half], found[:half, half:], found[half:, :half], found[half:, half:]]
        mass = [quarter.relu().sum().item() for quarter in quarters]
        shares.append(mass[cell] / max(sum(mass), 1e-12))
        hits.append(float(max(range(4), key=lambda i: quarters[i].max().item()) == cell))
    return sum(shares) / count, sum(hits) / count, (time.perf_counter() - started) / count


def print_times(network: fv.Network, methods: dict[str, Any], count: int) -> None:
    """Print the median milliseconds that each method takes for a mosaic."""
    wide = enlarged(network)
    images, classes, _ = mosaics(wide, count)
    for name, method in methods.items():
        taken = []
        for image, index in zip(images, classes, strict=True):
            started = time.perf_counter()
            try:
                fv.explain(wide, image, fv.objectives.Logit(index), method)
            except fv.SettingError:
                break
            taken.append(1e3 * (time.perf_counter() - started))
        if taken:
            print(f"{network.name:10}{name:24}{sorted(taken)[len(taken) // 2]:6.0f}", flush=True)


def curves(network: fv.Network, method: Any, count: int) -> tuple[float, float]:
    """Return the mean probability while pixels are inserted, and deleted, the most relevant first."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(len(MOTIFS), (count,), generator=generator)
    images = draw(labels, network.size, generator)
    areas = []
    for image, label in zip(images, labels.tolist(), strict=True):
        goal = fv.objectives.Logit(label)
        found = measure_faithfulness(network, image, goal, fv.explain(network, image, goal, method).map[0])
        areas.append([found.insertion_area, found.deletion_area])
    return tuple(torch.tensor(areas).mean(0).tolist())  # type: ignore[return-value]


def best_insertion(network: fv.Network, count: int, steps: int = 300) -> float:
    """Return the insertion that maps reach which are optimised for it: what can be expected of a method at most.

    A map is optimised by Adam so that the class is probable for random fractions of the image, the rest of which is
    blurred. In place of the fraction with the largest values stands a sigmoid around its smallest one.
    """
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(len(MOTIFS), (count,), generator=generator)
    images = draw(labels, network.size, generator)
    nothing = torch.stack([blur(image) for image in images])
    module, normalise = copy.deepcopy(network.module).eval(), network.normaliser()
    maps = (0.01 * torch.randn(count, 1, *network.size, generator=generator)).requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.1)
    for _ in range(steps):
        smooth = F.avg_pool2d(maps, 5, 1, 2, count_include_pad=False).flatten(1)
        fraction = torch.empty(count, 1).uniform_(0.02, 0.7, generator=generator)
        index = ((1 - fraction) * (smooth.shape[1] - 1)).long()
        smallest = smooth.detach().sort(1).values.gather(1, index)
        shown = torch.sigmoid((smooth - smallest) / (0.1 * smooth.detach().std(1, keepdim=True) + 1e-4))
        views = nothing + shown.view(maps.shape) * (images - nothing)
        loss = -module(normalise(views)).softmax(1).gather(1, labels[:, None]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    areas = [
        measure_faithfulness(network, image, fv.objectives.Logit(label), found[0]).insertion_area
        for image, label, found in zip(images, labels.tolist(), maps.detach(), strict=True)
    ]
    return sum(areas) / count


def changed(network: fv.Network, method: Any, count: int) -> list[float]:
    """Return the rank correlation of maps before and after weights are randomised from the top down.

    Source: Adebayo et al. 2018, https://arxiv.org/abs/1810.03292.
    """
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(len(MOTIFS), (count,), generator=generator)
    images = draw(labels, network.size, generator)

    def maps(of: fv.Network) -> list[Tensor]:
        pairs = zip(images, labels.tolist(), strict=True)
        return [fv.explain(of, image, fv.objectives.Logit(label), method).map.flatten() for image, label in pairs]

    before, alike = maps(network), []
    for random in randomised(network):
        after = maps(random)
        alike.append(sum(rank_correlation(a.abs(), b.abs()) for a, b in zip(before, after, strict=True)) / count)
    return alike


def randomised(network: fv.Network) -> Iterator[fv.Network]:
    """Yield networks with more and more randomised parts, from the top down."""
    module = copy.deepcopy(network.module)
    torch.manual_seed(0)
    for stage in STAGES[network.name]:
        for part in module.get_submodule(stage).modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
            elif isinstance(part, nn.MultiheadAttention):
                part._reset_parameters()
        random = copy.deepcopy(module)
        yield fv.Network(
            random, size=network.size, mean=network.input.mean, std=network.input.std, classes=network.classes
        )


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Return Spearman's rank correlation; 0 for a constant."""
    if a.std() == 0 or b.std() == 0:
        return 0.0
    ranks = torch.stack([one.argsort().argsort().float() for one in (a, b)])
    return torch.corrcoef(ranks)[0, 1].item()


def completeness(network: fv.Network, count: int) -> None:
    """Print the completeness error of methods that conserve the score, and the distance of CAM from Grad-CAM."""
    generator = torch.Generator().manual_seed(4)
    labels = torch.randint(len(MOTIFS), (count,), generator=generator)
    images = draw(labels, network.size, generator)
    for name, method in {
        "IntegratedGradients, mean": m.IntegratedGradients("mean"),
        "IntegratedGradients, zero": m.IntegratedGradients("zero"),
        "IntegratedGradients, blur": m.IntegratedGradients("blur"),
        "LRP zplus": m.LRP("zplus"),
        "LRP deep_taylor": m.LRP("deep_taylor"),
        "LRP alphabeta": m.LRP("alphabeta"),
        "LRP flat": m.LRP("flat"),
        "LRP epsilon_plus": m.LRP("epsilon_plus"),
        "LRP epsilon": m.LRP("epsilon"),
    }.items():
        missed = []
        for image, label in zip(images, labels.tolist(), strict=True):
            try:
                found = fv.explain(network, image, fv.objectives.Logit(label), method)
            except fv.SettingError:
                break
            assert found.delta is not None
            missed.append(found.delta.abs().item())
        if missed:
            middle = sorted(missed)[len(missed) // 2]
            print(f"{network.name:10}{name:28}{middle:10.4%}{max(missed):10.4%}", flush=True)
    if network.name == "motifnet":
        far = []
        for image, label in zip(images, labels.tolist(), strict=True):
            goal = fv.objectives.Logit(label)
            request = AttributionRequest(network, goal, network.size)
            one, other = (method.attribute(request, image[None]).map for method in (m.CAM(), m.GradCAM()))
            scaled = [found.relu() / found.relu().max().clamp(min=1e-12) for found in (one, other)]
            far.append((scaled[0] - scaled[1]).abs().max().item())
        print(f"CAM and Grad-CAM: largest difference {max(far):.1e} (maximum of each map: 1)")


def slots(network: fv.Network, folder: str, steps: int) -> dict[str, Any]:
    """Train SCOUTER's heads on new drawings, and print their accuracy and time."""
    found = {}
    for against in (False, True):
        name = "Scouter against" if against else "Scouter"
        generator = torch.Generator().manual_seed(5)

        def batches(generator: torch.Generator = generator) -> Iterator[tuple[Tensor, Tensor]]:
            for _ in range(steps):
                labels = torch.randint(len(MOTIFS), (64,), generator=generator)
                yield draw(labels, network.size, generator), labels

        file = Path(folder, f"{'against' if against else 'for'}.safetensors")
        started = time.perf_counter()
        right = train_scouter(network, SLOTS, batches(), file, against=against)
        print(
            f"{name}: {right:.3f} accuracy on new drawings after {steps} steps, {time.perf_counter() - started:.0f} s"
        )
        found[name] = m.Scouter(str(file))
    return found


def million(count: int) -> None:
    """Print the time and memory of collecting dataset examples from many files."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(0, count, 1000):
            Path(folder, f"{i:07d}").mkdir()
            for k in range(min(1000, count - i)):
                Path(folder, f"{i:07d}", f"{k:03d}.png").touch()
        started = time.perf_counter()
        scan.folder_fingerprint(Path(folder))
        print(f"{count} files: {time.perf_counter() - started:.0f} s to count them and to check for changes")
    module = nn.Conv2d(3, 256, 3)
    network = fv.Network(module, size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    pool = torch.rand(997, 3, 4, 4)

    def simulated(*_: Any, **__: Any) -> Iterator[ImageBatch]:
        for first in range(0, count, 32):
            some = range(first, min(first + 32, count))
            yield ImageBatch([Path(f"{i}.png") for i in some], pool[[i % 997 for i in some]], some.stop)

    before, scan.image_batches = scan.image_batches, simulated
    used, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    found = scan._scan(network, Path(), "", 5, 2, count, None)
    scan.image_batches = before
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) / 1024
    print(
        f"{count} small images, 256 channels: {time.perf_counter() - started:.0f} s, {more:.0f} MB more at the peak, "
        f"{len(found.files)} names stored"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="mosaics; half as many drawings for the curves")
    parser.add_argument("--slots", type=int, default=600, help="steps of training SCOUTER's heads")
    parser.add_argument("--files", type=int, default=1_000_000, help="gone through for dataset examples; 0 for none")
    parser.add_argument("--only", default="", help="part of a method's name")
    parser.add_argument("--times", type=int, help="only time each method on this number of mosaics")
    parser.add_argument("--network", choices=list(STAGES), action="append", help="default: both")
    options = parser.parse_args()
    names = options.network or list(STAGES)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.count} mosaics")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            network = fv.load(name)
            methods = {one: method for one, method in METHODS.items() if options.only in one}
            if options.times:
                print_times(network, methods, options.times)
                continue
            if name == "motifnet" and options.slots and options.only in "Scouter":
                methods |= slots(network, folder, options.slots)
            print(
                f"{name:23}share  points  insertion  deletion  ms   "
                f"rank correlation with {' '.join(STAGES[name])} randomised"
            )
            for one, method in methods.items():
                try:
                    share, points, seconds = located(network, method, options.count)
                except fv.SettingError:
                    continue
                put, taken = curves(network, method, options.count // 2)
                alike = [] if one == "Scouter" else changed(network, method, max(2, options.count // 10))
                kept = " ".join(f"{value:5.2f}" for value in alike)
                times = f"{1e3 * seconds:5.0f}"
                print(f"{one:23}{share:5.2f}  {points:6.2f}  {put:9.2f}  {taken:8.2f}{times}   {kept}", flush=True)
            if not options.only:
                print(f"{'optimised for insertion':37}{best_insertion(network, options.count // 4):9.2f}", flush=True)
        if options.times or options.only:
            return
        print(f"{'completeness error':38}{'median':>10}{'most':>10}")
        for name in names:
            completeness(fv.load(name), options.count // 4)
    if options.files:
        million(options.files)


if __name__ == "__main__":
    main()
