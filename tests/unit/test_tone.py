import torch

from featviz import transforms as T
from featviz.random import Generators


def test_tint_multiplies_and_adds_for_each_channel_of_each_image():
    images = torch.rand(2, 4, 3, 5)
    tint = T.Tint(0.3)
    gain, shift = tint.draw(Generators([0, 1]), (4, 3, 5))
    seen = tint.apply(images, (gain, shift))
    for i in range(2):
        for c in range(4):
            wanted = images[i, c] * gain[i, c, 0, 0] + shift[i, c, 0, 0]
            assert torch.allclose(seen[i, c], wanted)


def test_tint_reaches_its_ends_and_no_further():
    gain, shift = T.Tint(0.3).draw(Generators(range(2000)), (3, 1, 1))
    assert 0.7 <= gain.min() < 0.701
    assert 1.299 < gain.max() <= 1.3
    assert -0.3 <= shift.min() < -0.299
    assert 0.299 < shift.max() <= 0.3
    assert abs(torch.corrcoef(torch.stack([gain.flatten(), shift.flatten()]))[0, 1]) < 0.05
