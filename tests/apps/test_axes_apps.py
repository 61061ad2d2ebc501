"""Apps on networks of signals and volumes: attribution, examples, galleries, sweeps and dreams."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import featviz as fv
from featviz.apps.dream.settings import DreamSettings
from featviz.apps.explain.drawing import draw
from featviz.apps.explain.methods.gradients import mean_color
from featviz.apps.shared.arguments.inputs import read_input
from featviz.errors import SettingError
from featviz.io import fit_size, read_data
from featviz.io.volumes import PANEL_SIDE
from featviz.network import InputSpec

SIZES = {1: (48,), 3: (6, 8, 10)}
CLASSES = ("a", "b", "c")
METHODS = (
    "gradient", "inputxgradient", "guidedbackprop", "deconvnet", "IntegratedGradients('mean', 8)",
    "NoiseTunnel(samples=2, shift=2)", "cam", "gradcam", "gradcam++", "hirescam",
    "layercam", "scorecam", "guidedgradcam", "FeatureAblation(6)", "LRP('epsilon')", "LRP('zplus')", "LRP('cp_lrp')",
    "clear", "classattention", "smoothed",
)  # fmt: skip
ON_IMAGES = "blocks, dream, evidence, examples, explain, gallery, render, replay or sweep"


def network(axes: int, rows: bool = False) -> fv.Network:
    """A small classifier of one-channel signals or volumes; with `rows`, the same of images of one row."""
    torch.manual_seed(axes)
    conv, norm, pool = (
        (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d), None, (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d),
    )[axes - 1]  # fmt: skip
    layers = [conv(1, 6, 3, 1, 1), norm(6), nn.ReLU(), conv(6, 8, 3, 2, 1), nn.ReLU(), pool(1), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(8, 3)).eval()
    spec = {"mean": (0.0,), "std": (1.0,)}
    if rows:
        flat = [
            nn.Conv2d(1, 6, (1, 3), 1, (0, 1)),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, (1, 3), (1, 2), (0, 1)),
        ]
        flat += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)]
        twin = nn.Sequential(*flat).eval()
        twin.load_state_dict(
            {key: value[:, :, None] if value.ndim == 3 else value for key, value in module.state_dict().items()}
        )
        return fv.Network(twin, size=(1, 48), **spec, value_range=(-4, 4), classes=CLASSES)
    return fv.Network(module, size=SIZES[axes], **spec, classes=CLASSES)


# ---------------------------------------------------------------------------------------------- attribution


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_signals_are_those_of_images_of_one_row(method):
    signals, images = network(1), network(1, rows=True)
    x = torch.rand(2, 1, 48, generator=torch.Generator().manual_seed(0))
    if "shift" in method or method == "smoothed":  # which move or blur rows, too
        assert fv.explain(signals, x, "logit:1", method).map.shape == (2, 48)
        return
    found, expected = (
        fv.explain(net, each, "logit:1", method) for net, each in ((signals, x), (images, x[:, :, None]))
    )
    assert found.map.shape == (2, 48)
    assert torch.allclose(found.map, expected.map[:, 0], atol=1e-5), method


@pytest.mark.filterwarnings("ignore::featviz.FeatvizWarning")
@pytest.mark.parametrize("method", [*METHODS, "occlusion", "RISE(samples=4)", "IntegratedGradients('blur', 4)"])
def test_every_method_explains_volumes(method):
    found = fv.explain(network(3), torch.rand(1, 1, *SIZES[3]), 1, method)
    assert found.map.shape == (1, *SIZES[3]) and found.map.isfinite().all()


@pytest.mark.parametrize("axes", [1, 3])
def test_gradcam_is_the_formula_at_each_position(axes):
    net, x = network(axes), torch.rand(1, 1, *SIZES[axes])
    maps = net.module[:5](net.normaliser()(x)).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net.module[5:](maps)[0, 2], maps)
    found = fv.explain(net, x, 2, "gradcam", layer="4").map
    coarse = torch.zeros(maps.shape[2:])
    for place in np.ndindex(*maps.shape[2:]):
        total = sum(gradient[0, k].mean() * maps[(0, k, *place)] for k in range(8))
        coarse[place] = max(0.0, total.item())
    mode = {1: "linear", 3: "trilinear"}[axes]
    expected = torch.nn.functional.interpolate(coarse[None, None], SIZES[axes], mode=mode, align_corners=False)[0]
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("axes", [1, 3])
def test_methods_that_need_patches_say_so(axes):
    net = network(axes)
    for method in ("attention", "rollout", "gradientrollout"):
        with pytest.raises(SettingError, match="attention maps lie on the patch grid of an image; use e.g. GradCAM"):
            fv.explain(net, torch.rand(1, 1, *SIZES[axes]), 1, method)


def test_baselines_are_values_of_the_data():
    net = fv.Network(network(1).module, size=(48,), mean=(1.0,), std=(2.0,), value_range=(-3, 5))
    assert mean_color(net, torch.zeros(1, 1, 48)).flatten().tolist() == [0.5]  # 1 of -3 to 5
    found = fv.explain(net, net.input.images(torch.zeros(1, 1, 48)), "logit:1", "IntegratedGradients('zero', 4)")
    assert found.map.abs().max() == 0  # the baseline is the signal of zeros itself


def test_attributions_are_saved_as_numbers_and_pictures(tmp_path):
    for axes in (1, 3):
        net = network(axes)
        found = fv.explain(net, torch.rand(2, 1, *SIZES[axes]), [0, 1], "gradient")
        found.save(tmp_path / "map.npy")
        assert np.array_equal(np.load(tmp_path / "map.npy"), found.map.numpy())
        assert (
            json.loads((tmp_path / "map.npy.json").read_text())["explained"][0][0]["method"]
            == "Gradient(absolute=True)"
        )
        assert found.save(tmp_path / "map.png").stat().st_size > 1000
        with pytest.raises(SettingError, match="signals and volumes have no overlay"):
            found.overlay()
        compared = fv.compare(net, torch.rand(1, *SIZES[axes]), [0, 1], ["gradient", "attention"], progress=None)
        assert "patch grid" in compared.problems["attention of logit:0"] and compared.sheet().ndim == 3
    assert repr(found) == "<gradient of logit:0, logit:1: 2 x 6x8x10 px>"


def test_lines_have_the_colour_of_their_contribution():
    strength = torch.zeros(60)
    strength[:20], strength[40:] = 1, -1
    pytest.importorskip("matplotlib")
    drawn = draw(torch.full((2, 60), 0.5), strength, "x", width=240).astype(float)
    assert drawn.shape == (120, 240, 3)
    red, none, blue = drawn[:, 10:70], drawn[:, 100:140], drawn[:, 180:230]
    assert red[..., 0].mean() > red[..., 2].mean() + 40 and blue[..., 2].mean() > blue[..., 0].mean() + 40
    assert np.ptp(none.mean((0, 1))) < 1


def test_volumes_show_their_middle_slices_and_clips_their_frames():
    image, strength = torch.rand(1, 4, 8, 16), torch.zeros(4, 8, 16)
    strength[2, 4, 8] = 1
    drawn, zoom = draw(image, strength, "zyx"), PANEL_SIDE // 16
    assert drawn.shape == (8 * zoom, 2 * 16 * zoom + 8 * zoom + 12, 3)
    corner = drawn[4 * zoom, 8 * zoom]
    assert corner[0] > corner[2] + 80
    clip = draw(image, strength, "tyx")
    assert clip.shape == (8 * zoom, 4 * 16 * zoom + 3 * 4, 3)
    third = clip[4 * zoom, 2 * (16 * zoom + 4) + 8 * zoom]
    assert third[0] > third[2] + 80


# ---------------------------------------------------------------------------------------------- files


def test_files_hold_values_in_the_range_of_the_data(tmp_path):
    net, values = network(1), np.linspace(-3, 3, 48, dtype="float32")
    np.save(tmp_path / "a.npy", values)
    found = fv.explain(net, tmp_path / "a.npy", 0, "gradient")
    assert torch.allclose(net.input.values(found.images)[0, 0], torch.from_numpy(values), atol=1e-5)
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "a.wav", values / 4, 8000, subtype="FLOAT")
    assert torch.allclose(read_data(tmp_path / "a.wav", 1, "x")[0, 0], torch.from_numpy(values / 4))
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).normal(size=SIZES[3]).astype("float32")
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii.gz")
    assert torch.allclose(read_data(tmp_path / "a.nii.gz", 1, "zyx")[0, 0], torch.from_numpy(volume))


@pytest.mark.parametrize(("length", "wanted"), [(7, 4), (8, 4), (4, 4), (3, 6), (5, 8)])
def test_signals_are_cropped_to_their_centre_and_padded(length, wanted):
    values = torch.arange(1.0, length + 1)[None]
    found = fit_size(values, (wanted,), torch.tensor([9.0]))[0].tolist()
    start = (length - wanted) // 2 if length > wanted else -((wanted - length) // 2)
    assert found == [values[0, i].item() if 0 <= i < length else 9.0 for i in range(start, start + wanted)]


def test_each_axis_of_a_volume_is_fitted():
    spec = InputSpec((4, 4, 4), (0.0,), (1.0,))
    found = fit_size(torch.ones(1, 2, 6, 4), spec.size, torch.tensor([0.0]))
    assert found.shape == (1, 4, 4, 4) and found.sum() == 2 * 4 * 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda folder: torch.randn(1, 48), r"give floating-point numbers in \[0, 1\]; values from -4 to 4 become such "
         r"by network.input.images\(values\)$"),
        (lambda folder: "x.png", "^no file x.png; check the path$"),
        (lambda folder: 3, "^an input of Sequential must be a file that ends in .npy, .wav, .flac, or numbers of"),
        (lambda folder: [], "^there is no input in the list"),
        (lambda folder: folder / "short.npy", r"must have shape \(1, length\), got \(2, 3, 4\)$"),
        (lambda folder: folder / "nan.npy", "has values that are NaN or infinite; replace them first$"),
        (lambda folder: folder / "text.npy", "must hold numbers, got <U1$"),
        (lambda folder: folder / "loud.npy", "100% of the values of .*loud.npy are outside of the network's range"),
        (lambda folder: folder / "several.npy", "holds 2 inputs; save each in a file of its own$"),
        (lambda folder: folder / "broken.npy", "as an array; was it copied completely.$"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_refused_in_one_line(given, message, tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((2, 3, 4), "float32"))
    np.save(tmp_path / "nan.npy", np.full(48, np.nan, "float32"))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "loud.npy", np.full(48, 1000.0, "float32"))
    np.save(tmp_path / "several.npy", np.zeros((2, 1, 48), "float32"))
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(fv.FeatvizError, match=message) as caught:
        fv.explain(network(1), given(tmp_path), 0)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------- pages


@pytest.fixture
def folder(tmp_path):
    """Signals and volumes with one peak each, in folders that are named after classes."""
    for axes in (1, 3):
        for i in range(6):
            values = np.zeros(SIZES[axes], "float32")
            values[tuple(1 + (i * 3) % (side - 2) for side in SIZES[axes])] = 3
            file = tmp_path / f"data{axes}" / CLASSES[i % 2] / f"{i}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, values)
        (tmp_path / f"data{axes}" / "broken.npy").write_bytes(b"no")
    return tmp_path


@pytest.mark.parametrize("axes", [1, 3])
def test_examples_show_where_a_peak_excites_a_unit(axes, folder):
    conv = (nn.Conv1d, None, nn.Conv3d)[axes - 1](1, 1, 3, padding=1, bias=False)
    conv.weight.data.fill_(0)
    conv.weight.data[(0, 0, *[1] * axes)] = 1
    net = fv.Network(nn.Sequential(conv), size=SIZES[axes], mean=(0.0,), std=(1.0,))
    found = fv.examples(net, folder / f"data{axes}", "0", [0], progress=None)
    assert list(found.scan.skipped) == ["broken.npy"]
    for place, example in zip(found.places(0), found.of(0, gradients=True), strict=True):
        peak = np.argwhere(np.load(place.file) == 3)[0]
        edges = zip(peak, place.box[::2], place.box[1::2], strict=True)
        assert place.activation == pytest.approx(3, abs=1e-4) and all(low <= at < end for at, low, end in edges)
        assert example.crop.shape == example.gradient.shape == (1, *[1] * axes)  # the other weights are 0
    assert found.sheet().ndim == 3
    rendering = fv.render(net, found.objectives, steps=1, progress=None)
    assert found.save(folder / "a.png", rendering).stat().st_size > 100


@pytest.mark.filterwarnings("ignore:skipped 1 file")
@pytest.mark.parametrize("axes", [1, 3])
def test_galleries_and_sweeps_have_pictures_of_signals_and_volumes(axes, folder):
    net, data = network(axes), folder / f"data{axes}"
    pages = fv.gallery(net, folder / "gallery", photographs=data, steps=1, pairs=[("a", "b")], progress=None)
    assert not pages.problems and len(list((folder / "gallery/images").iterdir())) == 8
    assert 'class="wide"' in (folder / "gallery/index.html").read_text()
    assert len(list((folder / "gallery/photographs").iterdir())) == 6
    recipe = fv.Recipe.of(next((folder / "gallery/images").iterdir()))
    assert recipe.size == SIZES[axes]
    done = []
    fv.gallery(net, folder / "gallery", steps=1, pairs=[("a", "b")], progress=lambda *count: done.append(count))
    assert not done
    pages = fv.sweep(
        net, folder / "sweep", "3", channels=[0, 2], steps=1, photographs=data, progress=None, scan_progress=None
    )
    assert not pages.problems and pages.count == 2
    with pytest.raises(SettingError) as caught:
        fv.gallery(net, folder / "judged", judge=net)
    assert (
        str(caught.value)
        == f"judges see images, and Sequential reads inputs of size {SIZES[axes]}; leave out --judge (judge= in Python)"
    )
    assert not (folder / "judged").exists()


@pytest.mark.parametrize("axes", [1, 3])
def test_dreams_keep_their_size_and_are_replayed(axes, folder):
    net = network(axes)
    file = next((folder / f"data{axes}/a").iterdir())
    found = fv.dream(net, file, "3:1", steps=2, progress=None)
    assert found.images.shape == (1, 1, *SIZES[axes]) and not torch.allclose(
        found.images[0], read_input(file, net.input)
    )
    (saved,) = found.save(folder / "dream.npy")
    assert torch.equal(fv.replay(saved, network=net, progress=None).images, found.images)
    for name, value in (("keep_color", True), ("guide", file), ("mask", file), ("smooth", 1.0), ("laplacian", 2)):
        with pytest.raises(SettingError) as caught:
            fv.dream(net, file, "3", **{name: value})
        option = f"--{name.replace('_', '-')} ({name}= in Python)"
        what = f"{option} is about images, and Sequential reads inputs of size {SIZES[axes]}; leave it out"
        assert str(caught.value) == what


@pytest.mark.parametrize(
    ("size", "axes", "sizes"),
    [
        ((400,), "x", [(100,), (200,), (400,)]),
        ((100, 400), "yx", [(50, 200), (100, 400)]),
        ((40, 32, 64), "zyx", [(20, 16, 32), (40, 32, 64)]),
        ((8, 64, 64), "tyx", [(8, 16, 16), (8, 32, 32), (8, 64, 64)]),
    ],
)
def test_octaves_scale_every_axis_but_time_beside_space(size, axes, sizes):
    assert DreamSettings(octaves=4, scale=2).sizes(size, axes)[-3:] == sizes


def test_functions_on_images_refuse_signals_and_volumes_in_one_line(folder):
    data, output = folder / "data1", folder / "out"
    for axes in (1, 3):
        net = network(axes)
        calls = {
            "accentuate": lambda net=net: fv.accentuate(net, "a.png", "3:1"),
            "atlas": lambda net=net: fv.atlas(net, data, ["3"], output),
            "attention": lambda net=net: fv.attention(net, "a.png"),
            "circuit": lambda net=net: fv.circuit(net, "3:1", output),
            "diff": lambda net=net: fv.diff(net, net, data, output),
            "doctor": lambda net=net: fv.doctor(net),
            "explore": lambda net=net: fv.explore(net),
            "fit_dictionary": lambda net=net: fv.fit_dictionary(net, data, "3"),
            "judge": lambda net=net: fv.judge("a.png", judge=net),
            "unit": lambda net=net: fv.unit(net, "3:1", data),
        }
        for function, call in calls.items():
            name = function.removeprefix("fit_")  # as on the command line
            with pytest.raises(SettingError) as caught:
                call()
            assert str(caught.value) == (
                f"Sequential reads inputs of size {SIZES[axes]}, and {name} works on images, which have height and "
                f"width; use {ON_IMAGES}"
            )
    assert not output.exists()
