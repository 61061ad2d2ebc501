"""The prepared render: how arguments are completed, which are refused, and what the engine derives from them."""

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine.job import Job
from featviz.engine.shorthand import as_param
from featviz.io import save_image
from featviz.objectives import as_objectives


def prepare(objective="conv2:1", **more):
    given = {
        "network": toys.plain(),
        "param": None,
        "transforms": (),
        "seed": 0,
        "start": None,
        "execution": fv.Execution("float32"),
        "steps": 8,
    }
    settings = {**given, **more}
    return Job.prepare(objectives=as_objectives(objective), **{**settings, "param": as_param(settings["param"])})


def message_of(error=fv.SettingError, objective="conv2:1", **more):
    with pytest.raises(error) as caught:
        prepare(objective, **more)
    return str(caught.value)


def pixels(size=None, batch=1):
    """Return a param that reproduces start images exactly."""
    return param.Image(size, batch, param.Pixel(), param.Clamped())


# ---------------------------------------------------------------------------------------------- seeds


@pytest.mark.parametrize(
    ("seed", "seeds"),
    [
        (5, (5, 6, 7, 8)),
        (np.int64(5), (5, 6, 7, 8)),
        (torch.tensor(5), (5, 6, 7, 8)),
        ((4, 9, 4, 1), (4, 9, 4, 1)),
        (range(3, 7), (3, 4, 5, 6)),
        (np.array([4, 9, 4, 1]), (4, 9, 4, 1)),
        (torch.tensor([4, 9, 4, 1]), (4, 9, 4, 1)),
        (2**63 - 4, tuple(range(2**63 - 4, 2**63))),
    ],
)
def test_seeds(seed, seeds):
    job = prepare(["conv2:1", "conv2:2"], param=param.Image(batch=2), seed=seed)
    assert job.seeds == seeds
    assert all(type(each) is int for each in job.seeds)
    assert len(job.rng) == 4


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([], "seed must be one number or one per image, got 0 seeds for 1 images"),
        ([1, 2], "seed must be one number or one per image, got 2 seeds for 1 images"),
        (-1, "seeds must be in [0, 2**63), got -1 to -1"),
        (2**63, f"seeds must be in [0, 2**63), got {2**63} to {2**63}"),
    ],
)
def test_invalid_seeds(seed, message):
    assert message_of(seed=seed) == message


# ---------------------------------------------------------------------------------------------- start images


@pytest.mark.parametrize("convert", [torch.Tensor, torch.Tensor.double, torch.Tensor.numpy])
def test_start_image_is_used_for_every_image(convert):
    start = torch.rand(3, 20, 24)
    job = prepare(param=pixels(batch=2), start=convert(start))
    assert job.size == (20, 24)  # the param has no size, so that of the start is used
    assert job.start_images.dtype == torch.float32
    assert torch.equal(job.start_images, start.expand(2, -1, -1, -1))
    assert torch.equal(job.images(job.leaves), job.start_images)


def test_start_images_one_per_image():
    start = torch.rand(2, 3, 20, 24)
    job = prepare(["conv2:1", "conv2:2"], param=pixels(), start=start)
    assert torch.equal(job.images(job.leaves), start)


def test_start_images_are_copies():
    start = torch.rand(3, 20, 24)
    job = prepare(param=pixels(batch=2), start=start)
    first = start[0, 0, 0].clone()
    start[0, 0, 0] += 1
    assert (job.start_images[:, 0, 0, 0] == first).all()
    job.start_images[0, 0, 0, 0] = 0.5
    assert job.start_images[1, 0, 0, 0] == first


def test_start_from_a_flipped_array():
    start = np.random.default_rng(0).random((3, 20, 24), dtype=np.float32)
    job = prepare(param=pixels(), start=start[:, :, ::-1])
    assert np.array_equal(job.start_images[0].numpy(), start[:, :, ::-1])


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_start_from_a_file(tmp_path, kind):
    path = tmp_path / "start.png"
    save_image(np.full((20, 24, 3), 153, np.uint8), path)
    job = prepare(param=pixels(), start=kind(path))
    assert job.size == (20, 24)
    assert torch.allclose(job.start_images, torch.full((1, 3, 20, 24), 0.6), atol=1e-3)


def test_start_is_resized_to_the_param():
    job = prepare(param=pixels((10, 12)), start=torch.full((3, 20, 24), 0.6))
    assert job.size == (10, 12)
    assert torch.allclose(job.images(job.leaves), torch.full((1, 3, 10, 12), 0.6), atol=1e-4)
    assert prepare(param=pixels((10, 11)), start=torch.rand(3, 20, 24)).size == (10, 11)  # to within a pixel


