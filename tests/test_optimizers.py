import math

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz.interfaces import ParamTraits


@pytest.mark.parametrize("betas", [(0.5, 0.9), (0.9, 0.999), (0.0, 0.0)])
def test_adam_restated(betas):
    leaf = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    steps, lr, final_lr_ratio, anchor_decay = 5, 0.1, 0.2, 0.3
    b1, b2 = betas
    stepper = fv.optimizers.Adam(lr, final_lr_ratio, anchor_decay, betas).begin([leaf], steps)
    x, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(steps):
        (leaf**2).sum().backward()
        stepper.step()
        rate = lr * final_lr_ratio + (lr - lr * final_lr_ratio) * (1 + math.cos(math.pi * step / steps)) / 2
        for i in range(2):
            g = 2 * x[i]
            m[i], v[i] = b1 * m[i] + (1 - b1) * g, b2 * v[i] + (1 - b2) * g * g
            x[i] -= rate * (m[i] / (1 - b1 ** (step + 1))) / (math.sqrt(v[i] / (1 - b2 ** (step + 1))) + 1e-8)
            x[i] += anchor_decay * rate * ([1.0, -2.0][i] - x[i])
        assert leaf.tolist() == pytest.approx(x, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1e-20, 1e-30])
def test_adam_does_not_depend_on_the_scale_of_an_objective(net, scale):
    """Gradients below the epsilon of Adam would leave the image as it is."""
    plain, scaled = (
        fv.render(net, each, steps=40, param=fv.param.Image(32))
        for each in (fv.objectives.Channel("conv2", 3), scale * fv.objectives.Channel("conv2", 3))
    )
    assert (plain.images - plain.images.mean()).std() > 0.05
    assert scaled.history[-1] / scale == pytest.approx(plain.history[-1].item(), rel=0.1)
    assert torch.corrcoef(torch.stack([plain.images.flatten(), scaled.images.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize("scale", [1e-15, 1e-30, 1e25])
@pytest.mark.parametrize("optimizer", [fv.optimizers.Normalized(), fv.optimizers.LaplacianNormalized(3)], ids=str)
def test_normalised_gradients_do_not_depend_on_the_scale(optimizer, scale):
    gradient = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for each in (1.0, scale):
        leaf = torch.zeros_like(gradient)
        leaf.grad = each * gradient
        optimizer.begin([leaf], 4).step()
        found.append(leaf)
    assert found[0].square().mean().sqrt() == pytest.approx(1, rel=1e-4)
    assert torch.allclose(*found, atol=1e-4)


def leaves_with(*grads):
    leaves = [torch.zeros_like(grad).requires_grad_() for grad in grads]
    for leaf, grad in zip(leaves, grads, strict=True):
        leaf.grad = grad.clone()
    return leaves


def multiplied(leaves):
    fv.optimizers._TinyGradients(leaves).multiply()
    return [leaf.grad for leaf in leaves]


def test_tiny_gradients_of_an_image_are_multiplied_by_one_power_of_two():
    scales = torch.tensor([1.0, 1e-9, 1e-42, 0.0])
    first, second = multiplied(leaves_with(scales.view(4, 1, 1).expand(4, 2, 3), scales.view(4, 1).expand(4, 5)))
    assert torch.equal(first[:, 0, 0], second[:, 0])
    found = second[:, 0]
    assert found[0] == 1
    assert found[3] == 0
    assert 0.5e-3 < found[1] < 2e-3
    assert (found[1] / scales[1]).log2() % 1 == 0
    assert 1e-7 < found[2] < 2e-3  # 2^120 is the largest factor


@pytest.mark.parametrize(
    "grads",
    [
        [torch.full((3, 4), 1e-12), torch.full((1, 7), 1e-12)],  # of shared tensors
        [torch.tensor(1e-12)],
        [torch.full((2, 3), 1e-12), torch.zeros(2, 0)],
        [torch.full((2, 3), 1e-12, dtype=torch.float64)],
    ],
    ids=str,
)
def test_tiny_gradients_of_any_tensors(grads):
    for found in multiplied(leaves_with(*grads)):
        assert ((found.abs() > 0.3e-3) & (found.abs() < 3e-3)).all()


def test_usual_gradients_stay_as_they_are():
    grads = torch.randn(2, 3), torch.full((2, 4), 1e-5)
    for grad, found in zip(grads, multiplied(leaves_with(*grads)), strict=True):
        assert torch.equal(grad, found)


def test_an_image_that_gets_its_gradient_later_is_scaled_from_then_on():
    leaf = torch.zeros(2, 3, requires_grad=True)
    tiny = fv.optimizers._TinyGradients([leaf])
    for first in (0.0, 0.0, 1e-12):
        leaf.grad = torch.tensor([[1e-12] * 3, [first] * 3])
        tiny.multiply()
        assert (leaf.grad[1] == first).all() or torch.equal(*leaf.grad)
    assert torch.equal(*leaf.grad)
    leaf.grad = torch.full((2, 3), 1e-13)
    tiny.multiply()
    assert (leaf.grad > 1e-5).all()


def test_gradients_may_grow_far_beyond_the_first_one():
    leaf = torch.zeros(1, 4, requires_grad=True)
    stepper = fv.optimizers.Adam(0.1, anchor_decay=0).begin([leaf], 60)
    moved = []
    for step in range(60):
        leaf.grad = torch.full_like(leaf, 1e-30 if step < 5 else -1.0)
        before = leaf.detach().clone()
        stepper.step()
        moved.append((leaf - before).abs().max().item())
    assert min(moved[20:50]) > 1e-3


def test_a_tiny_objective_whose_gradient_starts_late_is_rendered(motifnet):
    scaled = 1e-9 * fv.objectives.Ramp(0, 1) * fv.objectives.Logit("spiral")
    assert fv.render(motifnet, scaled, steps=48, size=32).images.std() > 0.05


def test_anchor_decay_limits_the_contrast_of_long_renders(net):
    """Contrast levels off; the decay of a photograph leads to the photograph, not to grey."""
    from featviz import param

    def contrast(anchor_decay, steps):
        optimizer = fv.optimizers.Adam(anchor_decay=anchor_decay)
        return fv.render(net, "conv2:3", param=param.Image(32), steps=steps, optimizer=optimizer).images.std().item()

    assert contrast(1.0, 192) < 1.15 * contrast(1.0, 64)
    assert contrast(0.0, 192) > 1.3 * contrast(0.0, 64)
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    rendering = fv.render(
        net, "-l2", start=photo, steps=64, optimizer=fv.optimizers.Adam(1e-6, anchor_decay=1e4), transforms=()
    )
    assert (rendering.images[0] - photo).abs().max() < 0.01


def one_step(optimizer, scale=1.0):
    """Step once with two images whose gradients differ in length; return the change and the gradient."""
    leaf = torch.zeros(2, 3, requires_grad=True)
    gradient = scale * torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.1, 0.0]])
    unused = torch.zeros(2, 1, requires_grad=True)  # a leaf without a gradient
    stepper = optimizer.begin([leaf, unused], 1)
    (leaf * gradient).sum().backward()
    stepper.step()
    assert unused.tolist() == [[0], [0]]
    assert leaf.grad is None or not leaf.grad.any()
    return -leaf.detach(), gradient


