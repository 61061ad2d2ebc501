"""Networks whose only kernel is known respond most to it, wherever it is."""

import pytest
import torch
from motifs import planted
from torch.nn.functional import pad

NETWORKS = {
    "x": (planted.signals, planted.chirp),
    "zyx": (planted.volumes, planted.ring),
    "tyx": (planted.clips, planted.moving_bar),
}


@pytest.mark.parametrize("axes", NETWORKS)
def test_the_kernel_has_the_highest_response_of_its_power(axes):
    net, kernel = NETWORKS[axes][0](), NETWORKS[axes][1]()
    kernel = kernel if axes == "tyx" else kernel[None]
    assert net.input.axes == axes
    centred = kernel - kernel.mean()
    unit = centred / centred.norm()
    for start in (0, 1):
        room = [(start, side - own - start) for side, own in zip(net.size, kernel.shape[1:], strict=True)]
        placed = pad(unit, [edge for pair in reversed(room) for edge in pair])[None]
        assert net.module(placed).item() == pytest.approx(1, abs=1e-4)
        other = torch.randn(placed.shape, generator=torch.Generator().manual_seed(start))
        assert net.module(other / other.norm()).item() < 0.5