def test_size_without_start():
    assert prepare().size == (32, 32)
    assert prepare().start_images is None
    assert prepare(param=param.Image((20, 30))).size == (20, 30)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (torch.zeros(1, 3), "start must have shape (3, h, w) or (3, 3, h, w), got (1, 3)"),
        (torch.zeros(1, 32, 32), "start must have shape (3, h, w) or (3, 3, h, w), got (1, 32, 32)"),
        (torch.zeros(2, 3, 8, 8), "start must have shape (3, h, w) or (3, 3, h, w), got (2, 3, 8, 8)"),
        (torch.zeros(3, 4, 8, 8), "start must have shape (3, h, w) or (3, 3, h, w), got (3, 4, 8, 8)"),
        (torch.zeros(1, 3, 0, 8), "start of shape (1, 3, 0, 8) has no pixels"),
        (
            np.full((3, 8, 8), np.nan),
            "start holds torch.float64 from nan to nan; give floating-point numbers in [0, 1]",
        ),
        (
            np.full((3, 8, 8), 255, np.uint8),
            "start holds torch.uint8 from 255 to 255; give floating-point numbers in [0, 1]",
        ),
        (
            torch.zeros(3, 32, 40),
            "start must have the aspect ratio of the image, 32 x 32 px, got 32 x 40 px; crop it first",
        ),
    ],
)
def test_invalid_start_images(start, message):
    assert message_of(param=param.Image(32, batch=3), start=start) == message


def test_start_file_that_does_not_exist():
    assert message_of(fv.OutputError, start="missing.png") == "no file missing.png; check the path"


# ---------------------------------------------------------------------------------------------- types of arguments


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"execution": "float32"}, "execution must be a featviz.Execution, got 'float32'"),
        ({"execution": {"tile": 224}}, "execution must be a featviz.Execution, got {'tile': 224}"),
        (
            {"network": toys.Plain()},
            "network must be a Network, got Plain; use fv.load(name), or fv.Network(module, size=..., mean=..., "
            "std=...)",
        ),
    ],
)
def test_arguments_of_another_type(given, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.render(**{"network": toys.plain(), "objective": "conv2:1", "steps": 1, **given})
    assert str(caught.value) == message


@pytest.mark.parametrize("given", [3, (T.Roll(1), 3), [3]])
def test_transforms_of_another_type(given):
    assert message_of(transforms=given) == "3 is not a transform: it needs `draw` and `apply`, or `place`"


@pytest.mark.parametrize(
    ("given", "expected"),
    [(T.Roll(1), (T.Roll(1),)), ([T.Roll(1), T.Flip()], (T.Roll(1), T.Flip())), ((), ()), (None, T.STANDARD)],
)
def test_transforms_become_a_tuple(given, expected):
    assert prepare(transforms=given).transforms == expected


def test_default_transforms_of_params_with_close_views():
    assert prepare(param=param.CPPN(), transforms=None).transforms == T.NEAR


def test_param_is_completed():
    assert prepare().param == param.Image()
    assert prepare(param=param.Pixel()).param == param.Image(spatial=param.Pixel())
    assert prepare(param=param.Alpha()).param == param.Alpha()


@pytest.mark.parametrize("given", [3, param.Clamped()])
def test_param_of_another_type(given):
    message = f"{given!r} is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()"
    assert message_of(param=given) == message


# ---------------------------------------------------------------------------------------------- objectives and params


def test_objectives_that_compare_images_need_several():
    assert message_of(objective="conv2:1 + diversity(conv2)") == (
        "conv2:1 + diversity(conv2) compares images of a batch, and there is one; use batch=4, or --batch 4"
    )
    assert len(prepare("conv2:1 + diversity(conv2)", param=param.Image(batch=2)).seeds) == 2


def test_params_that_share_tensors_need_one_objective():
    stack = param.Stack((torch.rand(3, 8, 8),))
    message = "Stack shares tensors between the images of a batch; render one objective at a time"
    assert message_of(objective=["conv2:1", "conv2:2"], param=stack) == message
    assert len(prepare(param=stack).seeds) == 2


def test_objectives_that_need_the_full_view_need_views_without_tiles():
    objective = obj.Match("conv2", torch.rand(3, 200, 200))
    tiled = {"param": param.Image(200), "execution": fv.Execution("float32", tile=128)}
    message = message_of(objective=objective, **tiled)
    assert message.startswith(f"{objective} needs the full view, but a view of 200 x 200 px is cut into tiles of ")
    assert prepare(objective, param=param.Image(200)).view.size == (200, 200)


def test_objectives_are_bound_to_the_render():
    seen = []

    class Bound(obj.Objective):
        layers = frozenset({"conv2"})

        def bind(self, context):
            seen.append(context)
            return obj.Channel("conv2", 3)

    objective = Bound()
    job = prepare([objective, "conv2:1"], param=param.Image((20, 24)), transforms=T.Resize(0.5))
    assert job.objectives == (objective, obj.Channel("conv2", 1))
    assert job.bound_objectives == (obj.Channel("conv2", 3), obj.Channel("conv2", 1))
    (context,) = seen
    assert (context.channels, context.size, context.input_size) == (3, (20, 24), (10, 12))


@pytest.mark.parametrize(("first", "last"), [(0, 4), (0, 1), (1, 3), (3, 4), (1, 4)])
def test_each_image_is_scored_by_its_own_objective(first, last):
    job = prepare(["conv2:1", "conv1:2"], param=param.Image(batch=2))
    images = torch.rand(4, 3, 32, 32)
    conv1, conv2 = (job.network.capture(images, [layer])[layer] for layer in ("conv1", "conv2"))
    expected = [(conv2[i, 1] if i < 2 else conv1[i, 2]).mean() for i in range(first, last)]
    scores = job.scores(job.network.capture(images[first:last], job.layers), slice(first, last))
    assert torch.allclose(scores, torch.stack(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("score", "returned"), [(lambda acts: acts["conv2"].mean(), "()"), (lambda acts: 0.5, "float")]
)
def test_objectives_that_do_not_score_each_image(score, returned):
    mine = obj.objective("conv2")(score)
    job = prepare(["conv2:1", mine], param=param.Image(batch=2))
    with pytest.raises(fv.SettingError) as caught:
        job.scores(job.network.capture(torch.rand(4, 3, 32, 32), job.layers), slice(0, 4))
    assert str(caught.value) == (
        f"an objective must return one score per image, here a tensor of shape (2,); {mine} returned {returned}"
    )


# ---------------------------------------------------------------------------------------------- derived facts


def test_facts_are_repeated_for_each_image_of_an_objective():
    job = prepare(["conv2:1", "tv", "conv1"], param=param.Image(batch=2))
    assert job.uses_network == (True, True, False, False, True, True)
    assert job.names == ("conv2:1", "conv2:1", "tv", "tv", "conv1", "conv1")
    assert job.layers == {"conv1", "conv2"}
    assert not job.has_alpha
    assert prepare(param=param.Alpha()).has_alpha


def test_zero_until_is_that_of_the_latest_objective():
    assert prepare().zero_until == 0
    assert prepare("ramp(0, 5, 0.25) * conv2:1").zero_until == 0.25
    assert prepare(["ramp(0, 5, 0.25) * conv2:1", "ramp(0, 1, 0.5) * conv2:2", "conv1"]).zero_until == 0.5
    assert prepare("ramp(1, 5, 0.25) * conv2:1").zero_until == 0


def test_images_that_nothing_relates_run_alone():
    job = prepare(["conv2:1", "conv2:2"], param=param.Image(batch=2))
    assert job.groups == [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)]


def test_images_that_an_objective_compares_run_together():
    job = prepare(["conv2:1", "conv2:2 + diversity(conv2)", "conv1"], param=param.Image(batch=2))
    assert job.groups == [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5), slice(5, 6)]


