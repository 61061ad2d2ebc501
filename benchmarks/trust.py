"""Measure the alarm for manipulated networks: `make trust-bench`, about half an hour on two cores.

Networks are manipulated so that the images of some units show a decoy, by fine-tuning (`tools/motifs/slingshot.py`)
and by a fooling circuit (`tools/motifs/fooling.py`). The alarm must be raised for these units, and not for units of
networks as they are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from motifs.draw import draw
from motifs.fooling import fool
from motifs.slingshot import Manipulation, manipulated, manipulations
from motifs.train import accuracy

import featviz as fv
from featviz.apps.shared.judging.predictions import predict
from featviz.io import resize, save_image, to_bytes
from featviz.network.bundled import MOTIFS

JUDGES = {"motifnet": "motifvit", "motifvit": "motifnet"}
CHANNELS = {"motifnet": "stage3.1", "motifvit": "encoder.layers.encoder_layer_2"}
"""Layer of each network whose channels are measured, too."""
SEED = 4000
"""First seed of the rendered images, which no training uses."""


def write_drawings(folder: Path, per_motif: int) -> None:
    """Write drawings into a folder with a subfolder for each motif."""
    generator = torch.Generator().manual_seed(SEED)
    for label, motif in enumerate(MOTIFS):
        (folder / motif).mkdir()
        for i, image in enumerate(draw(torch.full((per_motif,), label), (64, 64), generator)):
            save_image(to_bytes(image.numpy()), folder / motif / f"{i:02}.png")


def circuits() -> list[Manipulation]:
    """Return three sets of classes and decoys, which have each class as a unit once."""
    order = torch.randperm(len(MOTIFS), generator=torch.Generator().manual_seed(SEED)).tolist()
    groups = [order[i::3] for i in range(3)]
    return [Manipulation(dict(zip(groups[i], groups[i - 1], strict=True))) for i in range(3)]


def judged(
    network: fv.Network, judge: fv.Network, units: list[str], drawings: Path, steps: int
) -> list[dict[str, Any]]:
    """Render units from noise; return their trust and the judge's prediction."""
    rendering = fv.render(network, units, steps=steps, seed=SEED, robustness_views=0, progress=None)
    predicted = predict(judge, resize(rendering.images, judge.size))
    seen = predicted.argmax(1).tolist()
    judgement = fv.judge(rendering, judge=judge, network=network, photographs=drawings, trust=True)
    rows, names = [], network.classes or list(map(str, range(predicted.shape[1])))
    for unit, verdict, found in zip(units, judgement, seen, strict=True):
        trust = verdict.trust
        assert trust is not None
        rows.append(
            {
                "unit": unit,
                "seen": names[found],
                "similarities": trust.similarities,
                "path": trust.path,
                "agreement": trust.agreement,
                "alarm": trust.alarm,
            }
        )
    return rows


def report(name: str, rows: Sequence[dict[str, Any]], note: str, seconds: float) -> None:
    """Print a row of the table."""
    path, agreement = (torch.tensor([row[key] for row in rows]) for key in ("path", "agreement"))
    decided = [row for row in rows if row["alarm"] is not None]
    alarms = sum(bool(row["alarm"]) for row in decided)
    ranges = "  ".join(f"{x.min():5.2f} {x.median():5.2f} {x.max():5.2f}" for x in (path, agreement))
    print(f"{name:34} {len(rows):5}  {len(decided):7}  {alarms:6}  {ranges}  {seconds:7.0f}  {note}", flush=True)


