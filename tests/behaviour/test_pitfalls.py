"""Faults of other libraries that no other test here happens to cover, one by one."""

import sys

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.io import read_image, to_bytes


def test_the_users_own_error_surfaces_with_a_note():
    with pytest.raises(RuntimeError, match="^the author's own mistake") as caught:
        fv.render(toys.network(toys.Broken()), "conv:0")
    assert caught.value.__notes__ == ["while running Broken on grey images of 32x32 px"]

    @obj.objective("conv1")
    def mine(acts):
        return acts["conv1"][:, 99, 0, 0]

    with pytest.raises(IndexError) as caught:
        fv.render(toys.plain(), mine, steps=3)
    assert caught.value.__notes__ == ["while rendering mine, step 1 of 3"]


@pytest.mark.parametrize(
    ("returns", "found"),
    [(lambda a: a.mean(), "()"), (lambda a: a.flatten(1), "(2, 6144)"), (lambda a: 3.0, "float")],
)
def test_a_score_is_one_number_per_image(returns, found):
    @obj.objective("conv1")
    def mine(acts):
        return returns(acts["conv1"])

    wanted = f"mine gave {found}; an objective gives one score per image, here (2,)"
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), mine, param=param.Image(batch=2), steps=1)
    assert str(caught.value) == wanted


def test_renders_are_stateless_and_arguments_are_never_remembered(net):
    goal, whole, stack = obj.Channel("conv2", 1), param.Image(24), (T.Jitter(2),)
    first = fv.render(net, goal, param=whole, transforms=stack, steps=4)
    other = fv.render(net, goal, param=whole, transforms=(T.Rotate(40),), steps=4)
    again = fv.render(net, goal, param=whole, transforms=stack, steps=4)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("spatial", [param.Pixel(), param.Fourier()])
def test_pixels_are_normalised_for_every_param(spatial):
    """While it renders, the network sees (image - mean) / std, whatever holds the image."""
    seen = []
    net = toys.plain(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    start = fv.render(net, "conv1:0", param=spatial, transforms=(), steps=0)
    net.module.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    fv.render(net, "conv1:0", param=spatial, transforms=(), steps=1, robustness_views=0)
    mean, std = torch.tensor(net.mean).view(3, 1, 1), torch.tensor(net.std).view(3, 1, 1)
    assert len(seen) == 1
    assert torch.allclose(seen[0], (start.images - mean) / std, atol=1e-6)


def test_wide_pictures_stay_wide(tmp_path):
    rendering = fv.render(toys.plain(), "conv2:1", param=param.Image((20, 50)), steps=1)
    (path,) = rendering.save(tmp_path / "wide.png")
    assert read_image(path).shape == (3, 20, 50)
    vit = toys.network(toys.Vit())
    assert fv.render(vit, "block:3@1,2", param=param.Image((48, 64)), steps=2).images.shape == (1, 3, 48, 64)


def test_a_network_of_one_size_takes_any_picture_and_stack():
    vit = toys.network(toys.Vit())
    for stack in (T.LUCID, T.STANDARD, (), (T.Pad(4), T.Jitter(2))):
        assert fv.render(vit, ["block:3@cls", "block:3"], transforms=stack, steps=2).history.isfinite().all()


def test_eight_bits_are_clamped_not_wrapped():
    pixels = to_bytes(torch.tensor([[[-0.2, 0.0, 0.5, 1.0, 1.2, float("nan")]]]).expand(3, 1, 6).numpy())
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255, 128]


def test_a_dead_start_is_said_with_its_cure():
    dead = toys.network(toys.Dead())
    dead.module.conv.bias.data.fill_(-1e3)
    with pytest.raises(fv.RenderError) as caught:
        fv.render(dead, "relu:1", steps=40)
    assert str(caught.value) == (
        "no gradient reaches the picture, the unit is off; give another seed, or a louder start: param Fourier(std=0.25)"
    )
    with pytest.warns(fv.FeatvizWarning, match="^relu:1: no gradient reaches the picture"):
        rendering = fv.render(dead, ["relu:1", "conv:1"], transforms=(), steps=20)
    assert list(rendering.problems) == [0]
    assert list(rendering[0].problems) == [0]
    assert not rendering[1].problems
    assert rendering.history[-1, 1] > rendering.history[0, 1]


