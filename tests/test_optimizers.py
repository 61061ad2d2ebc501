import math

import pytest
import torch

import featviz as fv


def test_adam_restated():
    leaf = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    steps, lr, final_lr_ratio, anchor_decay = 5, 0.1, 0.2, 0.3
    stepper = fv.optimizers.Adam(lr, final_lr_ratio, anchor_decay).begin([leaf], steps)
    x, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(steps):
        (leaf**2).sum().backward()
        stepper.step()
        rate = lr * final_lr_ratio + (lr - lr * final_lr_ratio) * (1 + math.cos(math.pi * step / steps)) / 2
        for i in range(2):
            g = 2 * x[i]
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            x[i] -= rate * (m[i] / (1 - 0.9 ** (step + 1))) / (math.sqrt(v[i] / (1 - 0.999 ** (step + 1))) + 1e-8)
            x[i] += anchor_decay * rate * ([1.0, -2.0][i] - x[i])
        assert leaf.tolist() == pytest.approx(x, rel=1e-9)


def test_a_rate_has_to_move():
    with pytest.raises(fv.SettingError, match=r"^learning rate 0 does not move; give one above 0, 0.05 is usual$"):
        fv.optimizers.Adam(lr=0)
    with pytest.raises(
        fv.SettingError, match=r"^a anchor_decay of -1 at a rate of 0.05 goes nowhere; give 0 or more, 0.1 is usual$"
    ):
        fv.optimizers.Adam(anchor_decay=-1)


def test_more_steps_do_not_make_a_picture_ever_harsher(net):
    """What is not asked for fades, so contrast levels off; a photograph is pulled back to itself, not to grey."""
    from featviz import param

    def harsh(anchor_decay, steps):
        optimizer = fv.optimizers.Adam(anchor_decay=anchor_decay)
        return fv.render(net, "conv2:3", param=param.Image(32), steps=steps, optimizer=optimizer).images.std().item()

    assert harsh(1.0, 192) < 1.15 * harsh(1.0, 64)
    assert harsh(0.0, 192) > 1.3 * harsh(0.0, 64)
    photo = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = fv.render(
        net, "-l2", start=photo, steps=64, optimizer=fv.optimizers.Adam(1e-6, anchor_decay=1e4), transforms=()
    )
    assert (kept.images[0] - photo).abs().max() < 0.01


def followed(optimizer, scale=1.0):
    """Two pictures with gradients of unlike length, moved once."""
    leaf = torch.zeros(2, 3, requires_grad=True)
    gradient = scale * torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.1, 0.0]])
    held = torch.zeros(2, 1, requires_grad=True)  # a leaf that no gradient reaches
    stepper = optimizer.begin([leaf, held], 1)
    (leaf * gradient).sum().backward()
    stepper.step()
    assert held.tolist() == [[0], [0]]
    assert leaf.grad is None or not leaf.grad.any()
    return -leaf.detach(), gradient


def test_ascent_goes_along_the_gradient():
    moved, gradient = followed(fv.optimizers.Ascent(0.5))
    assert torch.allclose(moved, 0.5 * gradient)


def test_normalized_steps_are_of_one_length_in_every_picture():
    for scale in (1.0, 1e-6):
        moved, gradient = followed(fv.optimizers.Normalized(fv.optimizers.Ascent(0.5)), scale)
        for i in range(2):
            length = math.sqrt(sum(g * g for g in gradient[i].tolist()) / 3)
            assert torch.allclose(moved[i], 0.5 * gradient[i] / length)


def test_clipped_steps_are_shortened_and_never_turned_or_lengthened():
    moved, gradient = followed(fv.optimizers.Clipped(1.0, fv.optimizers.Ascent(0.5)))
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
def test_every_optimizer_climbs_and_is_drawn_again(optimizer, tmp_path):
    import toys

    net = toys.plain()
    rendering = fv.render(net, "conv2:1", optimizer=optimizer, transforms=(), steps=20)
    assert rendering.history[-1] > rendering.history[0]
    (path,) = rendering.save(tmp_path / "a.png")
    assert fv.replay(path, network=net).images.equal(rendering.images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fv.optimizers.Ascent(0), "learning rate 0 does not move; give one above 0"),
        (lambda: fv.optimizers.Clipped(0), "gradients clipped at 0 do not move; give a bound above 0"),
    ],
)
def test_what_does_not_move(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_a_picture_of_several_leaves_has_one_length():
    leaves = [torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 2, 3, requires_grad=True)]
    stepper = fv.optimizers.Clipped(1.0).begin(leaves, 1)
    (10 * leaves[0].sum() + 0.1 * leaves[1].sum()).backward()
    stepper.step()
    length = math.sqrt((4 * 100 + 6 * 0.01) / 10)
    assert torch.allclose(leaves[0], torch.tensor(-10 / length))
    assert torch.allclose(leaves[1], torch.tensor(-0.1 / length))  # the direction stays
