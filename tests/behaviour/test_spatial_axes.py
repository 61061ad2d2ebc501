"""Renders of signals, volumes and video: planted kernels are recovered, and what is about pictures says so."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import toys
from examples import PARAMS, TRANSFORMS
from torch import nn

import featviz as fv
from featviz import param, transforms
from featviz.engine.shorthand import as_param, default_param
from featviz.errors import SettingError
from featviz.io import linear_mode
from featviz.network import InputSpec
from featviz.param.spectrum import power_law
from featviz.random import Generators
from featviz.transforms import apply_transforms, fuse
from featviz.transforms.blur import gaussian_blur

AXES = ("x", "yx", "zyx", "tyx")

LENGTH = 65
"""Length of the planted kernels of signals, in samples."""


def chirp() -> torch.Tensor:
    """A tone whose frequency rises from 2 to 14 cycles per kernel."""
    time = torch.linspace(0, 1, LENGTH)
    return torch.sin(2 * math.pi * (2 * time + 6 * time**2)) * torch.hann_window(LENGTH)


def heartbeat() -> torch.Tensor:
    """Bumps like the P, Q, R, S and T waves of an electrocardiogram."""
    time = torch.linspace(-1, 1, LENGTH)
    waves = ((0.12, -0.5, 0.1), (-0.25, -0.14, 0.05), (1.0, 0.0, 0.06), (-0.35, 0.14, 0.06), (0.3, 0.55, 0.15))
    return sum(height * torch.exp(-(((time - center) / width) ** 2)) for height, center, width in waves)


def ring() -> torch.Tensor:
    """A ring in the plane of the last two axes, 9 px wide."""
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, 9)] * 3, indexing="ij")
    return torch.exp(-(((torch.hypot(x, y) - 0.65) / 0.25) ** 2)) * torch.exp(-((z / 0.3) ** 2))


def small_network(axes: int, size: tuple[int, ...]) -> fv.Network:
    """A network of one convolution of two channels."""
    torch.manual_seed(0)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    return fv.Network(nn.Sequential(conv(2, 3, 3, padding=1)), size=size, mean=(0.0, 0.0), std=(1.0, 1.0))


def matched_filters(kernels: list[torch.Tensor], size: tuple[int, ...]) -> fv.Network:
    """A network whose first layer has the kernels as weights, and whose logits are the maxima of their responses."""
    axes, side = len(size), kernels[0].shape[-1]
    conv, pool = ((nn.Conv1d, nn.AdaptiveMaxPool1d), None, (nn.Conv3d, nn.AdaptiveMaxPool3d))[axes - 1]
    first = conv(1, len(kernels), side, padding=side // 2, bias=False)
    first.weight.data = torch.stack([each - each.mean() for each in kernels])[:, None]
    first.weight.data /= first.weight.data.flatten(1).norm(dim=1).view(-1, *[1] * (axes + 1))
    module = nn.Sequential(first, nn.ReLU(), pool(1), nn.Flatten())
    return fv.Network(module, size=size, mean=(0.0,), std=(1.0,))


def largest_correlation(image: torch.Tensor, kernel: torch.Tensor) -> float:
    """The largest correlation of a kernel with any window of an image."""
    best = -1.0
    places = [range(side - own + 1) for side, own in zip(image.shape, kernel.shape, strict=True)]
    for place in np.ndindex(*map(len, places)):
        window = image[tuple(slice(at, at + own) for at, own in zip(place, kernel.shape, strict=True))]
        best = max(best, np.corrcoef(window.flatten(), kernel.flatten())[0, 1])
    return best


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1], ids=["chirp", "heartbeat"])
def test_the_kernels_of_a_signal_network_are_recovered(index):
    """Without the penalty, the strongest signal within the value range is a square wave: the kernel's sign."""
    kernels = [chirp(), heartbeat()]
    network = matched_filters(kernels, (256,))
    found = fv.render(network, f"logit:{index} - 1000*l2", progress=None).values[0, 0]
    assert largest_correlation(found, kernels[index]) >= 0.95
    assert largest_correlation(found, kernels[1 - index]) < 0.8


@pytest.mark.slow
def test_the_kernels_of_a_volume_network_are_recovered():
    network = matched_filters([ring(), ring().transpose(0, 2)], (16, 16, 16))
    views = (transforms.Rotate(10), transforms.Scale(transforms.LogUniform(0.9, 1.1)), transforms.Contrast(0.3))
    unit = "0:0@center - 16000*l2"
    found = fv.render(network, unit, transforms=views, steps=96, progress=None).values[0, 0]
    assert largest_correlation(found, ring()) >= 0.95
    assert largest_correlation(found, ring().transpose(0, 2)) < 0.8