def test_scores_that_stop_being_numbers_are_said_with_their_cure(tmp_path):
    @obj.objective("conv1")
    def root(acts):
        return acts["conv1"].flatten(1).mean(1) * float("nan")

    with pytest.raises(fv.RenderError) as caught:
        fv.render(toys.plain(), root, steps=3)
    assert str(caught.value) == (
        "the score stopped being a number; give a smaller learning rate, or check the network's mean and std"
    )
    with pytest.warns(fv.FeatvizWarning, match="^root: the score stopped being a number"):
        rendering = fv.render(toys.plain(), [root, "conv1:2"], steps=3)
    assert rendering.images[1].isfinite().all()
    rendering.save(tmp_path / "half.png")


def test_ctrl_c_gives_back_what_there_is():
    def progress(done, steps):
        if done == 3:
            raise KeyboardInterrupt

    rendering = fv.render(toys.plain(), "conv2:1", steps=9, progress=progress)
    assert len(rendering.history) == 3
    assert rendering.recipe.until == 3
    assert torch.equal(rendering.images, fv.render(toys.plain(), "conv2:1", steps=9, until=3).images)


def test_progress_is_told_every_step_and_snapshots_are_kept():
    calls = []
    rendering = fv.render(
        toys.plain(), "conv2:1", steps=5, snapshots=(1, 4), progress=lambda done, steps: calls.append((done, steps))
    )
    assert calls == [(i, 5) for i in range(1, 6)]
    assert sorted(rendering.snapshots) == [1, 4]
    assert torch.equal(rendering.snapshots[4], fv.render(toys.plain(), "conv2:1", steps=5, until=4).images)


def test_a_rendering_shows_itself(tmp_path):
    rendering = fv.render(toys.plain(), ["conv2:1", "logit:bee"], steps=1)
    assert repr(rendering) == "<Rendering of conv2:1, logit:bee: 2 x 32x32 px, 1 steps>"
    assert rendering._repr_png_().startswith(b"\x89PNG")
    assert rendering.sheet(labels=False).shape == (48, 88, 3)
    assert rendering[-1].names == ("logit:bee",)
    with pytest.raises(IndexError):
        rendering[2]


def test_nothing_is_half_written(tmp_path, monkeypatch):
    rendering = fv.render(toys.plain(), "conv2:1", steps=1)
    target = tmp_path / "a.png"
    rendering.save(target)
    before = target.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(target), "write_bytes", full)
    with pytest.raises(fv.OutputError, match="^cannot write .*a.png: No space left on device$"):
        rendering.save(target)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_what_cannot_be_a_transform_or_objective_is_refused():
    with pytest.raises(fv.SettingError, match="^3 is no transform; it needs draw and apply, or place$"):
        fv.render(toys.plain(), "conv2:1", transforms=(3,))
    with pytest.raises(fv.SettingError, match="^nothing to render; give at least one objective$"):
        fv.render(toys.plain(), [])
    with pytest.raises(fv.SettingError, match=r"^start has shape \(1, 3\); give \(3, h, w\) or \(1, 3, h, w\)"):
        fv.render(toys.plain(), "conv2:1", start=torch.zeros(1, 3))
    with pytest.raises(fv.SettingError, match=r"^3 is no param; give param.image"):
        fv.render(toys.plain(), "conv2:1", param=3)


def off(bias):
    net = toys.network(toys.Dead())
    net.module.conv.bias.data.fill_(bias)
    return net


