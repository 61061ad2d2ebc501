"""Known faults of visualization libraries, each with a test that this one does not have it."""

import re
import sys

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.io import read_image, to_bytes


def test_error_in_user_code_is_raised_with_a_note():
    with pytest.raises(RuntimeError, match="^the author's own mistake") as caught:
        fv.render(toys.network(toys.Broken()), "conv:0")
    assert str(caught.value) == "the author's own mistake"
    (note,) = caught.value.__notes__
    assert note.startswith("while running Broken on a batch of grey images, (2, 3, 32, 32); if it reads something")

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
def test_objective_must_return_one_score_per_image(returns, found):
    @obj.objective("conv1")
    def mine(acts):
        return returns(acts["conv1"])

    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), mine, param=param.Image(batch=2), steps=1)
    expected = "an objective must return one score per image, here a tensor of shape (2,)"
    assert str(caught.value) == f"{expected}; mine returned {found}"


def test_renders_do_not_affect_each_other(net):
    objective, image, stack = obj.Channel("conv2", 1), param.Image(24), (T.Jitter(2),)
    first = fv.render(net, objective, param=image, transforms=stack, steps=4)
    other = fv.render(net, objective, param=image, transforms=(T.Rotate(40),), steps=4)
    again = fv.render(net, objective, param=image, transforms=stack, steps=4)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("spatial", [param.Pixel(), param.Fourier()])
def test_network_sees_normalized_images(spatial):
    """The input of the network is (image - mean) / std, whatever the param."""
    seen = []
    net = toys.plain(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    start = fv.render(net, "conv1:0", param=spatial, transforms=(), steps=0)
    net.module.conv1.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    fv.render(net, "conv1:0", param=spatial, transforms=(), steps=1, robustness_views=0)
    mean, std = torch.tensor(net.input.mean).view(3, 1, 1), torch.tensor(net.input.std).view(3, 1, 1)
    assert len(seen) == 1
    assert torch.allclose(seen[0], (start.images - mean) / std, atol=1e-6)


def test_wide_images_keep_their_shape(tmp_path):
    rendering = fv.render(toys.plain(), "conv2:1", param=param.Image((20, 50)), steps=1)
    (path,) = rendering.save(tmp_path / "wide.png")
    assert read_image(path).shape == (3, 20, 50)
    vit = toys.network(toys.Vit())
    assert fv.render(vit, "block:3@1,2", param=param.Image((48, 64)), steps=2).images.shape == (1, 3, 48, 64)


def test_network_with_one_input_size_takes_any_transforms():
    vit = toys.network(toys.Vit())
    for stack in (T.LUCID, T.STANDARD, (), (T.Pad(4), T.Jitter(2))):
        assert fv.render(vit, ["block:3@cls", "block:3"], transforms=stack, steps=2).history.isfinite().all()


def test_conversion_to_bytes_clamps():
    pixels = to_bytes(torch.tensor([[[-0.2, 0.0, 0.5, 1.0, 1.2, float("nan")]]]).expand(3, 1, 6).numpy())
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255, 128]


NO_GRADIENT = (
    "no gradient reaches the image, not even one that is redirected through inactive units; try another seed, a "
    "start with more contrast (the param Fourier(std=0.25)), or another objective, such as a logit instead of its "
    "probability"
)
FEW_STEPS = "; gradients are redirected in the first half of the steps only, so give steps=64 or more"


def test_missing_gradient_is_reported_with_a_remedy():
    dead = toys.network(toys.Dead())
    dead.module.conv.bias.data.fill_(-1e3)
    with pytest.raises(fv.RenderError) as caught:
        fv.render(dead, "relu:1", steps=40)
    assert str(caught.value) == NO_GRADIENT + FEW_STEPS
    with pytest.warns(fv.FeatvizWarning, match=f"^relu:1: {re.escape(NO_GRADIENT + FEW_STEPS)}$"):
        rendering = fv.render(dead, ["relu:1", "conv:1"], transforms=(), steps=20)
    assert rendering.problems == {0: NO_GRADIENT + FEW_STEPS}
    assert list(rendering[0].problems) == [0]
    assert not rendering[1].problems
    assert rendering.history[-1, 1] > rendering.history[0, 1]


def test_nan_score_is_reported_with_a_remedy(tmp_path):
    @obj.objective("conv1")
    def not_a_number(acts):
        return acts["conv1"].flatten(1).mean(1) * float("nan")

    with pytest.raises(fv.RenderError) as caught:
        fv.render(toys.plain(), not_a_number, steps=3)
    message = (
        "the score is NaN or infinite from the first step; check the network's weights, mean and std, and the numbers "
        "in the objective and the param"
    )
    assert str(caught.value) == message
    with pytest.warns(fv.FeatvizWarning, match=f"^not_a_number: {message}$"):
        rendering = fv.render(toys.plain(), [not_a_number, "conv1:2"], steps=3)
    assert rendering.images[1].isfinite().all()
    rendering.save(tmp_path / "half.png")