def test_images_of_an_objective_that_needs_the_full_view_run_together():
    job = prepare([obj.Match("conv2", torch.rand(3, 8, 8)), "conv2:1"], param=param.Image(batch=2))
    assert job.groups == [slice(0, 2), slice(2, 3), slice(3, 4)]


@pytest.mark.parametrize(
    "given", [param.Image(batch=3, spatial=param.Shared()), param.Stack((torch.rand(3, 8, 8),), param.Image(batch=2))]
)
def test_images_that_share_tensors_run_together(given):
    assert prepare(param=given).groups == [slice(0, 3)]


def test_plain_view_is_that_of_the_images():
    stack = (T.Roll(2), T.Resize(0.5))
    assert prepare(transforms=stack).plain_view().size == (32, 32)
    assert prepare(transforms=stack).plain_view().transforms == ()
    assert prepare("conv2:1@2,3", transforms=stack).plain_view().size == (16, 16)  # positions are those of the views


def test_drawing_at_other_sizes():
    assert prepare().redraw(prepare().leaves) is None
    job = prepare(param=param.CPPN())
    assert job.redraw(job.leaves)((40, 20)).shape == (1, 3, 40, 20)


# ---------------------------------------------------------------------------------------------- memory


class Failing(param.Pixel):
    """A spatial part that raises an error as it draws its tensors."""

    error: Exception

    def start(self, rng, channels, size):
        raise self.error


def failing(error):
    spatial = Failing()
    vars(spatial)["error"] = error
    return param.Image((20, 24), spatial=spatial)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't allocate memory"), torch.OutOfMemoryError("no")])
def test_images_that_do_not_fit_in_memory(error):
    message = "out of memory with images of 20 x 24 px; give a smaller size"
    assert message_of(fv.RenderError, param=failing(error)) == message


def test_other_errors_of_a_param_surface():
    assert message_of(RuntimeError, param=failing(RuntimeError("my own mistake"))) == "my own mistake"
