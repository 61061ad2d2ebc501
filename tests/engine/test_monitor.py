"""The monitor: when gradients are redirected and checked, and what happens to images that fail."""

import warnings

import pytest
import torch
import toys

import featviz as fv
from featviz.engine.monitor import (
    CHECK_STEPS,
    DEAD,
    FINITE_EVERY,
    NOT_FINITE_AT_START,
    REDIRECT_STEPS,
    Gradients,
    Monitor,
    _rises,
)

NAN = float("nan")


def flags(*values):
    return torch.tensor(values, dtype=torch.bool)


def new_monitor(count=1, steps=200, uses_network=True, zero_steps=0):
    names = tuple(f"image {i}" for i in range(count))
    return Monitor(names, steps, [uses_network] * count, zero_steps)


def run(monitor, steps, scores, reached=None, rise=0.0):
    """Record steps with these scores. `reached` tells which images and views get a gradient, where it is wanted."""
    for _ in range(steps):
        now = torch.tensor(scores) + rise * monitor.steps
        monitor.record(now, reached if monitor.wants_gradients else None)


def wanted_steps(monitor, steps, reached):
    """Return the steps, from 1, at which the monitor wants gradients."""
    wanted = []
    for step in range(1, steps + 1):
        if monitor.wants_gradients:
            wanted.append(step)
        run(monitor, 1, [float(step)], reached)
    return wanted


DEAD_GRADIENTS = Gradients(flags(False), flags(False))
ALIVE_GRADIENTS = Gradients(flags(True), flags(True))


def test_gradients_are_wanted_at_the_first_step_and_after_the_redirected_ones():
    schedule = [1, *(REDIRECT_STEPS + step for step in CHECK_STEPS)]
    assert wanted_steps(new_monitor(), REDIRECT_STEPS + CHECK_STEPS[-1] - 1, DEAD_GRADIENTS) == schedule[:-1]


def test_gradients_are_no_longer_wanted_once_all_images_are_alive():
    assert wanted_steps(new_monitor(), 100, ALIVE_GRADIENTS) == [1]
    monitor = new_monitor(count=2)
    run(monitor, 1, [1.0, 1.0], Gradients(flags(True, False), flags(True, False)))
    run(monitor, REDIRECT_STEPS - 1, [1.0, 1.0], rise=0.1)
    assert monitor.wants_gradients  # the second image is not alive yet
    monitor.record(torch.ones(2), Gradients(flags(False, True), flags(False, True)))
    assert not monitor.wants_gradients  # the first counts as alive, although it got no gradient in this step
    assert monitor.redirect is None
    assert monitor.problems() == {}


def test_gradients_are_also_wanted_after_zero_steps():
    start = 100
    monitor = new_monitor(zero_steps=start)
    schedule = sorted({1, *(REDIRECT_STEPS + step for step in CHECK_STEPS), *(start + step for step in CHECK_STEPS)})
    assert wanted_steps(monitor, start + CHECK_STEPS[-1] - 1, DEAD_GRADIENTS) == schedule[:-1]


@pytest.mark.parametrize(("steps", "redirected"), [(200, REDIRECT_STEPS), (10, 5), (2, 1), (1, 0)])
def test_gradients_are_redirected_in_at_most_the_first_half(steps, redirected):
    monitor = new_monitor(steps=steps)
    woken = []
    for step in range(min(steps, REDIRECT_STEPS + CHECK_STEPS[-1] - 1)):
        woken += [step] if monitor.redirect is not None else []
        run(monitor, 1, [1.0], DEAD_GRADIENTS)
    assert woken == list(range(1, redirected))  # the first step runs with the network's own gradients


def test_only_images_that_are_not_alive_are_woken():
    monitor = new_monitor(count=3)
    run(monitor, 1, [1.0] * 3, Gradients(flags(True, False, True), flags(True, False, False)))
    assert monitor.redirect.tolist() == [False, True, True]  # a gradient of a regularizer alone does not count
    everything = new_monitor(count=2)
    run(everything, 1, [1.0] * 2, Gradients(flags(True, True), flags(True, True)))
    assert everything.redirect is None


def test_objectives_without_layers_are_alive_without_a_gradient_of_the_view():
    monitor = new_monitor(uses_network=False)
    run(monitor, 1, [1.0], Gradients(flags(True), flags(False)))
    assert monitor.redirect is None