def test_ascent_steps_along_the_gradient():
    moved, gradient = one_step(fv.optimizers.Ascent(0.5))
    assert torch.allclose(moved, 0.5 * gradient)


def test_normalized_steps_have_the_same_length_for_every_image():
    for scale in (1.0, 1e-6):
        moved, gradient = one_step(fv.optimizers.Normalized(fv.optimizers.Ascent(0.5)), scale)
        for i in range(2):
            length = math.sqrt(sum(g * g for g in gradient[i].tolist()) / 3)
            assert torch.allclose(moved[i], 0.5 * gradient[i] / length)


def test_clipped_steps_are_shortened_and_keep_their_direction():
    moved, gradient = one_step(fv.optimizers.Clipped(1.0, fv.optimizers.Ascent(0.5)))
    assert torch.allclose(moved[0], 0.5 * gradient[0] / math.sqrt(25 / 3))
    assert torch.allclose(moved[1], 0.5 * gradient[1])


@pytest.mark.parametrize(
    "optimizer",
    [
        fv.optimizers.Ascent(2.0),
        fv.optimizers.Normalized(fv.optimizers.Adam()),
        fv.optimizers.Clipped(0.5),
        fv.optimizers.Normalized(fv.optimizers.Clipped(0.5, fv.optimizers.Ascent())),
    ],
)
def test_every_optimizer_raises_the_score_and_can_be_replayed(optimizer, tmp_path):
    import toys

    net = toys.plain()
    rendering = fv.render(net, "conv2:1", optimizer=optimizer, transforms=(), steps=20)
    assert rendering.history[-1] > rendering.history[0]
    (path,) = rendering.save(tmp_path / "a.png")
    assert fv.replay(path, network=net).images.equal(rendering.images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.optimizers.Adam(lr=0), "lr must be > 0, got 0 (default 0.12)"),
        (lambda: fv.optimizers.Adam(final_lr_ratio=-3), "final_lr_ratio must be >= 0, got -3 (default 0.05)"),
        (
            lambda: fv.optimizers.Adam(anchor_decay=-1),
            "lr * anchor_decay must be in [0, 1), got 0.12 * -1 (defaults 0.12 * 0.1)",
        ),
        (
            lambda: fv.optimizers.Adam(0.5, anchor_decay=2),
            "lr * anchor_decay must be in [0, 1), got 0.5 * 2 (defaults 0.12 * 0.1)",
        ),
        (
            lambda: fv.optimizers.Adam(betas=(0.9, 1)),
            "betas must be two numbers in [0, 1), got (0.9, 1) (default (0.5, 0.9))",
        ),
        (
            lambda: fv.optimizers.Adam(betas=0.9),
            "betas must be two numbers in [0, 1), got 0.9 (default (0.5, 0.9))",
        ),
        (lambda: fv.optimizers.Ascent(0), "lr must be > 0, got 0 (default 1.0)"),
        (lambda: fv.optimizers.Clipped(0), "most must be > 0, got 0 (largest root mean square of a gradient)"),
        (lambda: fv.optimizers.Smoothed(0), "std of Smoothed must be > 0, got 0"),
        (lambda: fv.optimizers.LaplacianNormalized(0), "levels must be a whole number in [1, 32], got 0 (default 4)"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_the_gradient_of_all_leaves_of_an_image_is_scaled_as_one():
    leaves = [torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 2, 3, requires_grad=True)]
    stepper = fv.optimizers.Clipped(1.0).begin(leaves, 1)
    (10 * leaves[0].sum() + 0.1 * leaves[1].sum()).backward()
    stepper.step()
    length = math.sqrt((4 * 100 + 6 * 0.01) / 10)
    assert torch.allclose(leaves[0], torch.tensor(-10 / length))
    assert torch.allclose(leaves[1], torch.tensor(-0.1 / length))  # the direction is kept