def test_ctrl_c_returns_the_images_so_far():
    def progress(done, steps):
        if done == 3:
            raise KeyboardInterrupt

    rendering = fv.render(toys.plain(), "conv2:1", steps=9, progress=progress)
    assert len(rendering.history) == 3
    assert rendering.recipe.until == 3
    assert torch.equal(rendering.images, fv.render(toys.plain(), "conv2:1", steps=9, until=3).images)


def test_progress_is_called_after_every_step_and_snapshots_are_stored():
    calls = []
    rendering = fv.render(
        toys.plain(), "conv2:1", steps=5, snapshots=(1, 4), progress=lambda done, steps: calls.append((done, steps))
    )
    assert calls == [(i, 5) for i in range(1, 6)]
    assert sorted(rendering.snapshots) == [1, 4]
    assert torch.equal(rendering.snapshots[4], fv.render(toys.plain(), "conv2:1", steps=5, until=4).images)


def test_rendering_has_a_repr_and_a_contact_sheet(tmp_path):
    rendering = fv.render(toys.plain(), ["conv2:1", "logit:bee"], steps=1)
    assert repr(rendering) == "<Rendering of conv2:1, logit:bee: 2 x 32x32 px, 1 steps>"
    assert rendering._repr_png_().startswith(b"\x89PNG")
    assert rendering.sheet(labels=False).shape == (48, 88, 3)
    assert rendering[-1].names == ("logit:bee",)
    with pytest.raises(IndexError):
        rendering[2]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
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


def with_bias(bias):
    net = toys.network(toys.Dead())
    net.module.conv.bias.data.fill_(bias)
    return net


def test_larger_std_activates_a_dead_unit():
    """The remedy that the message suggests."""
    net = with_bias(-5.0)
    with pytest.warns(fv.FeatvizWarning):
        assert fv.render(net, "relu:1", transforms=(), steps=5).problems == {0: NO_GRADIENT + FEW_STEPS}
    with pytest.raises(fv.RenderError) as caught:
        fv.render(net, "relu:1", transforms=(), steps=64)
    assert str(caught.value) == NO_GRADIENT
    net = with_bias(-0.05)
    for spatial in (param.Fourier(std=0.25), param.Pixel(std=1.0)):
        assert fv.render(net, "relu:1", param=spatial, transforms=(), steps=1).history[-1] > 0


def test_redirected_gradients_activate_a_dead_unit():
    net = with_bias(-0.3)
    start = fv.render(net, "relu:1", transforms=(), steps=1, seed=3, until=0)
    assert net.capture(start.images, ["relu"])["relu"].max() == 0
    rendering = fv.render(net, ["relu:1", "relu:1 - 0.1 * tv", "conv:1"], transforms=(), steps=64)
    assert (rendering.history[0, :2].abs() < 1e-3).all()
    assert (rendering.history[-1, :2] > 0.005).all()
    assert not rendering.problems
    alone = fv.render(net, "conv:1", transforms=(), steps=64, seed=2)
    assert torch.allclose(alone.history[:, 0], rendering.history[:, 2], atol=1e-4)  # its gradients are not redirected


def test_objective_that_is_zero_at_first_is_not_reported(net):
    late = fv.render(net, "ramp(0, 1, 0.5, 1) * conv2:5", transforms=(), steps=80)
    assert not late.problems
    assert late.history[-1] > 0
    both = fv.render(net, ["conv2:5", "0 - l2"], transforms=(), steps=40)
    assert not both.problems


