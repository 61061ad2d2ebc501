"""Draw the pictures of the README: `make docs MOBILENET=path/to/mobilenet_v2.safetensors`.

Without MOBILENET, torchvision downloads its own weights for that network.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz.network.motifs import draw
from featviz.output import to_bytes

HERE = Path(__file__).parent
UNITS = (
    "features.3:5", "features.5:12", "features.7:20", "features.9:31", "features.11:7", "features.14:5",
    "features.14:60", "features.16:40", "features.17:100", "logit:flamingo", "logit:jack-o'-lantern", "logit:zebra",
    "logit:strawberry", "logit:monarch", "logit:pinwheel",
)  # fmt: skip
LAYERS = ("features.4", "features.10", "features.12")
"""What is dreamt of: early, in the middle, late."""


def main() -> None:
    """Draw the sheets and the dreams."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mobilenet", default="default", help="a weights file")
    options = parser.parse_args()
    motifnet = fv.load("motifnet")
    goals = [obj.Logit(name) for name in motifnet.classes]
    fv.render(motifnet, goals, param=param.image(128), progress=fv.progress_bar()).save(HERE / "motifs.webp")
    mobilenet = fv.load("mobilenet_v2", weights=options.mobilenet)
    fv.render(mobilenet, UNITS, progress=fv.progress_bar()).save(HERE / "mobilenet_v2.webp")
    dreams = [fv.read_image(HERE / "chelsea.webp")]
    dreams += [fv.dream(mobilenet, HERE / "chelsea.webp", layer).images[0].numpy() for layer in LAYERS]
    explain(mobilenet)
    examples(motifnet)
    rows = [np.concatenate(dreams[i : i + 2], 2) for i in (0, 2)]
    iio.imwrite(HERE / "dream.webp", to_bytes(np.concatenate(rows, 1)), quality=90)


def explain(network: fv.Network) -> None:
    """Draw the sheet of attributions."""
    methods = ["gradcam", "guidedgradcam", "smoothgrad", "integratedgradients", "LRP('epsilon_plus')"]
    fv.compare(network, HERE / "chelsea.webp", ["logit:tabby", "features.10:31"], methods).save(HERE / "explain.webp")


def examples(network: fv.Network) -> None:
    """Draw the sheet of drawings that excite units."""
    labels = torch.arange(405) % len(network.classes)
    drawings = draw(labels, network.size, torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(drawings):
            iio.imwrite(Path(folder, f"{i:03d}.png"), to_bytes(image.numpy()))
        found = fv.examples(network, folder, "stage2", [1, 9, 30, 47])
        pictures = fv.render(network, found.goals, param=param.image(128))
        found.save(HERE / "examples.webp", pictures)


if __name__ == "__main__":
    main()