def test_betas_may_be_numbers_of_numpy_and_a_list():
    adam = fv.optimizers.Adam(betas=[np.float32(0.5), np.float64(0.75)])
    assert adam == fv.optimizers.Adam(betas=(0.5, 0.75)) and repr(adam) == repr(fv.optimizers.Adam(betas=(0.5, 0.75)))


@pytest.mark.parametrize("side", [64, 65])
def test_equalised_gradients_stay_where_they_are(side):
    """A symmetric gradient stays so: halving sides that are odd does not shift the bands."""
    gradient = torch.zeros(1, 1, side, side)
    gradient[..., side // 2 - 4 : side - side // 2 + 4, side // 2 - 4 : side - side // 2 + 4] = 1.0
    found = fv.optimizers.LaplacianNormalized(4, fv.optimizers.Ascent(1.0))
    stepper = found.begin([leaf := torch.zeros(1, 1, side, side, requires_grad=True)], 1)
    leaf.grad = gradient.clone()
    stepper.step()
    moved = leaf.detach()
    for flipped in (moved.flip(2), moved.flip(3)):
        assert torch.allclose(moved, flipped, atol=1e-4)


@pytest.mark.parametrize("make", [lambda: fv.optimizers.Smoothed(1.0), lambda: fv.optimizers.LaplacianNormalized(2)])
def test_gradients_are_filtered_over_pixels_of_images_only(make):
    optimizer, net = make(), toys.plain()
    for spatial in (fv.param.Pixel(), fv.param.Pyramid(), fv.param.Shared(fv.param.Pixel())):
        fv.render(
            net, "conv2:1", param=fv.param.Alpha(fv.param.Image(16, spatial=spatial)), optimizer=optimizer, steps=1
        )
    for spatial in (fv.param.Fourier(), fv.param.Phase(), fv.param.CPPN(), fv.param.Shared()):
        refused(net, "conv2:1", spatial, optimizer, "16 x 16")
    signal = fv.Network(torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3)), size=(24,), mean=(0.0,), std=(1.0,))
    for spatial in (fv.param.Fourier(), fv.param.Pixel()):
        refused(signal, "0:1", spatial, optimizer, "24")


