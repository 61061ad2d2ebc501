"""Images that a user gives to an app."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.apps.shared.arguments.input_images import as_images


def test_images_given_as_numbers_keep_their_size(net):
    image = torch.rand(3, 20, 40)
    assert as_images(net, image).equal(image[None])
    assert as_images(net, image.numpy().astype(np.float64)).dtype == torch.float32
    with pytest.raises(
        fv.SettingError, match=r"^the image holds torch.float32 from .*; give floating-point numbers in \[0, 1\]$"
    ):
        as_images(net, 2 * image)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (32, 32)), ((48, 96), (32, 64)), ((10, 400), (32, 128))])
def test_a_file_is_read_at_about_the_input_size(net, tmp_path, size, expected):
    Image.new("RGB", size[::-1]).save(tmp_path / "a.png")
    assert as_images(net, tmp_path / "a.png").shape == (1, 3, *expected)
    assert as_images(toys.network(toys.Vit()), tmp_path / "a.png").shape == (1, 3, 32, 32)  # of fixed input size
