"""Numbers of numpy are accepted wherever those of Python are, and mean the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toys

import featviz as fv

CALLS = {
    "render": lambda net, number: fv.render(net, "conv2:1", seed=number(3), steps=number(1)).images,
    "accentuate": lambda net, number: (
        fv.accentuate(net, torch.full((3, 32, 32), 0.5), "conv2:1", seed=number(3), steps=number(1)).images
    ),
    "dream": lambda net, number: (
        fv.dream(net, torch.full((3, 32, 32), 0.5), "conv2", steps=number(1), octaves=number(1)).images
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_whole_numbers(name):
    net = toys.plain()
    assert CALLS[name](net, np.int64).equal(CALLS[name](net, int))


def test_classes_of_blocks(motifnet, tmp_path):
    given = {"cells": 4, "groups": 2, "steps": 1, "size": 32, "progress": None}
    pages = [
        fv.blocks(
            motifnet,
            torch.full((3, 64, 64), 0.5),
            "stage3",
            tmp_path / f"{type(classes).__name__}{classes[1]}",
            classes=classes,
            **given,
        )
        for classes in (np.array([3, 5]), [3, 5], [3, 6])
    ]
    array, same, other = (Path(page.page).read_text() for page in pages)
    assert array == same != other
