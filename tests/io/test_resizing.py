"""Resizing of images."""

import pytest
import torch

from featviz.io import resize


@pytest.mark.parametrize("size", [(5, 8), (20, 40), (9, 3)])
def test_resize_is_an_antialiased_bilinear_interpolation(size):
    images = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    assert resize(images, size).equal(expected)


def test_resize_returns_images_of_that_size_as_they_are():
    images = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    assert resize(images, (9, 14)) is images