def test_images_are_moved_to_the_device_of_the_network(net, monkeypatch):
    """Fake tensors track shapes and devices without computing, so no CUDA device is needed."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    layouts = net.table  # computed on the CPU
    assert layouts
    monkeypatch.setattr(fv.Network, "foldable", ())  # fake tensors have no values to compare
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            module = toys.Plain()
        on_cuda = fv.Network(module, size=32, **toys.HALF, probed=net.probed)
        acts = on_cuda.capture(torch.rand(1, 3, 32, 32), ["conv2"])
        assert acts["conv2"].device.type == "cuda"


def test_rendering_inside_no_grad_and_inference_mode(net):
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            rendering = fv.render(net, "conv2:1", param=param.Image(20), steps=3)
        assert rendering.history[-1].isfinite()
        fv.render(net, "conv2:1", param=param.Image(20), steps=1)


def test_network_can_be_run_during_a_render(net):
    reference = torch.rand(1, 3, 32, 32)

    @obj.objective("conv2")
    def like_the_reference(acts):
        target = net.capture(reference, ["head", "conv1"])["conv1"].mean()
        return -((acts["conv2"].flatten(1).mean(1) - target) ** 2)

    def progress(done, steps):
        assert net.capture(reference, ["head"])["head"].shape == (1, 5)

    assert fv.render(net, like_the_reference, steps=2, progress=progress).history.isfinite().all()


def test_half_precision_scores_are_summed_in_single_precision():
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
        (
            torch.zeros(3, 8, 8, dtype=torch.uint8),
            "start holds torch.uint8 from 0 to 0; give floating-point numbers in [0, 1]",
        ),
        (
            torch.full((3, 8, 8), 7.0),
            "start holds torch.float32 from 7 to 7; give floating-point numbers in [0, 1]",
        ),
        (
            torch.zeros(3, 20, 80),
            "start must have the aspect ratio of the image, 32 x 32 px, got 20 x 80 px; crop it first",
        ),
        (torch.zeros(1, 3), "start must have shape (3, h, w) or (1, 3, h, w), got (1, 3)"),
    ],
)
def test_invalid_start_images(start, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(toys.plain(), "conv2:1", param=param.Image(32), start=start, steps=1)
    assert str(caught.value) == message


def test_start_of_the_same_aspect_ratio_is_resized():
    start = torch.rand(3, 10, 15)
    assert fv.render(toys.plain(), "conv2:1", param=param.Image((20, 30)), start=start, steps=0).images.shape[2:] == (
        20,
        30,
    )


USE_A_NETWORK = "use fv.load(name), or fv.Network(module, size=..., mean=..., std=...)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fv.render(toys.Plain(), "conv2:1"), f"network must be a Network, got Plain; {USE_A_NETWORK}"),
        (lambda: fv.render("motifnet", "stage1"), f"network must be a Network, got str; {USE_A_NETWORK}"),
        (
            lambda: fv.render(toys.plain(), len),
            "an objective must be text, or have layers and be callable, got <built-in function len>; "
            "decorate the function with @objectives.objective('layer')",
        ),
        (
            lambda: fv.render(toys.plain(), 3),
            "an objective must be text, or have layers and be callable, got 3; use e.g. 'layer:channel'",
        ),
        (lambda: fv.render(toys.plain(), []), "there is no objective; give at least one, such as 'layer:channel'"),
        (
            lambda: fv.render(toys.plain(), "conv1", transforms="lucyd"),
            "there is no 'lucyd' in transforms; nearest: 'LUCID'",
        ),
        (
            lambda: fv.render(toys.plain(), "conv2:1", transforms=(3,)),
            "3 is not a transform: it needs `draw` and `apply`, or `place`",
        ),
        (
            lambda: fv.render(toys.plain(), "conv2:1", param=3),
            "3 is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()",
        ),
        (
            lambda: fv.render(toys.plain(), "conv2:1", optimizer=3),
            "3 is not an optimizer: it needs `begin`; use e.g. fv.optimizers.Adam()",
        ),
        (
            lambda: obj.objective(len),
            "@objective needs the names of the layers that the function reads: @objective('layer')",
        ),
        (
            lambda: toys.plain(mean=(123, 116, 103)),
            "mean must be in [0, 1], as the images are, got (123.0, 116.0, 103.0); "
            "for images in 0..255 divide mean and std by 255",
        ),
    ],
)
def test_mistakes_of_new_users(call, message):
    with pytest.raises(fv.SettingError) as caught:
        call()
    assert str(caught.value) == message


def test_objective_reads_a_layer_that_it_did_not_declare():
    @obj.objective("conv1")
    def mine(acts):
        return acts["conv2"].flatten(1).mean(1)

    with pytest.raises(KeyError) as caught:
        fv.render(toys.plain(), mine, steps=1)
    message = "layer 'conv2' is not captured, only 'conv1'; declare it: @objective('conv1', 'conv2')"
    assert str(caught.value) == message and isinstance(caught.value, fv.AddressError)


def test_numpy_and_torch_integers_are_accepted():
    import numpy as np

    objectives = [obj.Logit(np.int64(2)), obj.Channel("conv2", torch.tensor(3))]
    rendering = fv.render(toys.plain(), objectives, param=param.Image([20, 24]), steps=1, seed=np.int64(3))
    assert rendering.recipe.seeds == (3, 4)
    assert rendering.recipe.objectives == ("Logit(name=2, network='')", "Channel(layer='conv2', channel=3)")
    assert rendering.images.shape[2:] == (20, 24)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fv.render(toys.plain(), "conv2:1", until=-1), "until must be >= 0 or None, got -1"),
        (
            lambda: fv.render(toys.plain(), "conv2:1", seed=2**64),
            "seeds must be in [0, 2**63), got 18446744073709551616 to 18446744073709551616",
        ),
        (lambda: T.Jitter(-4), "px of Jitter must be a whole number in [0, 65536], got -4"),
    ],
)
def test_arguments_out_of_range(call, message):
    with pytest.raises(fv.SettingError) as caught:
        call()
    assert str(caught.value) == message


def test_loading_does_not_change_the_global_random_state():
    state = torch.get_rng_state()
    fv.load("motifnet", weights="none", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


def test_image_too_large_for_its_file_format(tmp_path):
    rendering = fv.render(toys.plain(), "conv2:1", param=param.Image((8, 17000)), transforms=(), steps=0)
    with pytest.raises(fv.OutputError) as caught:
        rendering.save(tmp_path / "wide.webp")
    assert str(caught.value) == "cannot write 17000 x 8 px as .webp; end the name in .png"
    assert rendering.save(tmp_path / "wide.png")


def test_steps_do_not_synchronize_with_the_device(net, monkeypatch):
    """Reading the value of a tensor waits for the GPU, so it must not happen in every step."""
    reads = []

    def counted(name):
        real = getattr(torch.Tensor, name)

        def read(self, *arguments, **options):
            if "transforms" not in sys._getframe(1).f_code.co_filename:  # random draws are on the CPU
                reads.append(name)
            return real(self, *arguments, **options)

        return read

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name))

    def count(steps):
        reads.clear()
        fv.render(net, ["conv2:1", "logit:bee"], steps=steps, progress=lambda done, steps: None)
        return len(reads)

    count(20)
    assert count(20) == count(60)
    assert count(20) > 0  # reads are counted at all


class Constant:
    """A param of the user's, whose tensors and images are given."""

    def __init__(self, leaves, images=lambda leaves: leaves[0].sigmoid()):
        self.leaves, self.made = leaves, images

    def start(self, rng, channels, size):
        return self.leaves(len(rng), channels, size)

    def fit(self, canvas):
        return [canvas]

    def canvas(self, leaves, size):
        return self.made(leaves)

    def __repr__(self):
        return "Constant()"


