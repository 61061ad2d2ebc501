"""Renders of networks with given inputs: the image depends on them, per image too, and so does the recipe."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from input_toys import GREEN, RED, KeywordOnly, Switched, switched

import featviz as fv
from featviz import objectives as obj
from featviz.cli import main

QUICK = {"steps": 25, "lr": 0.3, "size": 16, "progress": None, "transforms": (), "robustness_views": 0}
PER_IMAGE = fv.Given(torch.cat([RED, GREEN, RED]), per_image=True)

SEEN = np.random.default_rng(0).random((3, 16, 16), np.float32)


def redness(images: torch.Tensor) -> torch.Tensor:
    """Return how much more red than green each image is."""
    return images[:, 0].mean((1, 2)) - images[:, 1].mean((1, 2))


def test_the_image_is_the_one_that_the_given_row_asks_for():
    red, green = (fv.render(switched(row), "logit:seen", **QUICK).images for row in (RED, GREEN))
    assert redness(red).item() > 0.1
    assert redness(green).item() < -0.1


def test_a_row_for_each_image():
    net = switched(PER_IMAGE)
    together = fv.render(net, "logit:seen", batch=3, **QUICK)
    found = redness(together.images)
    assert found[0] > 0.1
    assert found[1] < -0.1
    assert found[2] > 0.1
    for i, row in enumerate((RED, GREEN, RED)):
        alone = fv.render(switched(row), "logit:seen", seed=i, **QUICK)
        assert (alone.images[0] - together.images[i]).abs().max() < 1e-3
        assert torch.allclose(alone.history[:, 0], together.history[:, i], atol=1e-4)


@pytest.mark.parametrize(
    "execution", [{"chunk_size": 1}, {"chunk_size": 2}, {"tile": 128}, {"tile": 128, "chunk_size": 2}]
)
def test_rows_follow_chunks_and_tiles(execution):
    size = 160 if "tile" in execution else 16
    net, settings = switched(PER_IMAGE), QUICK | {"robustness_views": 2, "size": size, "steps": 10}
    whole = fv.render(net, "logit:seen", batch=3, execution=fv.Execution("float32"), **settings)
    cut = fv.render(net, "logit:seen", batch=3, execution=fv.Execution("float32", **execution), **settings)
    assert (redness(cut.images).sign() == torch.tensor([1, -1, 1])).all()
    assert (cut.images - whole.images).abs().mean() < (0.02 if "tile" in execution else 1e-5)
    if "tile" not in execution:  # with tiles, the score is a mean over them
        assert torch.allclose(cut.robustness.clean, fv.score(net, "logit:seen", cut.images)[:, 0], atol=1e-4)


def test_out_of_memory_keeps_the_rows(monkeypatch):
    from featviz.engine.chunks import Chunks

    net, original, failed = switched(PER_IMAGE), Chunks._backward, []

    def fails_on_three(self, chunk, *rest):
        if len(chunk) == 3:
            failed.append(chunk)
            raise torch.OutOfMemoryError("planted")
        return original(self, chunk, *rest)

    whole = fv.render(net, "logit:seen", batch=3, **QUICK)
    monkeypatch.setattr(Chunks, "_backward", fails_on_three)
    cut = fv.render(net, "logit:seen", batch=3, **QUICK)
    assert failed
    assert torch.allclose(cut.images, whole.images, atol=1e-4)


def test_probabilities_and_several_objectives_per_image():
    net = switched(PER_IMAGE)
    rendering = fv.render(net, ["prob:seen", "logit:seen", "prob:other"], **QUICK)
    found = redness(rendering.images)
    assert found[0] > 0.1
    assert found[1] < -0.1
    assert found[2] < -0.1


# ---------------------------------------------------------------------------------------------- recipes


def test_recipes_replay_byte_equal_and_hold_small_values(tmp_path):
    net = switched(PER_IMAGE)
    rendering = fv.render(net, "logit:seen", batch=3, **QUICK)
    assert rendering.recipe.given["tabular"][:2] == ("own", "[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]")
    files = rendering.save(tmp_path)
    for i, file in enumerate(files):
        assert fv.Recipe.of(file).alone == fv.Recipe.of(file)  # image i has row i of the whole batch
        again = fv.replay(file, network=net, progress=None)
        assert torch.equal(again.images[0], rendering.images[i])


def test_replay_refuses_other_inputs_in_one_line():
    recipe = fv.render(switched(RED), "logit:seen", **QUICK).recipe
    end = "here; give the original network with --model, or net.with_given({'tabular': ...}) as network="
    start = "the image was rendered with [[1.0, 0.0]] as the input 'tabular', and Switched gets"
    plain = fv.Network(OnImages(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    for net, got in (
        (switched(GREEN), "[[0.0, 1.0]]"),
        (switched(fv.Given(RED)), "other values, [[1.0, 0.0]],"),
        (switched(RED * (1 + 1e-7)), "[[1.0000001, 0.0]]"),
    ):
        with pytest.raises(fv.RecipeError) as caught:
            fv.replay(recipe, network=net, progress=None)
        assert str(caught.value) == f"{start} {got} {end}"
    with pytest.raises(fv.RecipeError, match="and OnImages gets nothing here"):
        fv.replay(recipe, network=plain, progress=None)
    without = fv.render(plain, "0:1", **QUICK).recipe
    with pytest.raises(
        fv.RecipeError, match=r"rendered with nothing as the input 'tabular', and Switched gets \[\[1.0"
    ):
        fv.replay(without, network=switched(RED), progress=None)


class OnImages(torch.nn.Sequential):
    def __init__(self) -> None:
        super().__init__(torch.nn.Conv2d(3, 4, 3))


def test_large_values_are_in_the_recipe_by_their_hash():
    class Wide(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 1, 1)

        def forward(self, image, wide):
            return self.conv(image).mean((2, 3)) + wide.mean(1, keepdim=True)

    def net(wide):
        return fv.Network(Wide(), inputs={"image": fv.InputSpec(16, (0.5,) * 3, (0.5,) * 3), "wide": wide})

    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = net(torch.zeros(1, 1000))
        recipe = fv.render(one, "conv:0", **QUICK).recipe
        assert recipe.given["wide"][1] == "float32 (1, 1000)"
        assert len(recipe.to_json()) < 4000
        with pytest.raises(fv.RecipeError, match=r"Wide gets other values, float32 \(1, 1000\), here"):
            fv.replay(recipe, network=one.with_given({"wide": torch.ones(1, 1000)}), progress=None)


def test_recipes_differ_by_their_inputs_and_older_ones_can_be_read():
    red, green = (fv.render(switched(row), "logit:seen", **QUICK).recipe for row in (RED, GREEN))
    assert red.hash != green.hash
    assert red.hash == fv.Recipe.from_json(red.to_json()).hash
    plain = fv.render(fv.Network(OnImages(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3), "0:1", **QUICK).recipe
    content = json.loads(plain.to_json())
    del content["given"]
    assert fv.Recipe.from_json(json.dumps(content)) == plain
    for wrong in ({"tabular": "text"}, {"tabular": ["own", "[]"]}, ["tabular"], {"tabular": [1, 2, 3]}):
        with pytest.raises(fv.RecipeError, match="the recipe cannot be read"):
            fv.Recipe.from_json(json.dumps(json.loads(red.to_json()) | {"given": wrong}))
    assert replace(red, given={}).hash != red.hash


# ---------------------------------------------------------------------------------------------- errors


def test_another_number_of_images_is_told_in_one_line():
    net = switched(PER_IMAGE)
    with pytest.raises(fv.SettingError) as caught:
        fv.render(net, "logit:seen", batch=2, **QUICK)
    assert str(caught.value) == (
        "Switched has inputs per image, for 3 images, and 2 are rendered; give batch=3, as many objectives, or "
        "other inputs with net.with_given(...)"
    )
    for run in (
        lambda: net.capture(torch.rand(2, 3, 16, 16), [""]),
        lambda: fv.score(net, "logit:seen", torch.rand(2, 3, 16, 16)),
    ):
        with pytest.raises(fv.SettingError) as caught:
            run()
        assert str(caught.value) == (
            "Switched has inputs per image, for 3 images, and gets 2; give as many images, or one row for all with "
            "net.with_given(...)"
        )


def test_what_makes_batches_of_its_own_refuses_inputs_per_image():
    net = switched(PER_IMAGE)
    with pytest.raises(fv.SettingError) as caught:
        fv.explain(net, torch.rand(3, 16, 16), "logit:seen")
    assert str(caught.value) == (
        "Switched has inputs per image (tabular), and explain needs them for all images; give one row with "
        "net.with_given(...)"
    )
    with pytest.raises(fv.SettingError) as caught:
        fv.combine(one=net, other=switched())
    assert str(caught.value) == "combined networks need inputs that are the same for all images; one has some per image"


@pytest.mark.parametrize(
    "objective",
    [obj.Match("color", SEEN), obj.Style("color", SEEN), obj.Caricature("color", SEEN), obj.Guide("color", SEEN)],
)
def test_references_have_no_row_of_inputs_per_image(objective):
    """Three references would even run, with the rows of other images."""
    for render in (
        lambda: fv.render(switched(PER_IMAGE), objective, batch=3, **QUICK),
        lambda: fv.score(switched(PER_IMAGE), objective, torch.rand(3, 3, 16, 16)),
    ):
        with pytest.raises(fv.SettingError) as caught:
            render()
        assert str(caught.value) == (
            "the objective runs the network on an image of its own, for which inputs that are given per image "
            "(tabular) have no row; give one row for all with net.with_given(...)"
        )
    assert fv.render(switched(), objective, **QUICK).images.shape == (1, 3, 16, 16)


def test_references_of_pixels_alone_go_with_inputs_per_image():
    target = obj.InputDifference(SEEN)
    rendering = fv.render(switched(PER_IMAGE), obj.parse("logit:seen") - 100 * target, batch=3, **QUICK)
    assert (rendering.images - torch.from_numpy(SEEN)).abs().mean() < 0.2


# ---------------------------------------------------------------------------------------------- command line

OWN = """
import torch
import featviz as fv
from torch import nn