def test_dead_batch_raises_at_the_last_check():
    monitor = new_monitor(count=2)
    dead = Gradients(flags(False, False), flags(False, False))
    run(monitor, REDIRECT_STEPS + CHECK_STEPS[-1] - 1, [0.0, 0.0], dead)
    assert monitor.wants_gradients
    with pytest.raises(fv.RenderError) as caught:
        monitor.record(torch.zeros(2), dead)
    assert str(caught.value) == (
        "no gradient reaches the image, not even one that is redirected through inactive units; try another seed, a "
        "start with more contrast (the param Fourier(std=0.25)), or another objective, such as a logit instead of its "
        "probability"
    )


def test_batch_with_one_live_image_does_not_raise():
    monitor = new_monitor(count=2)
    reached = Gradients(flags(True, False), flags(True, False))
    run(monitor, 100, [1.0, 0.0], reached, rise=0.1)
    assert monitor.problems() == {1: DEAD}


def test_zero_steps_postpones_the_error():
    monitor = new_monitor(zero_steps=100)
    run(monitor, 100 + CHECK_STEPS[-1] - 1, [0.0], DEAD_GRADIENTS)
    with pytest.raises(fv.RenderError):
        run(monitor, 1, [0.0], DEAD_GRADIENTS)
    ramp = new_monitor(zero_steps=100)
    run(ramp, 100, [0.0], DEAD_GRADIENTS)
    run(ramp, 100, [1.0], ALIVE_GRADIENTS)
    assert ramp.problems() == {}


@pytest.mark.parametrize("score", [NAN, float("inf"), -float("inf")])
def test_batch_without_finite_scores_raises(score):
    monitor = new_monitor(count=2, steps=1000)
    run(monitor, FINITE_EVERY - 1, [score, score], Gradients(flags(True, True), flags(True, True)))
    with pytest.raises(fv.RenderError) as caught:
        run(monitor, 1, [score, score])
    assert str(caught.value) == (
        "the score is NaN or infinite from the first step; check the network's weights, mean and std, and the numbers "
        "in the objective and the param"
    )
    short = new_monitor()
    run(short, 1, [1.0], ALIVE_GRADIENTS)
    run(short, 2, [score])
    with pytest.raises(fv.RenderError) as caught:
        short.problems()
    assert str(caught.value) == (
        "the score became NaN or infinite; use a smaller learning rate, or check the network's mean and std"
    )


def test_batch_with_one_finite_score_goes_on():
    monitor = new_monitor(count=2, steps=1000)
    run(monitor, 2 * FINITE_EVERY, [NAN, 1.0], Gradients(flags(True, True), flags(True, True)), rise=0.1)
    assert monitor.problems() == {0: NOT_FINITE_AT_START}


def test_problems_of_a_short_render():
    """Images without gradient that may still be woken are no problem, unless their score never changed."""
    reached = Gradients(flags(True, False, False), flags(True, False, False))
    monitor = new_monitor(count=3)
    for step in range(5):
        monitor.record(torch.tensor([1.0, 0.0, float(step)]), reached if monitor.wants_gradients else None)
    assert monitor.problems() == {1: DEAD}
    assert new_monitor().problems() == {}


def test_history_of_the_first_steps():
    monitor = new_monitor(count=2)
    for step in range(3):
        monitor.record(torch.tensor([step, -step], dtype=torch.float32))
    assert monitor.steps == 3
    assert monitor.history(2).tolist() == [[0.0, -0.0], [1.0, -1.0]]
    assert monitor.history(0).shape == (0, 2)


# ---------------------------------------------------------------------------------------------- constant scores


def constant_text(score, steps):
    return (
        f"the score stayed at {score} up to rounding in all {steps} steps: it does not depend on the image, such as "
        "the mean of a channel after an instance normalisation or a probability that has reached 1; use a neuron "
        "(LAYER:CHANNEL@y,x), the whole layer (LAYER) or a logit instead"
    )


@pytest.mark.parametrize(
    ("level", "change", "constant"),
    [
        (0.0, 1e-7, True),
        (0.0, 5e-6, True),
        (0.0, 1e-4, False),
        (1.0, 5e-7, True),
        (1e6, 0.5, True),
        (1e6, 50.0, False),
        (-3.0, 0.0, True),
    ],
)
def test_scores_that_change_by_rounding_only_are_reported(level, change, constant):
    monitor = new_monitor()
    for step in range(20):
        score = torch.tensor([level + change * (step % 3 - 1)], dtype=torch.float64)
        monitor.record(score, ALIVE_GRADIENTS if monitor.wants_gradients else None)
    if not constant:
        assert monitor.problems() == {}
        return
    assert monitor.problems() == {0: constant_text(f"{level:.3g}", 20)}


def saturating(step):
    return 1 - 0.5**step


def alternating(step):
    return (-1) ** step


