"""Several inputs are optimised at once: planted kernels of each are recovered, and files replay to the byte."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from input_toys import AUDIO, BOTH, IMAGE, SEVERAL, PairByName, chirp, corner, matched_pair
from torch import nn

import featviz as fv
from featviz import objectives as obj
from featviz import optimizers, param, transforms
from featviz.apps.replay import RECIPE_NAMES
from featviz.cli import main
from featviz.engine import parse_repr
from featviz.engine.draws import StepDraws
from featviz.network.inputs.packing import join, split
from featviz.random import Generators
from featviz.transforms.fusing import apply_draws

QUICK = {"steps": 12, "lr": 0.2, "progress": None, "transforms": (), "robustness_views": 0}
SHAPES = {"image": (1, 24, 24), "audio": (1, 96)}


@functools.cache
def quick() -> fv.Rendering:
    return fv.render(matched_pair(), "logit:both", **QUICK)


def best_correlation(found: torch.Tensor, kernel: torch.Tensor) -> float:
    """The largest correlation of a kernel with any window."""
    windows = found
    for axis, side in enumerate(kernel.shape):
        windows = windows.unfold(axis, side, 1)
    windows = windows.flatten(0, found.ndim - 1).flatten(1)
    return max(np.corrcoef(window, kernel.flatten())[0, 1] for window in windows.numpy())


# ---------------------------------------------------------------------------------------------- known truth


def test_the_kernels_of_both_inputs_are_recovered():
    rendering = fv.render(matched_pair(), "logit:both", **QUICK | {"steps": 48, "lr": None})
    seen, heard = (rendering.inputs[name].values[0, 0] for name in SHAPES)
    assert best_correlation(seen, corner()) >= 0.95
    assert best_correlation(heard, chirp()) >= 0.95
    assert best_correlation(seen, corner().flip(1)) < 0.8
    assert best_correlation(heard, chirp().flip(0)) < 0.8
    assert heard.abs().max() > 0.4  # in the range of the data, -1 to 1, not [0, 1]
    assert heard.min() < -0.4


@pytest.mark.parametrize("way", list(SEVERAL)[1:])
def test_the_module_takes_its_inputs_in_any_way(way):
    rendering = fv.render(matched_pair(way), "logit:both", **QUICK)
    assert tuple(rendering.inputs) == SEVERAL[way][2]
    assert torch.equal(rendering.images, quick().images)


@pytest.mark.slow
def test_each_input_has_its_own_param_and_transforms():
    views = {"image": transforms.Shift(0.1)}  # the audio gets those of signals
    params = {"image": param.Fourier(decay=0.5), "audio": param.Image((128,))}
    rendering = fv.render(matched_pair(), "logit:both", param=params, transforms=views, steps=128, progress=None)
    assert rendering.shapes == {"image": (1, 24, 24), "audio": (1, 128)}
    assert best_correlation(rendering.inputs["image"].values[0, 0], corner()) >= 0.95
    assert rendering.robustness.retained.item() > 0.8
    assert "Shift(share=0.1)" in rendering.recipe.transforms
    assert "Noise" in rendering.recipe.transforms


def test_gradients_reach_both_inputs_as_when_the_module_is_called():
    net, rng = matched_pair(), torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, *shape, generator=rng) for name, shape in SHAPES.items()}
    direct = {name: each.clone().requires_grad_() for name, each in images.items()}
    normalised = {"image": (direct["image"] - 0.5) / 0.25, "audio": (2 * direct["audio"] - 1) / 0.5}
    expected = net.module.pair(**normalised)
    packed = net.pack(images).requires_grad_()
    found = net.capture(packed, [""]).logits()
    assert torch.allclose(found, expected, atol=1e-5)
    found[:, 0].sum().backward()
    expected[:, 0].sum().backward()
    for name, each in split(packed.grad, SHAPES).items():
        assert direct[name].grad.abs().sum() > 0
        assert torch.allclose(each, direct[name].grad, atol=1e-5)
    assert torch.allclose(fv.score(net, "logit:both", net.pack(images))[:, 0], expected[:, 0], atol=1e-5)


def test_packing_is_undone_by_unpacking():
    images = {name: torch.rand(3, *shape) for name, shape in SHAPES.items()}
    packed = join(images.values())
    assert packed.shape == (3, 1, 24 * 24 + 96)
    assert all(torch.equal(each, images[name]) for name, each in split(packed, SHAPES).items())
    with pytest.raises(ValueError, match="packed inputs must have length 672, got 671"):
        split(packed[..., 1:], SHAPES)


def test_with_a_value_for_one_the_other_is_rendered_as_a_single_input():
    heard = torch.rand(1, 1, 96, generator=torch.Generator().manual_seed(0))
    before = fv.Network(PairByName(), inputs={"image": IMAGE, "audio": heard}, classes=("both", "seen", "heard"))
    after = matched_pair().with_given({"audio": heard})
    assert after.input == IMAGE
    assert not after.inputs
    assert after.fingerprint == before.fingerprint
    one, other = (fv.render(net, "logit:both", steps=8, progress=None) for net in (before, after))
    assert torch.equal(one.images, other.images)
    assert one.recipe.hash == other.recipe.hash
    assert not one.inputs


def test_layers_of_each_input_have_its_axes():
    table = matched_pair().table
    assert table["image"].layout.axes == 2
    assert table["audio"].layout.axes == 1
    assert table["image"].map_size == (16, 16)
    assert table["audio"].map_size == (64,)
    rendering = fv.render(matched_pair(), ["image:0@3,4", "audio:0@20"], **QUICK)
    changed = rendering.inputs["image"].images.std((1, 2, 3))
    assert changed[0] > 2 * changed[1]  # each unit changes what it reads


# ---------------------------------------------------------------------------------------------- batches and stopping


def test_chunks_and_batches_do_not_change_the_result():
    net, settings = matched_pair(), QUICK | {"transforms": {"image": transforms.Jitter(3), "audio": ()}}
    whole = fv.render(net, "logit:both", batch=3, execution=fv.Execution("float32"), **settings)
    cut = fv.render(net, "logit:both", batch=3, execution=fv.Execution("float32", chunk_size=2), **settings)
    alone = fv.render(net, "logit:both", seed=1, execution=fv.Execution("float32"), **settings)
    assert len(whole.inputs["audio"]) == 3
    assert torch.allclose(cut.images, whole.images, atol=1e-4)
    assert torch.allclose(alone.images[0], whole.images[1], atol=1e-3)
    assert not torch.allclose(whole.images[0], whole.images[1], atol=1e-2)


def test_the_steps_are_drawn_ahead_as_for_one_input():
    settings = QUICK | {"transforms": None}
    rendering = fv.render(matched_pair(), "logit:both", **settings)
    stopped = fv.render(matched_pair(), "logit:both", **settings, until=6)
    assert torch.equal(stopped.history, rendering.history[:6])
    stack = parse_repr(rendering.recipe.transforms, RECIPE_NAMES)
    ahead, one_by_one = (StepDraws(stack, Generators([3, 4]), 20) for _ in range(2))
    images = torch.rand(2, 1, 24 * 24 + 96, generator=torch.Generator().manual_seed(0))
    for step in range(20):
        views = []
        for draws in (ahead, one_by_one):
            if draws is one_by_one:
                draws._is_ahead = False
            views.append(apply_draws(images, stack, draws.next())[0])
        assert torch.equal(*views)
        assert (ahead.ahead() is not None) == (step < 19)  # a CUDA graph needs that


def test_an_interrupted_render_returns_both_inputs():
    def stop(done, _steps):
        if done == 5:
            raise KeyboardInterrupt

    rendering = fv.render(matched_pair(), "logit:both", **QUICK | {"progress": stop}, snapshots=[2])
    assert rendering.recipe.until == 5
    assert [tuple(each.images.shape) for each in rendering.inputs.values()] == [(1, 1, 24, 24), (1, 1, 96)]
    assert rendering.inputs["audio"].snapshots[2].shape == (1, 1, 96)
    again = fv.replay(rendering.recipe, network=matched_pair(), progress=None)
    assert torch.equal(again.images, rendering.images)


def test_given_inputs_stand_beside_several_optimised_ones():
    class Gated(PairByName):
        def forward(self, *, image, audio, gate):
            return self.pair(image, audio) * gate

    gate = fv.Given(torch.tensor([[1.0, 1, 1], [-1, 1, 1]]), per_image=True)
    net = fv.Network(Gated(), inputs=BOTH | {"gate": gate}, classes=("both", "seen", "heard"))
    rendering = fv.render(net, "logit:both", batch=2, **QUICK)
    assert (rendering.history[-1] > rendering.history[0]).all()
    plain = fv.score(matched_pair(), "logit:both", rendering.images)[:, 0]
    assert plain[0] > 0.5
    assert plain[1] < plain[0]


def test_an_input_that_does_not_matter_is_warned_of():
    with pytest.warns(fv.FeatvizWarning) as caught:
        fv.render(matched_pair(), "logit:seen", **QUICK)
    assert [str(each.message) for each in caught] == [
        "the input 'audio' did not change, as logit:seen has no gradient there; choose a layer that depends on it, or "
        "give it a value with net.with_given({'audio': ...})"
    ]


@pytest.mark.parametrize("own", [param.CPPN(), param.Pyramid(), param.Shared()])
def test_params_with_other_tensors_split_as_they_were_joined(own):
    batch = 2 if isinstance(own, param.Shared) else 1
    rendering = fv.render(matched_pair(), "logit:both", param={"image": own}, batch=batch, **QUICK)
    assert (rendering.history[-1] > rendering.history[0]).all()
    names = RECIPE_NAMES
    assert repr(parse_repr(rendering.recipe.param, names)) == rendering.recipe.param


@pytest.mark.parametrize("term", ["tv", "l2", "blur"])
def test_regularizers_are_means_over_the_inputs(term):
    net, rng = matched_pair(), torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, *shape, generator=rng) for name, shape in SHAPES.items()}
    alone = [
        fv.score(net.with_given({other: torch.zeros(1, *SHAPES[other])}), term, images[name])[:, 0]
        for name, other in (("image", "audio"), ("audio", "image"))
    ]
    assert torch.allclose(fv.score(net, term, net.pack(images))[:, 0], sum(alone) / 2, atol=1e-6)
    if term == "tv":
        plain, smooth = (fv.render(net, text, **QUICK) for text in ("logit:both", "logit:both - 30*tv"))
        assert fv.score(net, term, smooth.images) < fv.score(net, term, plain.images)


def test_another_optimizer_follows_both():
    settings = {key: value for key, value in QUICK.items() if key != "lr"}
    rendering = fv.render(matched_pair(), "logit:both", optimizer=optimizers.Ascent(), **settings)
    assert rendering.history[-1] > rendering.history[0]


# ---------------------------------------------------------------------------------------------- recipes and files


def test_recipes_rebuild_their_values():
    rendering = fv.render(matched_pair(), "logit:both", param={"audio": "pixel"}, **QUICK)
    recipe = rendering.recipe
    assert fv.Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.inputs == (("image", IMAGE), ("audio", AUDIO))
    for text in (recipe.param, recipe.transforms):
        value = parse_repr(text, RECIPE_NAMES)
        assert repr(value) == text
        assert value == parse_repr(text, RECIPE_NAMES)
        assert hash(value) == hash(parse_repr(text, RECIPE_NAMES))
    parts = rendering.inputs
    assert len({recipe.hash, *(each.recipe.hash for each in parts.values())}) == 3
    assert parts["audio"].recipe.spec == AUDIO
    assert recipe.spec == recipe.input
    content = json.loads(recipe.to_json())
    for wrong in ({"part": "video"}, {"inputs": [["image", 3]]}, {"inputs": 3}, {"inputs": [["image"]]}):
        with pytest.raises(fv.RecipeError, match="the recipe cannot be read"):
            fv.Recipe.from_json(json.dumps(content | wrong))


@pytest.mark.parametrize("ending", [pytest.param(".png", marks=pytest.mark.slow), ".npy"])
def test_files_of_each_input_replay_to_the_byte(tmp_path, ending):
    net = matched_pair()
    rendering = fv.render(net, "logit:both", batch=2, **QUICK | {"transforms": None, "steps": 3})
    files = rendering.save(tmp_path / f"pair{ending}")
    assert [file.name for file in files] == [f"pair-image{ending}", f"pair-audio{ending}"]
    for file, name in zip(files, SHAPES, strict=True):
        again = fv.replay(file, network=net, progress=None)
        assert again.recipe.part == name
        assert torch.equal(again.images, rendering.inputs[name].images)
    assert np.array_equal(
        np.load(rendering.inputs["audio"].save(tmp_path / "a.npy")[0]), rendering.inputs["audio"].values.numpy()
    )


def test_a_folder_gets_a_file_per_image_and_input(tmp_path):
    net = matched_pair()
    rendering = fv.render(net, "logit:both", batch=2, **QUICK)
    names = ["00-logit_both-image.png", "00-logit_both-audio.npy", "01-logit_both-image.png", "01-logit_both-audio.npy"]
    assert [file.name for file in rendering.save(tmp_path)] == names
    assert not {file.name for file in rendering.save(tmp_path)} & set(names)  # nothing is replaced
    again = fv.replay(tmp_path / names[3], network=net, progress=None)
    assert torch.equal(again.images[0], rendering.inputs["audio"].images[1])
    with pytest.raises(fv.OutputError, match=r"\.wav"):
        rendering.save(tmp_path / "both.wav")  # the image is no sound
    assert not list(tmp_path.glob("both*"))


@pytest.mark.slow
def test_notebooks_show_every_input():
    pytest.importorskip("matplotlib")
    rendering = fv.render(matched_pair(), "logit:both", batch=2, **QUICK)
    assert repr(rendering) == "<Rendering of logit:both, logit:both: 2 x image 24x24, audio 96 px, 12 steps>"
    assert rendering._repr_png_().startswith(b"\x89PNG")
    assert rendering._repr_html_() is None
    assert len(rendering.images_pil) == 4
    assert rendering.images_pil[0].size == (24, 24)
    assert len(rendering[1].images_pil) == 2
    assert rendering.file_name == "logit_both.png"
    assert rendering.inputs["audio"][0].file_name == "logit_both-audio.npy"


# ---------------------------------------------------------------------------------------------- messages


@obj.objective("image")
def brightness(acts):
    return acts.images.flatten(1).mean(1) + acts["image"].flatten(1).mean(1)


MANY = [
    ({"param": {"video": param.Pixel()}}, "no input 'video' for param; PairByName optimises image and audio"),
    ({"param": {"imag": "pixel"}}, "no input 'imag' for param; PairByName optimises image and audio"),
    ({"param": {"image": 3}}, "3 is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()"),
    ({"param": {"image": param.Image((7,))}}, "size of 'image' must have 2 numbers, as the input (24, 24), got (7,)"),
    ({"param": {"image": param.Alpha()}}, "param of the input 'image' must give images of shape (1, 24, 24), got (2, 24, 24); with several inputs none can have an alpha channel"),
    ({"param": {"image": param.Image(batch=2), "audio": param.Image(batch=3)}}, "params of several inputs need the same batch, got 2 and 3; give each the same batch"),
    ({"param": {"image": param.Masked(np.ones((24, 24), np.float32))}}, "param of the input 'image' needs a start image, and several inputs start from noise; choose another param, or give values for the other inputs with net.with_given(...)"),
    ({"transforms": {"image": transforms.CompositeAlpha()}}, "CompositeAlpha() needs an alpha channel, and with several inputs none has one; leave it out"),
    ({"transforms": {"audio": transforms.Rotate(5)}}, "Rotate(degrees=5) needs images with two axes or more, and signals have one; leave it out"),
    ({"size": 32}, "PairByName optimises image and audio, which each have a size; give it in the param of each, as in param={'image': param.Image(size=...)}"),
    ({"start": torch.rand(1, 24, 24)}, "PairByName optimises image and audio, which start from noise; leave out start, or give values for all but one with net.with_given(...)"),
    ({"transforms": {"image": 3}}, "3 for the input 'image' is not a transform: it needs `draw` and `apply`, or `place`"),
    ({"transforms": {"sound": ()}}, "no input 'sound' for transforms; PairByName optimises image and audio"),
]  # fmt: skip
WITH_IMAGES = [
    (brightness, "the objective is about one image, and the inputs image and audio are optimised; leave out such terms, or give values for all inputs but one with net.with_given(...)"),
    (obj.InputDifference(np.zeros((1, 24, 24), np.float32)), "the objective reads an image, and the inputs image and audio are optimised; give values for all but one with net.with_given(...), or leave it out"),
    (obj.Match("image", np.zeros((1, 24, 24), np.float32)), "the objective reads an image, and the inputs image and audio are optimised; give values for all but one with net.with_given(...), or leave it out"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), MANY)
def test_bad_settings_are_told_in_one_line(settings, message):
    with pytest.raises(fv.FeatvizError) as caught:
        fv.render(matched_pair(), "logit:both", **QUICK | settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(("objective", "message"), WITH_IMAGES)
def test_objectives_about_images_are_refused(objective, message):
    with pytest.raises(fv.FeatvizError) as caught:
        fv.render(matched_pair(), objective, **QUICK)
    assert str(caught.value) == message


def test_a_transform_that_draws_the_size_is_refused():
    class Random:
        def draw(self, rng, shape):
            return 2 + int(4 * rng.uniform(1)[0])

        def apply(self, images, draw):
            return nn.functional.interpolate(images, size=(8 * draw, 8))

    with pytest.raises(fv.SettingError) as caught:
        fv.render(matched_pair(), "logit:both", **QUICK | {"transforms": {"image": Random()}})
    assert str(caught.value) == (
        "transforms of the input 'image' must give views of one size, where several inputs are optimised; leave out the "
        "one that draws the size"
    )


def test_dicts_for_one_input_are_refused():
    net = matched_pair().with_given({"audio": torch.zeros(1, 1, 96)})
    for what, value in (("param", {"image": "pixel"}), ("transforms", {"image": ()})):
        with pytest.raises(fv.SettingError) as caught:
            fv.render(net, "logit:both", **QUICK | {what: value})
        assert str(caught.value) == (
            f"a dict as {what} needs a network that optimises several inputs, and PairByName optimises one; give its "
            f"{what} alone"
        )


def test_functions_for_one_input_refuse_several(tmp_path):
    net = matched_pair()
    for name, call in {
        "gallery": lambda: fv.gallery(net, tmp_path / "g"),
        "sweep": lambda: fv.sweep(net, tmp_path / "s", "image"),
        "explain": lambda: fv.explain(net, torch.rand(1, 24, 24), "logit:both"),
        "dream": lambda: fv.dream(net, tmp_path / "a.png"),
        "examples": lambda: fv.examples(net, tmp_path, "image"),
        "unit": lambda: fv.unit(net, "image:0", photographs=tmp_path),
        "doctor": lambda: fv.doctor(net),
    }.items():
        with pytest.raises(fv.SettingError) as caught:
            call()
        assert str(caught.value) == (
            f"PairByName optimises image and audio, and {name} works on one input; give a value for 'audio': "
            "net.with_given({'audio': ...})"
        )
    for call, message in (
        (lambda: fv.combine(one=net, two=matched_pair()), "combined networks must each optimise one input; one optimises image and audio; give values for all but one with net.with_given(...)"),
        (lambda: fv.fit_prior(torch.rand(4, 1, 24, 24), network=net), "PairByName optimises image and audio, and a prior is about one input; give values for the others with net.with_given(...)"),
        (lambda: net.with_input(size=48), "PairByName has an fv.InputSpec for each of image, audio; make another network with fv.Network(module, inputs=...)"),
        (lambda: net.with_given({"image": torch.rand(1, 1, 24, 24), "audio": torch.zeros(1, 1, 96)}), "one input must stay an fv.InputSpec to be optimised, got values for image, audio"),
        (lambda: net.layers(48), "PairByName does not accept images of 48 px; each input has the size of its fv.InputSpec: image (1, 24, 24), audio (1, 96)"),
        (lambda: net.with_given({"video": 1}), "no input 'video'; the inputs are 'image', 'audio'"),
        (lambda: fv.score(net, "logit:both", torch.rand(1, 1, 24, 24)), "PairByName optimises several inputs; give their images as net.pack({'image': ..., 'audio': ...})"),
        (lambda: net.pack({"image": torch.rand(1, 1, 24, 24)}), "PairByName optimises image and audio; images must be a dict by name, got {'image'}"),
        (lambda: net.pack({"image": torch.rand(1, 1, 24, 24), "audio": torch.rand(1, 1, 95)}), "images of 'audio' must be of 96 px, got (1, 1, 95)"),
        (lambda: net.pack({"image": torch.rand(2, 1, 24, 24), "audio": torch.rand(1, 1, 96)}), "inputs must be for the same number of images, got image 2, audio 1"),
        (lambda: quick().values, "each optimised input has its own values; use rendering.inputs['image'].values"),
        (lambda: quick().at(12), "images of several inputs have a fixed size; give it in the param of each input"),
    ):  # fmt: skip
        with pytest.raises(fv.FeatvizError) as caught:
            call()
        assert str(caught.value) == message


def test_a_stack_sets_the_batch_of_the_others():
    stack = param.Stack((np.zeros((1, 24, 24), np.float32),))
    rendering = fv.render(matched_pair(), "logit:both", param={"image": stack}, **QUICK)
    images = rendering.inputs["image"].images
    assert len(images) == len(rendering.inputs["audio"]) == 2
    assert not images[0].any()
    assert images[1].std() > 0


def test_replay_refuses_a_network_with_other_inputs():
    recipe = quick().recipe
    end = "; give the original network with --model, or network="
    for net, now in (
        (matched_pair().with_given({"audio": torch.zeros(1, 1, 96)}), None),
        (matched_pair(audio=fv.InputSpec((96,), (0.0,), (0.4,))), "other specifications of them"),
        (fv.Network(PairByName(), inputs={"audio": AUDIO, "image": IMAGE}), "'audio' and 'image'"),
    ):
        with pytest.raises(fv.RecipeError) as caught:
            fv.replay(recipe, network=net, progress=None)
        if now:
            start = "the image was rendered with 'image' and 'audio' optimised, and PairByName has"
            assert str(caught.value) == f"{start} {now}{end}"
        else:
            assert "rendered with nothing as the input 'audio', and PairByName gets float32 (1, 1, 96)" in str(
                caught.value
            )


# ---------------------------------------------------------------------------------------------- command line

OWN = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from input_toys import matched_pair as net
"""