@pytest.mark.parametrize(
    ("leaves", "got"),
    [
        (lambda n, c, size: torch.zeros(n, c, *size), "Tensor"),
        (lambda n, c, size: [], "list"),
        (lambda n, c, size: [torch.zeros(n, c, *size, dtype=torch.int64)], "torch.int64 (2, 3, 32, 32)"),
        (lambda n, c, size: [torch.zeros(n, c, *size, dtype=torch.bfloat16)], "torch.bfloat16 (2, 3, 32, 32)"),
        (lambda n, c, size: [torch.zeros(1, c, *size)], "torch.float32 (1, 3, 32, 32)"),
    ],
)
def test_an_own_param_must_start_with_a_row_for_each_image(net, leaves, got):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, ["conv2:1", "conv2:2"], param=Constant(leaves), steps=1)
    assert str(caught.value).endswith(
        f" must start with a list of float32 or float64 tensors, with a row for each of 2 images, got {got}"
    )


def test_an_own_param_must_return_images_of_the_size_of_the_render(net):
    small = Constant(lambda n, c, size: [torch.zeros(n, c, 16, 16)])
    with pytest.raises(fv.SettingError, match=r" must have the shape \(1, channels, 32, 32\), got \(1, 3, 16, 16\)$"):
        fv.render(net, "conv2:1", param=small, steps=1)


def test_an_own_transform_must_return_as_many_images_as_it_gets(net):
    class First:
        def draw(self, rng, shape):
            return None

        def apply(self, images, draw):
            return images[:1]

        def __repr__(self):
            return "First()"

    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, ["conv2:1", "conv2:2"], transforms=(First(),), steps=1)
    assert str(caught.value) == "First() must return as many images as it gets, 2, got 1"


@pytest.mark.parametrize(
    ("factor", "size", "got"),
    [(0.0, (32, 32), "0 and 32 x 32"), (float("nan"), (32, 32), "nan and 32 x 32"), (1.0, (0, 0), "1 and 0 x 0")],
)
def test_an_own_geometric_transform_must_return_an_invertible_map(net, factor, size, got):
    class Own:
        def place(self, rng, _size):
            return torch.diag(torch.tensor([factor, 1.0, 1.0])).repeat(len(rng), 1, 1), size

    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, "conv2:1", transforms=(Own(),), steps=1)
    assert str(caught.value) == (
        "`place` of a geometric transform must return maps that can be inverted, and a size of at least 1 px, got a "
        f"determinant of {got} px"
    )


def test_an_image_whose_objective_rises_late_is_no_failure(net):
    @obj.objective("conv2")
    def late(acts):
        return acts["conv2"][:, 1].mean((1, 2)) * (1.0 if acts.done > 0.5 else 0.0)

    rendering = fv.render(net, [late, "conv2:2"], transforms=(), steps=128)
    assert not rendering.problems and rendering.history[-1, 0] > rendering.history[0, 0]