@pytest.mark.slow
def test_every_layer_of_a_video_network_is_listed_and_its_units_rise():
    from torchvision.models.video import r3d_18

    torch.manual_seed(0)
    module = r3d_18(weights=None).eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    network = fv.Network(module, size=(8, 48, 48), mean=(0.43, 0.39, 0.38), std=(0.23, 0.22, 0.22), axes="tyx")
    assert set(network.table) == {name for name, _ in module.named_modules()} and not network.probed.refused
    assert [network.table[f"layer{i}"].channels for i in (1, 2, 3, 4)] == [64, 128, 256, 512]
    assert [network.table[f"layer{i}"].stride for i in (1, 2, 3, 4)] == [2, 4, 8, 16]
    assert network.table["layer2"].map_size == (4, 12, 12)
    for unit in ("layer2:5", "logit:3"):
        found = fv.render(network, unit, transforms=(), steps=8, robustness_views=0, progress=None)
        assert found.images.shape == (1, 3, 8, 48, 48) and found.history[-1] > found.history[0], unit
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())


# ---------------------------------------------------------------------------------------------- params


SPATIAL = (
    param.Pixel(), param.Fourier(), param.Phase(), param.Pyramid(), param.CPPN(width=8, depth=2),
    param.CPPN(width=8, depth=2, periodic=True), param.Shared(),
)  # fmt: skip
SIZES = ((40,), (41,), (6, 8, 10), (5, 7, 9))


@pytest.mark.parametrize("size", SIZES)
def test_every_param_raises_a_unit_of_signals_and_volumes(size):
    network = small_network(len(size), size)
    for spatial in SPATIAL:
        found = fv.render(network, "0:1", param=spatial, transforms=(), steps=12, progress=None)
        assert found.images.shape == (1, 2, *size), spatial
        assert found.history[-1] > found.history[0], spatial


