import cmath
import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import param
from featviz.errors import SettingError
from featviz.param.cppn import WEIGHT_STEP_SCALE
from featviz.param.fourier import PHASE_STEP_SCALE
from featviz.param.prior import Prior, prior_path
from featviz.param.spectrum import canvas_std, frequencies, inverse_fft, natural_amplitudes, power_law
from featviz.random import Generators


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 4), (6, 5)])
def test_fourier_restated(size):
    h, w = size
    fourier = param.Fourier(decay=1.5, std=1.0)
    leaves = fourier.start(Generators([0]), 1, size)
    spectrum = torch.view_as_complex(leaves[0][0, 0])
    assert spectrum.shape == (h, w // 2 + 1)
    canvas = fourier.canvas(leaves, size)[0, 0]

    def frequency(k, n):
        return (k if k <= (n - 1) // 2 else k - n) / n

    full = {}
    for p in range(h):
        for q in range(w // 2 + 1):
            f = max(math.hypot(frequency(p, h), q / w), 1 / max(h, w))
            full[p, q] = spectrum[p, q].item() * 0.1 / f**1.5
    for p in range(h):  # a real canvas: the other half is conjugate to this one
        for q in range(w // 2 + 1, w):
            full[p, q] = full[-p % h, w - q].conjugate()
    # irfft uses only the Hermitian part of the columns that are conjugate to themselves
    for q in {0, w // 2} if w % 2 == 0 else {0}:
        column = {p: (full[p, q] + full[-p % h, q].conjugate()) / 2 for p in range(h)}
        full |= {(p, q): value for p, value in column.items()}
    for y in range(h):
        for x in range(w):
            value = sum(
                full[p, q] * cmath.exp(2j * math.pi * (p * y / h + q * x / w)) for p in range(h) for q in range(w)
            ) / math.sqrt(h * w)
            assert canvas[y, x].item() == pytest.approx(value.real, abs=1e-4)


def test_fourier_starts_with_the_standard_deviation_of_lucid():
    size = (224, 224)
    fourier = param.Fourier(decay=1.0)
    rgb = torch.logit(param.Image(224, spatial=fourier).images(fourier.start(Generators([0]), 3, size), size))
    assert 0.006 < rgb.std().item() < 0.024  # Lucid: 0.012


def test_the_leaves_of_pixel_are_the_canvas():
    leaves = param.Pixel().start(Generators([3]), 2, (4, 5))
    assert torch.equal(param.Pixel().canvas(leaves, (4, 5)), leaves[0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 24])
@pytest.mark.parametrize("size", [(1, 1), (7, 4), (8, 31)])
def test_params_work_at_any_size_and_number_of_channels(channels, size):
    for spatial in (param.Fourier(), param.Pixel()):
        image_param = param.Image(size, spatial=spatial)
        images = image_param.images(image_param.start(Generators([0, 1]), channels, size), size)
        assert images.shape == (2, channels, *size)
        assert images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: param.Image(0), "size must be at least 1 px on each side, got 0 x 0"),
        (lambda: param.Image(batch=0), "batch must be a whole number in [1, 65536], got 0"),
    ],
)
def test_wrong_size_and_batch_are_refused(make, message):
    with pytest.raises(SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_phase_keeps_the_amplitudes():
    size = (16, 20)
    phase = param.Phase()
    leaves = phase.start(Generators([0, 1]), 3, size)
    for step in range(2):  # for any phases
        canvas = phase.canvas([leaves[0] + 0.3 * step * torch.randn(leaves[0].shape), leaves[1]], size)
        amplitude = torch.fft.rfft2(canvas, norm="ortho").abs()
        assert torch.allclose(amplitude, leaves[1], rtol=1e-3, atol=1e-5)
        assert torch.allclose(canvas.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)


def test_phase_starts_with_uniform_phases_and_without_a_spike_or_a_color_cast():
    """The published versions of MACO have a spike of 50 to 100 standard deviations at pixel (0, 0)."""
    size = (128, 128)
    image_param = param.Image(size, spatial=param.Phase())
    leaves = image_param.start(Generators(range(4)), 3, size)
    angles = leaves[0] * PHASE_STEP_SCALE
    assert -math.pi <= angles.min() < -3.1 and 3.1 < angles.max() <= math.pi
    assert angles.var().item() == pytest.approx(math.pi**2 / 3, rel=0.01)
    canvas = param.Phase().canvas(leaves, size)
    assert ((canvas - canvas.mean()) / canvas.std()).abs()[..., 0, 0].max() < 4
    images = image_param.images(leaves, size)
    assert (images.mean((2, 3)) - 0.5).abs().max() < 0.02
    assert 0.17 < images.std().item() < 0.25  # photographs: .21


def test_no_gradient_reaches_the_amplitudes_of_phase():
    leaves = [leaf.requires_grad_() for leaf in param.Phase().start(Generators([0]), 3, (8, 8))]
    param.Phase().canvas(leaves, (8, 8)).square().sum().backward()
    assert leaves[0].grad is not None and leaves[1].grad is None


def test_natural_amplitudes_follow_the_published_power_law_with_unit_standard_deviation():
    size = (96, 128)
    amplitude = natural_amplitudes(size, torch.device("cpu"))
    frequency = frequencies(size, torch.device("cpu"))
    assert amplitude[0, 0] == 0
    assert (amplitude[3, 5] / amplitude[30, 50]).item() == pytest.approx(
        (frequency[30, 50] / frequency[3, 5]).item() ** 1.2, rel=1e-4
    )
    noise = Generators([0]).normal(8, 96, 65, 2) * 0.5**0.5
    assert inverse_fft(noise * amplitude[..., None], size).std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (4, 5), (1, 6), (6, 1), (3, 2)])
def test_the_inverse_fft_is_a_sum_of_waves_and_so_is_its_gradient(size):
    height, width = size
    half = width // 2 + 1
    spectrum = torch.randn(1, 1, height, half, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum.requires_grad_()
    rows, columns = torch.arange(height).double()[:, None], torch.arange(width).double()
    expected = torch.zeros(size, dtype=torch.float64)
    for v in range(height):
        for u in range(half):
            angle = 2 * math.pi * (v * rows / height + u * columns / width)
            real, imaginary = spectrum[0, 0, v, u]
            wave = real * angle.cos() - imaginary * angle.sin()
            expected = expected + wave * (1 if u in (0, width / 2) else 2) / (height * width) ** 0.5
    canvas = inverse_fft(spectrum, size)
    torch.testing.assert_close(canvas[0, 0], expected)
    weight = torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, slow = (torch.autograd.grad((each * weight).sum(), spectrum)[0] for each in (canvas, expected))
    torch.testing.assert_close(found, slow)


def test_pyramid_restated():
    pyramid = param.Pyramid(3)
    leaves = pyramid.start(Generators([0]), 2, (9, 14))
    assert [tuple(leaf.shape[2:]) for leaf in leaves] == [(9, 14), (5, 7), (3, 4)]

    def enlarge(image, size):
        out = torch.empty(image.shape[0], image.shape[1], *size)
        h, w = image.shape[2:]
        for y in range(size[0]):
            for x in range(size[1]):
                v = min(max((y + 0.5) * h / size[0] - 0.5, 0), h - 1)
                u = min(max((x + 0.5) * w / size[1] - 0.5, 0), w - 1)
                a, b = int(v), int(u)
                c, d = min(a + 1, h - 1), min(b + 1, w - 1)
                top = image[..., a, b] * (1 - (u - b)) + image[..., a, d] * (u - b)
                low = image[..., c, b] * (1 - (u - b)) + image[..., c, d] * (u - b)
                out[..., y, x] = top * (1 - (v - a)) + low * (v - a)
        return out

    wanted = leaves[0] + enlarge(leaves[1] + enlarge(leaves[2], (5, 7)), (9, 14))
    assert torch.allclose(pyramid.canvas(leaves, (9, 14)), wanted, atol=1e-6)


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


def test_cppn_restated_at_two_sizes():
    cppn = param.CPPN(width=3, depth=2)
    leaves = cppn.start(Generators([0]), 3, (4, 6))
    leaves = [leaf + 0.5 * torch.randn(leaf.shape, generator=torch.Generator().manual_seed(1)) for leaf in leaves]
    canvas = cppn.canvas(leaves, (4, 6))[0]
    for y in range(4):
        for x in range(6):
            inputs = [2 * math.sqrt(3) / 4 * (y + 0.5 - 2), 2 * math.sqrt(3) / 4 * (x + 0.5 - 3)]
            for weight, bias in zip(leaves[:-2:2], leaves[1:-2:2], strict=True):
                units = [
                    WEIGHT_STEP_SCALE
                    * (bias[0, 0, j] + sum(inputs[i] * weight[0, i, j] for i in range(len(inputs)))).item()
                    for j in range(3)
                ]
                bent = [math.atan(unit) for unit in units]
                inputs = [b / 0.67 for b in bent] + [(b * b - 0.45) / 0.396 for b in bent]
            for c in range(3):
                wanted = (
                    WEIGHT_STEP_SCALE
                    * (leaves[-1][0, 0, c] + sum(inputs[i] * leaves[-2][0, i, c] for i in range(6))).item()
                )
                assert canvas[c, y, x].item() == pytest.approx(wanted, abs=1e-5)
    large = cppn.canvas(leaves, (12, 18))[0]
    assert torch.allclose(large[:, 1::3, 1::3], canvas, atol=1e-5)  # every third pixel has the same center


def test_images_of_a_periodic_cppn_can_be_tiled():
    leaves = param.CPPN(periodic=True).start(Generators([0]), 1, (8, 8))
    leaves = [
        leaf + torch.randn(leaf.shape, generator=torch.Generator().manual_seed(i)) for i, leaf in enumerate(leaves)
    ]
    fine = param.CPPN(periodic=True).canvas(leaves, (200, 200))[0, 0]
    for axis in (0, 1):
        seam = (fine.roll(1, axis) - fine).abs().select(axis, 0).max()
        assert seam <= (fine.diff(dim=axis)).abs().max() * 1.01
    last = torch.randn(1, 48, 1, generator=torch.Generator().manual_seed(0))
    leaves = [*param.CPPN().start(Generators([0]), 1, (8, 8))[:-2], last, torch.zeros(1, 1, 1)]
    plain = param.CPPN().canvas(leaves, (200, 200))[0, 0]
    assert (plain.roll(1, 0) - plain).abs()[0].max() > 3 * plain.diff(dim=0).abs().max()  # the check can fail


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
    with pytest.raises(
        SettingError, match=r"^prior must be the path of a file, got a Prior; save it first: prior.save\(path\)$"
    ):
        prior_path(Prior.load(path))


def test_opacity_is_the_mean_of_the_last_channel_for_any_number_of_channels():
    net = toys.network(toys.Plain(1), mean=(0.5,), std=(0.5,))
    rendering = fv.render(net, "conv2:1 - opacity", param=param.Alpha(), steps=4)
    assert rendering.images.shape == (1, 2, 32, 32)
    four = toys.network(toys.Plain(4), mean=(0.5,) * 4, std=(0.5,) * 4)
    with pytest.raises(SettingError, match=r"^the image has no alpha channel"):
        fv.render(four, "conv2:1 - opacity", steps=1)


def test_the_recipe_stores_the_size_of_an_image_that_is_drawn_again(tmp_path):
    net = toys.plain()
    spatial = param.CPPN(4, 2)
    rendering = fv.render(net, ["conv2:1", "conv2:2"], param=spatial, transforms=(), steps=4).at((50, 70))
    assert rendering.images.shape == (2, 3, 50, 70)
    (path,) = rendering[1].save(tmp_path / "a.png")
    again = fv.replay(path, network=net)
    assert again.images.equal(rendering.images[1:])
    with pytest.raises(SettingError, match=r"^these images have a fixed size; render with param.CPPN\(\)"):
        fv.render(net, "conv2:1", steps=1).at(20)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_prior_recovers_mean_correlation_and_spectrum(channels, tmp_path):
    """Fit a prior to images of known mean, correlation and spectrum."""
    size, decay = (128, 128), 1.5
    rng = Generators(range(12))
    axes = torch.linalg.qr(torch.randn(channels, channels, generator=torch.Generator().manual_seed(0)))[0]
    axes = axes * torch.linspace(1, 0.3, channels)
    amplitude = power_law(size, decay, torch.device("cpu"))
    amplitude[0, 0] = 0
    amplitude = amplitude / canvas_std(amplitude, size)
    canvas = inverse_fft(rng.normal(channels, 128, 65, 2) * 0.5**0.5 * amplitude[..., None], size)
    mean = torch.linspace(-0.5, 0.5, channels)
    images = (torch.einsum("ij,njhw->nihw", axes, canvas) + mean.view(-1, 1, 1)).sigmoid()
    for i, image in enumerate(images):
        np.save(tmp_path / f"{i}.npy", image.numpy())
    prior = fv.fit_prior(tmp_path, channels=channels, size=128)
    assert prior.mean == pytest.approx(mean.tolist(), abs=0.05)
    found = torch.tensor(prior.correlation)
    assert torch.allclose(found @ found.T, axes @ axes.T, atol=0.12)
    known, amplitudes = torch.tensor(prior.frequencies).log(), torch.tensor(prior.amplitudes).log()
    slope = (amplitudes[:, -6] - amplitudes[:, 8]) / (known[-6] - known[8])
    assert slope.tolist() == pytest.approx([-decay] * channels, abs=0.12)
    path = prior.save(tmp_path / "prior.json")
    assert Prior.load(path) == prior
    phase = param.Image((30, 44), spatial=param.Phase(str(path)))
    initial = phase.images(phase.start(Generators([0]), channels, (30, 44)), (30, 44))
    assert initial.logit().mean((0, 2, 3)).tolist() == pytest.approx(mean.tolist(), abs=0.15)
    net = toys.network(toys.Plain(channels), mean=(0.5,) * channels, std=(0.2,) * channels)
    rendering = fv.render(net, "conv2:1", param=param.Fourier(prior=str(path)), transforms=(), steps=20)
    assert rendering.history[-1] > rendering.history[0]
    (saved,) = rendering.save(tmp_path / "a.png")
    assert fv.replay(saved, network=net).images.equal(rendering.images)
    fv.fit_prior(images[:5], channels=channels, size=64).save(path)
    with pytest.raises(fv.RecipeError, match=r"prior.json, which is missing or has changed; restore the file"):
        fv.replay(saved, network=net)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.fit_prior("nowhere"), "no folder nowhere; give a folder of images"),
        (lambda: fv.fit_prior("."), "no images in .; it needs files that end in .png, .jpg, .jpeg"),
        (
            lambda: fv.fit_prior([torch.rand(3, 8, 8)]),
            "a prior needs at least 2 images, got 1; 100 or more are recommended",
        ),
        (
            lambda: fv.fit_prior([torch.rand(1, 8, 8)]),
            "images must have shape (3, h, w), got (1, 8, 8); give channels= to read others",
        ),
        (lambda: fv.fit_prior([], size=7), "size must be a whole number in [8, 4096], got 7 (default 224)"),
        (lambda: Prior.load("none.json"), "no file none.json; create it with: featviz fit-prior FOLDER -o none.json"),
        (lambda: param.CPPN(0), "width of CPPN must be a whole number in [1, 4096], got 0 (default 24)"),
        (lambda: param.Fourier(std=-1), "std of Fourier must be >= 0, got -1 (default 0.025)"),
        (lambda: param.Pixel(-1), "std of Pixel must be >= 0, got -1 (default 0.01)"),
        (lambda: param.Pyramid(std=-1), "std of Pyramid must be >= 0, got -1 (default 0.01)"),
        (
            lambda: param.Shared(std=float("nan")),
            "std of Shared must be a finite number >= 0, got nan (default 0.01)",
        ),
        (lambda: param.Pyramid(0), "levels of Pyramid must be a whole number in [1, 32], got 0 (default 4)"),
        (lambda: param.Shared(factors=()), "factors must be one or more integers >= 1, got () (default (2, 4, 8))"),
        (
            lambda: param.Stack(()),
            "fixed must hold at least one image, got (); without any, use param.Image(batch=...)",
        ),
        (
            lambda: fv.render(toys.plain(), "conv2:1", param=param.Masked(torch.ones(4, 4))),
            "Masked keeps an image outside of its mask and needs one to start from; use start=, or --start",
        ),
        (
            lambda: fv.render(toys.plain(), "diversity(conv2)"),
            "diversity(conv2) compares images of a batch, and there is one; use batch=4, or --batch 4",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(fv.FeatvizError) as caught:
        make()
    assert str(caught.value).startswith(message)


NO_NUMBERS = (
    '{"kind": "featviz prior 1", "mean": %s, "correlation": [[1]], "frequencies": [0.1, 0.2], "amplitudes": [[1, 2]]}'
)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"kind": "featviz prior 1"}', '{"kind": "x"}', "\x00", NO_NUMBERS % '["a"]', NO_NUMBERS % "[NaN]",
        NO_NUMBERS % "[Infinity]",
    ],
)  # fmt: skip
def test_other_files_are_not_read_as_priors(text, tmp_path):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(fv.OutputError, match=r"p.json is not a prior; create one with: featviz fit-prior FOLDER$"):
        Prior.load(tmp_path / "p.json")


class Own:
    """A param of a user that sets its own size."""

    size, batch = (24, 24), 2

    def start(self, rng, channels, size):
        return [torch.zeros(len(rng), channels, *size, requires_grad=True)]

    def fit(self, images):
        return [images.clone().requires_grad_()]

    def images(self, leaves, size):
        return leaves[0].sigmoid()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 32}, "Own has its own size, (24, 24); leave out size=(32, 32)"),
        ({"batch": 3}, "Own has its own batch, 2; leave out batch=3"),
    ],
)
def test_a_size_that_a_param_ignores_is_refused(given, message):
    net = toys.plain()
    assert fv.render(net, "conv2:1", param=Own(), steps=1).images.shape == (2, 3, 24, 24)
    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, "conv2:1", param=Own(), steps=1, **given)
    assert str(caught.value) == message