@pytest.mark.parametrize(
    ("score", "constant"),
    [
        (lambda step: 2e-7 * step, False),
        (lambda step: 1e-30 * step, False),
        (lambda step: 1e-9 * saturating(step) + 1e-12 * step, False),
        (lambda step: 1e-9 * (3 + alternating(step)), False),
        (lambda step: 1e-9 * (step % 3), False),  # a neuron after a ReLU, off in some views
        (lambda step: 1e-9 * alternating(step), True),  # 0 up to rounding
        (lambda step: 1e-3 + 1e-8 * alternating(step), True),
        (lambda step: 1e-30 * (3 - step), True),  # which falls
        (lambda step: 1 + 1e-8 * step, True),  # as a probability that has reached 1
        (lambda step: 1e6 + 1e-2 * step, True),
    ],
)
def test_small_scores_that_rise_are_not_constant(score, constant):
    monitor = new_monitor()
    for step in range(32):
        monitor.record(
            torch.tensor([score(step)], dtype=torch.float64), ALIVE_GRADIENTS if monitor.wants_gradients else None
        )
    assert monitor._is_constant(torch.stack(monitor._scores)).item() == constant


@pytest.mark.parametrize("steps", [16, 20, 128, 300])
def test_noise_is_no_trend(steps):
    """Of a hundred noisy scores, about one in a thousand exceeds three standard deviations."""
    scores = torch.randn(steps, 100, generator=torch.Generator().manual_seed(steps))
    assert _rises(scores).sum() <= 2
    assert _rises(scores + torch.arange(steps)[:, None] / 2).all()


def test_a_constant_score_in_few_steps_is_no_problem():
    for steps in (1, 15):
        monitor = new_monitor()
        run(monitor, steps, [0.5], ALIVE_GRADIENTS)
        assert monitor.problems() == {}
    monitor = new_monitor()
    run(monitor, 16, [0.5], ALIVE_GRADIENTS)
    assert monitor.problems() == {0: constant_text("0.5", 16)}


def test_only_the_constant_images_of_a_batch_are_reported():
    monitor = new_monitor(count=4)
    reached = Gradients(flags(True, True, False, True), flags(True, True, False, True))
    for step in range(80):
        scores = torch.tensor([1.0, float(step), 0.0, NAN])
        monitor.record(scores, reached if monitor.wants_gradients else None)
    assert monitor.problems() == {0: constant_text("1", 80), 2: DEAD, 3: NOT_FINITE_AT_START}


class Normed(torch.nn.Module):
    """A channel whose mean an instance normalisation fixes, and a probability that is always 1."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.InstanceNorm2d(4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x):
        x = self.norm(self.conv(x))
        return self.head(x.square().mean((2, 3)))


@pytest.mark.parametrize("seed", range(8))
def test_a_render_whose_score_cannot_move_warns_and_its_neighbours_do_not(seed):
    torch.manual_seed(seed)
    net = fv.Network(Normed().eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.warns(fv.FeatvizWarning, match=r"^norm:1: the score stayed at .* up to rounding in all 20 steps: it "):
        fv.render(net, "norm:1", steps=20, transforms=(), robustness_views=0)
    for other in ("norm:1@4,4", "norm", "logit:1", "conv:1"):  # what the message asks for, and the layer before
        rendering = fv.render(net, other, steps=20, transforms=(), robustness_views=0)
        assert rendering.history[:, 0].max() - rendering.history[:, 0].min() > 1e-4  # and no warning, which is an error


def test_a_probability_that_has_reached_1_warns():
    torch.manual_seed(0)
    module = Normed().eval()
    with torch.no_grad():
        module.head.bias.copy_(torch.tensor([8.0, -8.0]))
    net = fv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.warns(fv.FeatvizWarning) as caught:
        fv.render(net, "prob:0", steps=20, transforms=(), robustness_views=0)
    assert str(caught[0].message) == "prob:0: " + constant_text("1", 20)


def test_warnings_name_the_line_that_called_featviz():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fv.render(toys.plain(), ["conv2:1", "0 * conv2:1"], steps=40, size=16, transforms=(), progress=None)
    assert caught and {each.filename for each in caught} == {__file__}


def test_an_image_without_a_gradient_is_not_dead_while_its_score_may_be_zero(net):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendering = fv.render(net, "conv2:1 * ramp(0, 5, 0.5)", steps=120, until=40)
    assert not rendering.problems
    monitor = new_monitor(steps=100, zero_steps=50)
    run(monitor, 50, [0.0], DEAD_GRADIENTS)
    assert not monitor.problems()
    run(monitor, 1, [0.0], DEAD_GRADIENTS)
    assert monitor.problems()[0].startswith(DEAD)