@pytest.mark.parametrize("size", [(40,), (6, 8, 10)])
def test_wrapped_params_work_on_signals_and_volumes(size):
    network, half = small_network(len(size), size), torch.zeros(1, *size)
    half[..., : size[-1] // 2] = 1
    start = torch.rand(2, *size)
    masked = fv.render(network, "0:1", param=param.Masked(half), start=start, steps=6, progress=None).images[0]
    assert torch.allclose(masked[..., size[-1] // 2 :], start[..., size[-1] // 2 :], atol=1e-6)
    assert not torch.allclose(masked, start, atol=1e-2)
    stacked = fv.render(network, "0:1", param=param.Stack((start,)), steps=6, progress=None)
    assert len(stacked) == 2 and torch.allclose(stacked.images[0], start)
    assert fv.render(network, "0:1", param=param.Alpha(), steps=6, progress=None).images.shape == (1, 3, *size)


@pytest.mark.parametrize(("axes", "decay"), [("x", 0.9), ("yx", 1.4), ("zyx", 1.9), ("tyx", (0.9, 1.4, 1.4))])
def test_the_default_spectrum_gives_each_octave_the_same_share_in_any_number_of_axes(axes, decay):
    size = (8, 8, 8)[: len(axes)]
    found = default_param(InputSpec(size, (0.5,), (0.25,), axes=axes))
    assert found.spatial == param.Fourier(decay)


def test_three_channels_are_colours_in_images_and_video_only():
    specs = {axes: InputSpec((8, 8, 8)[: len(axes)], (0.5,) * 3, (0.2,) * 3, axes=axes) for axes in AXES}
    colored = {axes: default_param(spec) for axes, spec in specs.items()}
    canvas = {axes: torch.ones(1, 3, *(4, 4, 4)[: len(axes)]) for axes in AXES}
    images = {axes: each._color(canvas[axes]) for axes, each in colored.items()}
    assert {axes for axes, part in images.items() if part == param.Decorrelated()} == {"yx", "tyx"}


def test_a_decay_per_axis_is_a_product_of_power_laws():
    spectrum = power_law((6, 8, 10), (0.9, 1.4, 1.4), torch.device("cpu"))
    for t in range(6):
        for y in range(8):
            for x in range(6):
                time = max(min(t, 6 - t) / 6, 1 / 6)
                place = max(math.hypot(min(y, 8 - y) / 8, x / 10), 1 / 10)
                assert spectrum[t, y, x].item() == pytest.approx(time**-0.9 * place**-1.4, rel=1e-5)


@pytest.mark.parametrize("size", [(40,), (41,), (6, 8, 10), (5, 7, 9)])
def test_phases_keep_their_amplitudes_in_any_number_of_axes(size):
    leaves = param.Phase().start(Generators([3]), 2, size)
    spectrum = torch.fft.rfftn(param.Phase().canvas(leaves, size), s=size, norm="ortho")
    assert torch.allclose(spectrum.abs(), leaves[1], atol=1e-4)


# ---------------------------------------------------------------------------------------------- transforms


@pytest.mark.parametrize("size", [(31,), (7, 8, 9)])
@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        (transforms.Pad(2, fill=0.25), lambda x: torch.nn.functional.pad(x, [2, 2] * (x.ndim - 2), value=0.25)),
        (transforms.Crop(1), lambda x: x[(..., *[slice(1, -1)] * (x.ndim - 2))]),
        (transforms.Scale(1.0), lambda x: x),
        (transforms.Resize(2.0), lambda x: torch.nn.functional.interpolate(x, scale_factor=2, mode=linear_mode(x))),
        (transforms.ResizedView(1.0), lambda x: x),
    ],
)
def test_geometry_moves_pixels_as_the_plain_operation_does(size, transform, expected):
    images = torch.rand(2, 3, *size)
    found, _ = apply_transforms(images, fuse((transform,)), Generators([0, 1]))
    wanted = expected(images)
    inner = (..., *[slice(2, -2)] * len(size))  # at the border, interpolation repeats and sampling mirrors
    assert found.shape == wanted.shape
    assert torch.allclose(found[inner], wanted[inner], atol=1e-5)


@pytest.mark.parametrize("size", [(31,), (7, 8, 9)])
def test_random_transforms_keep_the_size_and_pass_gradients(size):
    stack = (
        transforms.Shift(0.1), transforms.Scale(transforms.LogUniform(0.4, 1.5)), transforms.Flip(),
        transforms.Contrast(0.3), transforms.ColorShift(0.2), transforms.GaussianBlur(1.0), transforms.Roll(2),
        transforms.Noise(0.1), transforms.UniformNoise(0.1),
    )  # fmt: skip
    images = torch.rand(2, 3, *size, requires_grad=True)
    views, move = apply_transforms(images, fuse(stack), Generators([0, 1]))
    assert views.shape == images.shape and move(torch.ones(2, 1, *size)).shape == (2, 1, *size)
    views.square().sum().backward()
    assert images.grad is not None and images.grad.flatten(1).any(1).all()


def test_a_stretch_of_time_moves_a_peak_away_from_the_center():
    signal = torch.zeros(1, 1, 101)
    signal[..., 70] = 1
    views, _ = apply_transforms(signal, fuse((transforms.Scale(1.5),)), Generators([0]))
    assert views.argmax().item() == 50 + round(1.5 * 20)


def test_a_volume_is_rotated_in_the_plane_of_its_last_two_axes():
    volume = torch.rand(1, 1, 4, 16, 16)
    rotate = (transforms.Rotate(transforms.OneOf((30,))),)
    found, _ = apply_transforms(volume, fuse(rotate), Generators([0]))
    for plane in range(4):
        expected, _ = apply_transforms(volume[:, :, plane], fuse(rotate), Generators([0]))
        assert torch.allclose(found[:, :, plane], expected, atol=1e-5)


def test_blur_of_a_signal_is_that_of_an_image_of_equal_rows():
    signal = torch.rand(1, 2, 40)
    image = signal[:, :, None].expand(-1, -1, 9, -1)
    assert torch.allclose(gaussian_blur(signal, 1.5), gaussian_blur(image, 1.5)[:, :, 4], atol=1e-5)


# ---------------------------------------------------------------------------------------------- results


@pytest.mark.parametrize("size", [(40,), (6, 8, 10)])
def test_a_result_is_saved_as_numbers_in_the_range_of_the_data_and_replayed(size, tmp_path):
    network = small_network(len(size), size)
    found = fv.render(network, ["0:1", "0:0@center"], steps=4, progress=None)
    (file,) = found.save(tmp_path / "found.npy")
    assert np.array_equal(np.load(file), found.values.numpy())
    assert np.allclose(found.values, 8 * found.images - 4, atol=1e-5)
    again = fv.replay(file, network=network, progress=None)
    assert torch.equal(again.images, found.images) and again.recipe.hash == found.recipe.hash
    assert [each.name for each in found.save(tmp_path)] == ["00-0_1.npy", "01-0_0_center.npy"]


def test_pictures_are_saved_as_numbers_too(tmp_path):
    found = fv.render(toys.plain(), "conv2:1", steps=2, progress=None)
    (file,) = found.save(tmp_path / "a.npy")
    assert np.array_equal(np.load(file), found.images.numpy())
    (tmp_path / "a.npy.json").unlink()
    with pytest.raises(fv.OutputError) as caught:
        fv.Recipe.of(file)
    assert str(caught.value) == f"no recipe for {file}: there is no file a.npy.json beside it"


def test_what_is_about_pictures_says_so():
    network = small_network(1, (40,))
    with pytest.raises(SettingError) as caught:
        fv.doctor(network)
    wrong = "Sequential reads inputs of size (40,), and doctor works on images, which have height and width"
    usable = "blocks, dream, evidence, examples, explain, gallery, render, replay or sweep"
    assert str(caught.value) == f"{wrong}; use {usable}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": (8, 8)}, "size must have 1 number, as the input (40,) of Sequential, got (8, 8)"),
        ({"start": torch.rand(3, 40)}, "start must have shape (2, length) or (1, 2, length), got (3, 40)"),
        ({"transforms": transforms.Rotate(5)}, "Rotate(degrees=5) needs images with two axes or more, and signals have "
         "one; leave it out"),
        ({"param": param.Fourier((1.0, 2.0))}, "decay of Fourier must be one number, or one per axis of images of 40 "
         "px, got (1.0, 2.0)"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(SettingError) as caught:
        fv.render(small_network(1, (40,)), "0:1", steps=1, progress=None, **arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("size", [(40,), (6, 8, 10)])
@pytest.mark.parametrize("name", [*PARAMS, *TRANSFORMS])
def test_every_param_and_transform_renders_signals_and_volumes_or_is_refused(name, size):
    network = small_network(len(size), size)
    settings = {"param": PARAMS[name]} if name in PARAMS else {"transforms": TRANSFORMS[name]}
    try:
        rendering = fv.render(network, "0:1", steps=2, progress=None, **settings)
    except SettingError:
        return
    assert rendering.images.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"param": PARAMS["Generator"]}, "Generator(Sigmoid) needs images with two axes, got 1; use another param, "
         "such as param.Fourier()"),
        ({"transforms": transforms.MeshView("box", 24, 3)}, "MeshView needs images with two axes, got 1; leave it out"),
        ({"transforms": transforms.CompositeAlpha()}, "CompositeAlpha() removes a channel and needs param.Alpha(), "
         "--param alpha"),
    ],
)  # fmt: skip
def test_what_needs_images_is_refused_for_a_signal(settings, message):
    conv = nn.Sequential(nn.Conv1d(1, 3, 3, padding=1))
    network = fv.Network(conv, size=(40,), mean=(0.0,), std=(1.0,))
    with pytest.raises(SettingError) as caught:
        fv.render(network, "0:1", steps=1, progress=None, **settings)
    assert str(caught.value) == message