class Scan(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.table = nn.Conv2d(3, 4, 3), nn.Linear(2, 4)

    def forward(self, *, image, tabular):
        return self.conv(image).mean((2, 3)) + self.table(tabular)


def net(row=(63.0, 1.0)):
    inputs = {"image": fv.InputSpec(16, (0.5,) * 3, (0.5,) * 3), "tabular": torch.tensor([row])}
    return fv.Network(Scan(), inputs=inputs)


def other():
    return net((20.0, 0.0))
"""


def test_on_the_command_line(capsys):
    Path("scan.py").write_text(OWN)
    quick = ["--steps", "3", "--quiet", "-o", "a.png"]
    assert main(["layers", "--model", "scan.py:net"]) == 0
    assert "conv   map     4x14x14" in capsys.readouterr().out
    assert main(["render", "logit:2", "--model", "scan.py:net", "--size", "24", *quick]) == 0
    assert fv.Recipe.of("a.png").given["tabular"][:2] == ("one", "[[63.0, 1.0]]")
    assert main(["replay", "a.png", "--model", "scan.py:net", "--quiet"]) == 0
    assert "the same as the image, to the byte" in capsys.readouterr().out
    assert main(["explain", "a.png", "logit:2", "--model", "scan.py:net", "--quiet", "-o", "e.png"]) == 0
    capsys.readouterr()
    assert main(["replay", "a.png", "--model", "scan.py:other", "--quiet"]) == 2
    assert capsys.readouterr().err.strip() == (
        "featviz: the image was rendered with [[63.0, 1.0]] as the input 'tabular', and scan.py:other gets "
        "[[20.0, 0.0]] here; give the original network with --model, or net.with_given({'tabular': ...}) as network="
    )


def test_a_broken_input_on_the_command_line_is_one_line(capsys):
    Path("scan.py").write_text(OWN.replace("(63.0, 1.0)", "(63.0, 1.0, 2.0)"))
    assert main(["layers", "--model", "scan.py:net"]) == 2
    found = capsys.readouterr().err.strip()
    start = "featviz: scan.py:net does not run on images (n, 3, h, w), tabular = float32 (1, 3): RuntimeError: mat1"
    assert found.startswith(start)
    assert "\n" not in found


def test_switched_is_what_it_says():
    image = torch.zeros(1, 3, 4, 4)
    image[:, 0] = 1
    assert Switched()(image, RED)[0, 0] == 1
    assert Switched()(image, GREEN)[0, 0] == -1
    assert KeywordOnly().head.weight.equal(KeywordOnly().head.weight)