def test_a_unit_that_is_off_comes_on_with_a_louder_start():
    """The cure that the message names."""
    net = off(-5.0)
    with pytest.raises(fv.RenderError), pytest.warns(fv.FeatvizWarning):
        raise fv.RenderError(fv.render(net, "relu:1", transforms=(), steps=5).problems[0])
    with pytest.raises(fv.RenderError, match=r"^no gradient reaches the picture, the unit is off; give another seed"):
        fv.render(net, "relu:1", transforms=(), steps=64)
    net = off(-0.05)
    for spatial in (param.Fourier(std=0.25), param.Pixel(std=1.0)):
        assert fv.render(net, "relu:1", param=spatial, transforms=(), steps=1).history[-1] > 0


def test_a_unit_that_is_off_is_woken_in_the_first_steps_and_then_left_alone():
    net = off(-0.3)
    start = fv.render(net, "relu:1", transforms=(), steps=1, seed=3, until=0)
    assert net.capture(start.images, ["relu"])["relu"].max() == 0
    rendering = fv.render(net, ["relu:1", "relu:1 - 0.1 * tv", "conv:1"], transforms=(), steps=64)
    assert (rendering.history[0, :2].abs() < 1e-3).all()
    assert (rendering.history[-1, :2] > 0.005).all()
    assert not rendering.problems
    alone = fv.render(net, "conv:1", transforms=(), steps=64, seed=2)
    assert torch.allclose(alone.history[:, 0], rendering.history[:, 2], atol=1e-4)  # it needed no help, and got none


def test_what_asks_for_nothing_yet_is_not_dead(net):
    late = fv.render(net, "ramp(0, 1, 0.5, 1) * conv2:5", transforms=(), steps=80)
    assert not late.problems
    assert late.history[-1] > 0
    both = fv.render(net, ["conv2:5", "0 - l2"], transforms=(), steps=40)
    assert not both.problems


