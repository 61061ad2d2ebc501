"""Drawings of a few motifs in folders of their names, and a planted unit that responds to two of them."""

from pathlib import Path

import pytest
import torch
from motifs.draw import draw

import featviz as fv
from featviz.io import save_image, to_bytes

MOTIFS = ("star", "heart", "bricks", "spiral", "leaf", "waves")
PER_MOTIF = 12


@pytest.fixture(scope="session")
def drawings(tmp_path_factory, motifnet) -> Path:
    """Twelve drawings of each of six motifs."""
    folder, generator = tmp_path_factory.mktemp("drawings"), torch.Generator().manual_seed(0)
    for name in MOTIFS:
        (folder / name).mkdir()
        labels = torch.full((PER_MOTIF,), motifnet.classes.index(name))
        for i, image in enumerate(draw(labels, (64, 64), generator)):
            save_image(to_bytes(image.numpy()), folder / name / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def planted(motifnet, drawings) -> fv.Network:
    """Motifnet with a feature that sums the directions of star and heart in its last layer."""
    from featviz.apps.units.responses import read_responses

    found = read_responses(motifnet, drawings, "stage3")
    of = {name: found.features[[i for i, one in enumerate(found.names) if one.startswith(name)]] for name in MOTIFS}
    vector = of["star"].mean(0) + of["heart"].mean(0)
    vector = vector / vector.norm()
    return motifnet.with_dictionary("stage3", fv.Dictionary(kind="relu", encoder=vector[None], bias=[-2.0]))