@pytest.mark.slow
def test_on_the_command_line(capsys):
    Path("pair.py").write_text(OWN)
    assert main(["layers", "--model", "pair.py:net"]) == 0
    assert "audio  map     1x64" in capsys.readouterr().out
    assert main(["render", "logit:both", "--model", "pair.py:net", "--steps", "3", "--quiet", "-o", "a.png"]) == 0
    assert {file.name for file in Path().glob("a*.png")} == {"a-image.png", "a-audio.png"}
    assert fv.Recipe.of("a-audio.png").part == "audio"
    capsys.readouterr()
    for name in ("image", "audio"):
        assert main(["replay", f"a-{name}.png", "--model", "pair.py:net", "--quiet"]) == 0
        assert "the same as the image, to the byte" in capsys.readouterr().out
    assert main(["render", "logit:both", "--model", "pair.py:net", "--steps", "2", "--quiet", "-o", "b.wav"]) == 2
    assert "b.wav: .wav is for signals; for images end it in .png" in capsys.readouterr().err  # before the render
    assert main(["render", "logit:both", "--model", "pair.py:net", "--steps", "2", "--quiet", "--param", "pixel"]) == 0
    assert fv.Recipe.of("logit_both-audio.npy").param.count("Pixel(") == 2
    assert "Standardized" in fv.Recipe.of("logit_both-audio.npy").param
    capsys.readouterr()
    again = ["render", "logit:both", "--model", "pair.py:net", "--steps", "2", "--quiet", "--rate", "100"]
    assert main(again) == 0
    assert capsys.readouterr().out.split() == ["logit_both-image-2.png", "logit_both-audio-2.npy"]
    assert main([*again, "--param", "cppn", "--at", "64"]) == 2
    assert "--at is about one input" in capsys.readouterr().err
    assert main(["gallery", "--model", "pair.py:net", "--quiet", "-o", "g"]) == 2
    assert "works on one input; give a value for 'audio'" in capsys.readouterr().err
