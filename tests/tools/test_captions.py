"""The stand-in for CLIP of the catalogue."""

import pytest
import torch
from motifs.captions import captioned_motifs, tokenize
from motifs.draw import draw

import featviz as fv
from featviz.network.bundled import MOTIFS


def test_captions_name_motifs():
    star, heart = MOTIFS.index("star"), MOTIFS.index("heart")
    assert tokenize(["a heart", "a star, a heart", "nothing"]).tolist() == [[heart, -1], [star, heart], [-1, -1]]


@pytest.mark.parametrize("motif", ["star", "clouds"])
def test_the_text_of_a_motif_is_closest_to_its_drawings(motif):
    images = draw(torch.arange(len(MOTIFS)), (64, 64), torch.Generator().manual_seed(0))
    network = captioned_motifs()
    scores = fv.score(network, fv.objectives.Text(f"a drawing of a {motif}"), images).flatten()
    assert scores.argmax() == MOTIFS.index(motif) and scores.max() > 0.9
    assert network.capture(images, [""]).logits().argmax(1)[MOTIFS.index(motif)] == MOTIFS.index(motif)