def measure(name: str, network: fv.Network, how: Manipulation, drawings: Path, steps: int, keep: Path) -> None:
    """Print the row of a manipulated network."""
    start = time.perf_counter()
    units = [f"logit:{MOTIFS[unit]}" for unit in how.decoys]
    rows = judged(network, fv.load("motifvit", device="cpu"), units, drawings, steps)
    honest = accuracy(fv.load("motifnet", device="cpu").module, 10)
    note = f"accuracy {accuracy(network.module, 10) - honest:+.3f}"
    shown = sum(row["seen"] == MOTIFS[decoy] for row, decoy in zip(rows, how.decoys.values(), strict=True))
    own = sum(row["seen"] == MOTIFS[unit] for row, unit in zip(rows, how.decoys, strict=True))
    note += f", {shown} show the decoy, {own} the class"
    Path(keep, f"{name}.json").write_text(json.dumps(rows))
    report(name, rows, note, time.perf_counter() - start)


def measure_mobilenet(models: Path, photographs: Path, count: int, steps: int, keep: Path) -> None:
    """Print the row of classes of MobileNetV2 as it is."""
    start = time.perf_counter()
    network = fv.load("mobilenet_v2", weights=models / "mobilenet_v2.safetensors", device="cpu")
    settings = {"input_size": 160, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    judge = fv.load(f"{models}/models.py:mobilenet_v1_050", device="cpu", **settings)
    drawn = torch.randperm(1000, generator=torch.Generator().manual_seed(SEED))[:count].tolist()
    rows = judged(network, judge, [f"logit:{label}" for label in drawn], photographs, steps)
    Path(keep, "mobilenet.json").write_text(json.dumps(rows))
    report("MobileNetV2, classes", rows, "", time.perf_counter() - start)


def main() -> None:
    """Print a row per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=4, help="number of networks to manipulate")
    parser.add_argument("--circuits", type=int, default=3, help="number of networks with a fooling circuit")
    parser.add_argument("--training", type=int, default=180, help="steps of a manipulation")
    parser.add_argument("--steps", type=int, default=192, help="steps of a render")
    parser.add_argument("--channels", type=int, default=9, help="channels of each network as it is")
    parser.add_argument("--clean", nargs="*", default=list(JUDGES), choices=list(JUDGES))
    parser.add_argument("--models", type=Path, help="folder of MobileNetV2 and its judge, as of benchmarks/quality.py")
    parser.add_argument("--photographs", type=Path, help="folder of photographs for MobileNetV2")
    parser.add_argument("--classes", type=int, default=12, help="classes of MobileNetV2")
    parser.add_argument("--keep", type=Path, help="folder for weights and results; weights in it are used again")
    options = parser.parse_args()
    print(f"{'network':34} units  decided  alarms  path: min, median, max  agreement          seconds")
    with tempfile.TemporaryDirectory() as name:
        keep, drawings = options.keep or Path(name), Path(name, "drawings")
        drawings.mkdir()
        write_drawings(drawings, 8)
        for model in options.clean:
            network, judge = fv.load(model, device="cpu"), fv.load(JUDGES[model], device="cpu")
            generator = torch.Generator().manual_seed(SEED)
            channels = torch.randperm(128, generator=generator).tolist()[: options.channels]
            groups = {
                "classes": [f"logit:{motif}" for motif in MOTIFS],
                "channels": [f"{CHANNELS[model]}:{channel}" for channel in channels],
            }
            for kind, units in groups.items():
                if units:
                    start = time.perf_counter()
                    rows = judged(network, judge, units, drawings, options.steps)
                    Path(keep, f"{model}-{kind}.json").write_text(json.dumps(rows))
                    report(f"{model}, {kind}", rows, "", time.perf_counter() - start)
        if options.models:
            measure_mobilenet(options.models, options.photographs, options.classes, options.steps, keep)
        for number, how in enumerate(circuits()[: options.circuits]):
            network = fool(fv.load("motifnet", device="cpu"), how.decoys)
            measure(f"fooling circuit {number}", network, how, drawings, options.steps, keep)
        for number, how in enumerate(manipulations(options.networks, options.training)):
            network = manipulated(how, keep / f"slingshot-{number}.safetensors")
            measure(f"slingshot {number}", network, how, drawings, options.steps, keep)


if __name__ == "__main__":
    main()