def refused(net, objective, spatial, optimizer, size):
    image = fv.param.Image(size=None if net.size == (24,) else 16, spatial=spatial)
    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, objective, param=image, optimizer=optimizer, steps=1)
    assert str(caught.value) == (
        f"{optimizer} needs images whose param optimises pixels, got {image} for {size} px; use "
        "param.Image(spatial=param.Pixel()), or declare ParamTraits(pixels=True) for a param of your own"
    )


@pytest.mark.parametrize("outer", [fv.optimizers.Normalized, lambda inner: fv.optimizers.Clipped(1.0, inner)])
def test_inner_optimizers_need_pixels_too(outer):
    with pytest.raises(fv.SettingError, match="needs images whose param optimises pixels"):
        fv.render(toys.plain(), "conv2:1", optimizer=outer(fv.optimizers.Smoothed(1.0)), steps=1)
    fv.render(toys.plain(), "conv2:1", param="pixel", optimizer=outer(fv.optimizers.Smoothed(1.0)), steps=1)


def test_a_param_of_the_user_declares_its_pixels():
    net, optimizer = toys.plain(), fv.optimizers.Smoothed(1.0)
    with pytest.raises(fv.SettingError, match="or declare ParamTraits\\(pixels=True\\)"):
        fv.render(net, "conv2:1", param=Canvas(), size=16, optimizer=optimizer, steps=1)
    fv.render(net, "conv2:1", param=PixelCanvas(), size=16, optimizer=optimizer, steps=1)


class Canvas:
    """A spatial part of a user."""

    def start(self, rng, channels, size):
        return [0.01 * rng.normal(channels, *size)]

    def fit(self, canvas):
        return [canvas]

    def canvas(self, leaves, size):
        return leaves[0]


class PixelCanvas(Canvas):
    traits = ParamTraits(pixels=True)


@pytest.mark.parametrize("optimizer", [fv.optimizers.Normalized(), fv.optimizers.Clipped(0.1)])
def test_gradients_of_any_shape_are_scaled(optimizer):
    leaves = [torch.zeros(2, requires_grad=True), torch.zeros((), requires_grad=True), torch.zeros(2, 3, 4)]
    leaves[0].grad, leaves[1].grad = torch.tensor([3.0, -4.0]), torch.tensor(5.0)
    optimizer.begin(leaves, 1).step()
    scale = 1.0 if isinstance(optimizer, fv.optimizers.Normalized) else 0.1
    assert torch.allclose(leaves[0], torch.tensor([-scale, scale]))
    assert leaves[1].item() == pytest.approx(-scale)


def test_gradients_without_rows_are_left_out():
    leaf = torch.zeros(0, 3, requires_grad=True)
    leaf.grad = torch.zeros(0, 3)
    fv.optimizers.Normalized().begin([leaf], 1).step()
    assert leaf.grad is None