def test_recipes_of_pictures_have_no_new_fields_and_others_are_read_back():
    picture = fv.render(toys.plain(), "conv2:1", steps=0, progress=None).recipe
    assert {"axes", "value_range"}.isdisjoint(json.loads(picture.to_json())["input"])
    module = nn.Sequential(nn.Conv3d(3, 2, 3, padding=1))
    clip = fv.Network(module, size=(4, 8, 8), mean=(0.5,) * 3, std=(0.2,) * 3, axes="tyx")
    recipe = fv.render(clip, "0:1", steps=0, progress=None).recipe
    assert fv.Recipe.from_json(recipe.to_json()) == recipe and recipe.input.axes == "tyx"


def test_a_long_signal_is_rendered_in_tiles():
    network = small_network(1, (40,))
    found = fv.render(
        network, "0:1", size=400, steps=3, transforms=(), execution=fv.Execution("float32", tile=128), progress=None
    )
    assert found.images.shape == (1, 2, 400) and found.history[-1] > found.history[0]


def test_the_named_default_param_of_a_signal_is_the_default():
    spec = InputSpec((64,), (0.0,), (1.0,))
    assert as_param("fourier", 64, spec=spec) == as_param(None, 64, spec=spec)
    steeper = as_param("Fourier(decay=2.0)", 64, spec=spec)
    assert steeper.color == default_param(spec).color and steeper.spatial.decay == 2.0
    assert as_param("fourier", 64) == as_param(None, 64) == param.Image(64)


def test_a_render_of_a_signal_starts_at_the_given_one():
    net = fv.Network(nn.Sequential(nn.Conv1d(1, 4, 5)), size=(64,), mean=(0.0,), std=(1.0,))
    quiet = 0.5 + 0.01 * torch.rand(1, 64, generator=torch.Generator().manual_seed(0))
    for given in (None, "fourier", param.Fourier(), param.Pixel()):
        assert (fv.render(net, "0:1", start=quiet, steps=0, param=given).images[0] - quiet).abs().max() < 1e-3