def test_everything_that_reads_a_picture_runs_where_the_network_is(net):
    """On a device that is not there: shapes and devices are followed, nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    layouts = net.table  # found on the CPU
    assert layouts
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            module = toys.Plain()
        far = fv.Network(module, size=32, **toys.HALF, probed=net.probed)
        far._foldable = ()
        acts = far.capture(torch.rand(1, 3, 32, 32), ["conv2"])
        assert acts["conv2"].device.type == "cuda"


def test_rendering_inside_no_grad_and_inference_mode(net):
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            rendering = fv.render(net, "conv2:1", param=param.Image(20), steps=3)
        assert rendering.history[-1].isfinite()
        fv.render(net, "conv2:1", param=param.Image(20), steps=1)


def test_a_network_can_be_asked_while_it_renders(net):
    guide = torch.rand(1, 3, 32, 32)

    @obj.objective("conv2")
    def like_the_guide(acts):
        wanted = net.capture(guide, ["head", "conv1"])["conv1"].mean()
        return -((acts["conv2"].flatten(1).mean(1) - wanted) ** 2)

    def progress(done, steps):
        assert net.capture(guide, ["head"])["head"].shape == (1, 5)

    assert fv.render(net, like_the_guide, steps=2, progress=progress).history.isfinite().all()


def test_half_precision_scores_are_summed_in_single():
    net = toys.network(toys.Plain().half())
    with torch.no_grad():
        net.module.conv2.weight *= 3000
    acts = net.capture(torch.rand(1, 3, 32, 32), ["conv2"])
    assert acts["conv2"].dtype == torch.float16
    assert acts["conv2"].square().mean().isinf()
    assert obj.Layer("conv2")(acts).isfinite().all()


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "start holds torch.uint8 from 0 to 0; give floating-point numbers"),
        (torch.full((3, 8, 8), 7.0), "start holds torch.float32 from 7 to 7; give floating-point numbers in"),
        (torch.zeros(3, 20, 80), "start is 20 x 80 px, the picture 32 x 32; cut it to that shape first"),
    ],
)
def test_starts_that_would_be_misread_are_refused(start, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), "conv2:1", param=param.Image(32), start=start, steps=1)
    assert str(caught.value).startswith(message)


def test_a_start_of_the_same_shape_is_resized():
    start = torch.rand(3, 10, 15)
    assert fv.render(toys.plain(), "conv2:1", param=param.Image((20, 30)), start=start, steps=0).images.shape[2:] == (
        20,
        30,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fv.render(toys.Plain(), "conv2:1"), "Plain is no network; give fv.load(name), or fv.Network(module, "),
        (lambda: fv.render("motifnet", "stage1"), "str is no network; give fv.load(name), or fv.Network(module, "),
        (lambda: fv.render(toys.plain(), len), "<built-in function len> is no objective; decorate the function with @"),
        (lambda: fv.render(toys.plain(), 3), "3 is no objective; give text as layer:channel, or an objective"),
        (lambda: fv.render(toys.plain(), "conv1", transforms="lucid"), "'lucid' is text; give transforms.STANDARD, tr"),
        (lambda: obj.objective(len), "name the layers that the function reads: @objective('layer')"),
        (lambda: toys.plain(mean=(123, 116, 103)), "mean (123.0, 116.0, 103.0) is not in [0, 1], as the images ar"),
    ],
)
def test_a_newcomers_mistakes(call, message):
    with pytest.raises(fv.SettingError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_a_layer_that_an_objective_did_not_name():
    @obj.objective("conv1")
    def mine(acts):
        return acts["conv2"].flatten(1).mean(1)

    with pytest.raises(KeyError, match=r"layer 'conv2' is not captured; name it in @objective\(...\)"):
        fv.render(toys.plain(), mine, steps=1)


def test_numbers_of_numpy_are_numbers():
    import numpy as np

    goals = [obj.Logit(np.int64(2)), obj.Channel("conv2", torch.tensor(3))]
    rendering = fv.render(toys.plain(), goals, param=param.Image([20, 24]), steps=1, seed=np.int64(3))
    assert rendering.recipe.seeds == (3, 4)
    assert rendering.recipe.objectives == ("Logit(name=2, network='')", "Channel(layer='conv2', channel=3)")
    assert rendering.images.shape[2:] == (20, 24)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"optimizer": "adam"}, "'adam' is no optimizer; give fv.optimizers.Adam(...), or what has its `begin`"),
        ({"until": -1}, "until -1 is below 0; give a step to stop after"),
        ({"seed": 2**64}, "seeds 18446744073709551616 to 18446744073709551616 are out of range"),
    ],
)
def test_more_that_is_out_of_range(more, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), "conv2:1", steps=1, **more)
    assert str(caught.value).startswith(message)
    with pytest.raises(fv.SettingError, match="is below 0 px; give 0 or more$"):
        T.Jitter(-4)


def test_loading_leaves_the_callers_random_state_alone():
    state = torch.get_rng_state()
    fv.load("motifnet", weights="none", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sheet_too_large_for_its_format_is_one_sentence(tmp_path):
    rendering = fv.render(toys.plain(), "conv2:1", param=param.Image((8, 17000)), transforms=(), steps=0)
    with pytest.raises(fv.OutputError, match=r"^cannot write 17000 x 8 px as .webp; end the name in .png$"):
        rendering.save(tmp_path / "wide.webp")
    assert rendering.save(tmp_path / "wide.png")


def test_no_step_waits_for_the_device(net, monkeypatch):
    """Whatever reads a tensor's value makes a GPU catch up: it must not happen once a step."""
    reads = []

    def counted(name):
        real = getattr(torch.Tensor, name)

        def read(self, *arguments, **more):
            if "transforms" not in sys._getframe(1).f_code.co_filename:  # what is drawn is the CPU's own
                reads.append(name)
            return real(self, *arguments, **more)

        return read

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))

    def count(steps):
        reads.clear()
        fv.render(net, ["conv2:1", "logit:bee"], steps=steps, progress=lambda done, steps: None)
        return len(reads)

    count(20)
    assert count(20) == count(60)
    assert count(20) > 0  # the counting works
