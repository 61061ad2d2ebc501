"""Parts that the images of a batch share."""

import torch

from featviz import param
from featviz.random import Generators


def test_shared_canvases_are_the_same_for_all_images_of_a_batch():
    shared = param.Shared(param.Pixel(std=0.0), (2, 4), std=1.0)
    leaves = shared.start(Generators([0, 1, 2]), 3, (10, 13))
    assert [len(leaf) for leaf in leaves] == [1, 1, 3]
    canvas = shared.canvas(leaves, (10, 13))
    assert torch.equal(canvas[0], canvas[2])
    assert canvas.std() > 0.3
    moved = leaves[0].clone()
    moved[..., 2, 2] += 1
    assert ((shared.canvas([moved, *leaves[1:]], (10, 13)) - canvas).abs() > 0).sum(dtype=torch.int) <= 3 * 3 * 16
