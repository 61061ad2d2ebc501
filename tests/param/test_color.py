import itertools
import math

import pytest
import torch

from featviz.errors import SettingError
from featviz.param import Decorrelated, Plain, Standardized
from featviz.param.color import collapse_channels

LUCID = [[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]]


def test_decorrelated_color_restated():
    canvas = torch.randn(1, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = max(math.sqrt(sum(LUCID[row][column] ** 2 for row in range(3))) for column in range(3))
    image = Decorrelated().image(canvas)
    for y in range(2):
        for x in range(3):
            for row in range(3):
                mixed = sum(LUCID[row][k] / norm * canvas[0, k, y, x].item() for k in range(3))
                assert image[0, row, y, x].item() == pytest.approx(1 / (1 + math.exp(-mixed)), abs=1e-6)


@pytest.mark.parametrize("color", [Plain(), Decorrelated()])
def test_every_color_part_inverts_itself(color):
    image = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    assert torch.allclose(color.image(color.canvas(image)), image, atol=1e-5)


def test_black_and_white_are_reproduced_to_half_a_grey_level():
    ends = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert (Decorrelated().image(Decorrelated().canvas(ends)) - ends).abs().max() < 0.5 / 255 + 1e-5


def test_decorrelated_color_checks_the_number_of_channels():
    with pytest.raises(SettingError) as caught:
        Decorrelated().image(torch.zeros(1, 4, 2, 2))
    assert str(caught.value) == (
        "Decorrelated mixes 3 channels, and the canvas has 4; use color=Plain(), or a prior fitted to images with as "
        "many channels"
    )


def test_collapse_channels_gives_each_channel_a_hue():
    maps = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
    image = collapse_channels(maps)
    assert image.shape == (3, 2, 3) and image.min() >= 0 and image.max() == pytest.approx(1)
    alone = [collapse_channels(torch.eye(5)[:, k : k + 1, None])[:, 0, 0] for k in range(5)]
    assert min((a - b).norm() for a, b in itertools.combinations(alone, 2)) > 0.3
    weaker = collapse_channels(torch.tensor([[[1.0, 0.25]], [[0.0, 0.0]]]))[:, 0]
    assert weaker[:, 1].tolist() == pytest.approx((0.25 * weaker[:, 0]).tolist())
    grey = collapse_channels(torch.ones(3, 1, 1))[:, 0, 0]
    assert grey.max() - grey.min() < 1e-6
    opposite = collapse_channels(torch.tensor([[[1.0, -1.0]]]))[:, 0]
    assert opposite[:, 0].tolist() == [1, 0, 0] and opposite[0, 1] == 0 and opposite[1, 1] == opposite[2, 1] > 0
    signed = collapse_channels(torch.cat([torch.eye(4), -torch.eye(4)], 1)[..., None])[..., 0].T
    assert min((a - b).norm() for a, b in itertools.combinations(signed, 2)) > 0.2  # all hues differ
    assert collapse_channels(torch.tensor([[[3]], [[1]]])).amax() == 1
    with pytest.raises(SettingError, match=r"^maps must have at least one channel, got shape \(0, 2, 2\)$"):
        collapse_channels(torch.zeros(0, 2, 2))
    assert collapse_channels(torch.zeros(4, 2, 2)).eq(0).all()
    assert collapse_channels(maps.expand(2, 5, 2, 3))[1].equal(image)


@pytest.mark.parametrize("size", [(40,), (4, 5, 6)])
def test_the_power_of_a_standardised_canvas_is_kept_between_its_limits(size):
    canvas = torch.randn(3, 2, *size, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 0.5, 9]).view(
        3, 1, *[1] * len(size)
    )
    found = Standardized(0.25, 0.75).image(canvas)
    for one, image in zip(canvas.double(), found.double(), strict=True):
        power = (sum(value**2 for value in one.flatten().tolist()) / one.numel()) ** 0.5
        scaled = one * min(max(power, 0.25), 0.75) / power
        assert torch.allclose(image, 1 / (1 + (-scaled).exp()), atol=1e-6)
    again = Standardized().image(Standardized().canvas(found[1:2]))
    assert torch.allclose(again, found[1:2], atol=1e-5)


def test_a_flat_canvas_stays_finite_and_has_a_gradient():
    canvas = torch.zeros(1, 1, 8, requires_grad=True)
    found = Standardized().image(canvas)
    found[0, 0, 0].backward()
    assert torch.equal(found, torch.full_like(found, 0.5)) and canvas.grad.isfinite().all()


@pytest.mark.parametrize(("least", "most"), [(-1, 1), (0.5, 0.25), (0, 0), (0, float("nan"))])
def test_limits_of_the_power_are_checked(least, most):
    with pytest.raises(SettingError, match="^(least|most) of Standardized must be"):
        Standardized(least, most)
