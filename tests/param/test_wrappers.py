"""Params that contain another one: masks, fixed images, alpha."""

import imageio.v3 as iio
import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.errors import SettingError


def test_masked_changes_only_its_mask():
    net, photo = toys.plain(), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(32, 32)
    mask[5:20, 8:30] = 1
    rendering = fv.render(net, "conv2:1", param=param.Masked(mask), start=photo, steps=10)
    changed = (rendering.images - photo).abs().amax(1)[0]
    assert changed[mask == 0].max() < 1e-6
    assert changed[mask == 1].mean() > 0.01


def test_stack_keeps_its_fixed_images():
    net, photo = toys.plain(), torch.rand(3, 40, 32, generator=torch.Generator().manual_seed(0))
    stack = param.Stack((photo,), param.Image(32, batch=2))
    rendering = fv.render(net, "conv2:1 + alignment(conv2)", param=stack, steps=10)
    assert torch.equal(rendering.images[0], photo[:, 4:36])
    assert (rendering.images[1:].std((2, 3)) > 0).all()
    with pytest.raises(
        SettingError, match="shares tensors between the images of a batch; render one objective at a time$"
    ):
        fv.render(net, ["conv2:1", "conv2:2"], param=stack, steps=1)


def test_images_with_alpha_are_composited_and_saved_with_their_alpha(tmp_path):
    net = toys.plain()
    rendering = fv.render(net, "conv2:1 - opacity", param=param.Alpha(param.Image((24, 30))), steps=8)
    assert rendering.images.shape == (1, 4, 24, 30)
    (path,) = rendering.save(tmp_path / "a.png")
    assert iio.imread(path).shape == (24, 30, 4)
    (path,) = rendering.save(tmp_path / "a.jpg")
    assert iio.imread(path).shape == (24, 30, 3)
    pair = fv.render(net, ["conv2:1", "conv2:2"], param=param.Alpha(param.Image(100)), steps=1)
    assert iio.imread(pair.save(tmp_path / "pair.png")[0]).shape[2] == 3
    assert fv.replay(tmp_path / "a.png", network=net).images.equal(rendering.images)


def test_wrappers_keep_the_traits_of_the_inner_param(tmp_path):
    net = toys.plain()
    shared = param.Image(32, batch=2, spatial=param.Shared())
    for wrapper in (param.Alpha(shared), param.Masked(torch.ones(32, 32), shared)):
        assert wrapper.traits.couples_batch
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert fv.render(net, "conv2:1", param=param.Stack((photo,), shared), steps=2).images.shape[0] == 3
    assert fv.render(net, "conv2:1", param=param.Alpha(param.Image(spatial=param.CPPN(4, 2))), steps=1).at(20).alpha
    path = fv.fit_prior(torch.rand(4, 3, 32, 32), size=32).save(tmp_path / "p.json")
    for spatial in (param.Fourier(prior=path), param.Phase(prior=path)):
        images = fv.render(net, "conv2:1", param=param.Alpha(param.Image(spatial=spatial)), steps=1).images
        assert images.shape == (1, 4, 32, 32)
    assert param.Shared(param.Fourier(prior=path)).traits.color_prior == str(path)


def test_opacity_is_the_mean_of_the_last_channel_for_any_number_of_channels():
    net = toys.network(toys.Plain(1), mean=(0.5,), std=(0.5,))
    rendering = fv.render(net, "conv2:1 - opacity", param=param.Alpha(), steps=4)
    assert rendering.images.shape == (1, 2, 32, 32)
    four = toys.network(toys.Plain(4), mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(SettingError, match=r"^the image has no alpha channel"):
        fv.render(four, "conv2:1 - opacity", steps=1)
