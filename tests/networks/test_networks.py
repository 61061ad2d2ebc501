"""Architectures that people use: layers, captures, channel axes and places; all of them by `make networks`."""

from __future__ import annotations

import pytest
import torch
from networks.architectures import ARCHITECTURES, Architecture
from networks.checks import CHECKS, QUICK_CHECKS, Report, check_places, examine
from torch import nn

import featviz as fv

SLOW = (
    "pnasnet5large", "focalnet_tiny_srf", "xception41", "ghostnetv2_100", "mobileone_s0", "resnet50_clip", "selecsls42",
    "convformer_s18", "resnetv2_50x1_bit", "volo_d1_224", "legacy_xception", "cs3sedarknet_l", "densenet121",
    "ssdlite320_mobilenet_v3_large", "r3d_18", "mc3_18", "r2plus1d_18", "swin3d_t", "caformer_s18", "vovnet39a",
    "resnest14d", "efficientnet_es", "fbnetc_100",
)  # fmt: skip
"""Architectures that take more than 2.5 seconds."""
QUICK = [
    each
    for i, each in enumerate(ARCHITECTURES)
    if (each.package == "torchvision" or (each.package == "timm" and i % 3 and each.size in (32, 48, 64)))
    and each.name.partition("/")[2] not in SLOW
]
"""Architectures that are examined without `make networks`: those that take the least time, of two packages."""
RENDERED_EVERY = 15
"""One in this many architectures is also rendered and explained, which takes most of the time."""
TESTED = [
    pytest.param(i, each, marks=[pytest.mark.long] if i % 5 or i % (2 * RENDERED_EVERY) == RENDERED_EVERY else [])
    for i, each in enumerate(QUICK)
]
"""Each fifth one by `make test`, with half of those that are rendered; the others by `make test-long`."""


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize(("number", "architecture"), TESTED, ids=lambda value: getattr(value, "name", ""))
def test_architecture(number: int, architecture: Architecture):
    pytest.importorskip(architecture.package)
    report = examine(architecture, QUICK_CHECKS if number % RENDERED_EVERY else CHECKS)
    assert not report.failures
    assert report.passed["layers listed"] == report.passed["module unchanged"] == 1


def test_table_is_long_and_its_names_are_unique():
    names = [each.name for each in ARCHITECTURES]
    assert len(names) == len(set(names)) >= 300
    assert len(QUICK) >= 150


class Transposed(nn.Module):
    """A network whose second layer is listed as a map, but mirrors it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), Flipped()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


class Flipped(nn.Module):
    """Mirrors its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(2, 3)


def test_the_check_of_places_can_fail():
    net = fv.Network(Transposed(), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    report = Report("mirrored", "odd")
    check_places(net, torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), report)
    assert report.passed["places"]
    assert [failure for failure in report.failures if failure.startswith("places: second")]
