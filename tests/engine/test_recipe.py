"""A recipe is text that makes a picture again and runs nothing."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz import param
from featviz import transforms as T
from featviz.engine import parse_repr
from featviz.io import read_image

NAMES = {name: getattr(drawer, name) for drawer in (obj, param, T, fv) for name in drawer.__all__}


@pytest.mark.parametrize(
    "value",
    [
        param.Image((40, 50), batch=3, spatial=param.Pixel(std=0.5), color=param.Plain()),
        T.LUCID,
        T.STANDARD,
        (T.Rotate(T.Uniform(-3.0, 4.0)), T.Flip(), T.Resize((3, 4))),
        fv.optimizers.Adam(lr=0.1),
        obj.parse("3 - 2*stage2:5@cls/(logit:spiral + -0.5)"),
    ],
)
def test_a_repr_is_read_back_as_the_value(value):
    assert parse_repr(repr(value), NAMES) == value


@pytest.mark.parametrize(
    "evil",
    [
        "__import__('os').system('true')",
        "().__class__",
        "[x for x in (1,)]",
        "Pixel.__init__",
        "(lambda: 1)()",
        "2**9**9",
        "Pixel(**{'std': 1})",
        "f'{1}'",
        "open('x')",
        "1 if 1 else 2",
        "'a' * 10000000000",
        "(1,) * 10000000000",
        "1 / 0",
        "Pixel(" * 500,
    ],
)
def test_a_recipe_never_runs_code(evil):
    with pytest.raises(fv.RecipeError):
        parse_repr(evil, NAMES)


@pytest.mark.parametrize(
    "evil",
    ["find('evil.py:run')()", "find('evil.py:run')", "load('evil.py:run')", "parse('stage1')", "read_image('evil.py')"],
)
def test_a_strangers_picture_cannot_reach_what_imports_files(motifnet, tmp_path, evil):
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef run(): pass\n")
    recipe = fv.render(motifnet, "stage1:0", steps=0).recipe
    for field in ("param", "transforms", "optimizer"):
        with pytest.raises(fv.RecipeError):
            fv.replay(replace(recipe, **{field: evil}))
    with pytest.raises(fv.RecipeError):
        fv.replay(replace(recipe, objectives=(evil,)))
    with pytest.raises(fv.RecipeError, match="a picture never runs code"):
        fv.replay(replace(recipe, model="evil.py:run"))
    with pytest.raises(fv.RecipeError, match="the recipe cannot be read"):
        fv.Recipe.from_json(replace(recipe, expects={"device": "cpu"}).to_json())
    assert not (tmp_path / "ran").exists()


def test_what_is_ones_own_has_to_be_given():
    with pytest.raises(fv.RecipeError) as caught:
        parse_repr("Channel('a', 1) + top_left", NAMES)
    assert str(caught.value) == (
        "'top_left' is not one of featviz's names; nearest: 'combine', 'to_bytes', 'Style'; "
        "if it is your own, give it: --own path/to/file.py:top_left "
        "(a picture never runs code)"
    )


def test_json_round_trip_and_later_formats():
    recipe = fv.render(toys.plain(), "conv1:0", steps=1).recipe
    assert fv.Recipe.from_json(recipe.to_json()) == recipe
    later = json.dumps(json.loads(recipe.to_json()) | {"featviz": 99})
    with pytest.raises(fv.RecipeError, match="the recipe has format 99, this featviz reads 3; use another version"):
        fv.Recipe.from_json(later)
    for broken in ("", "[]", "{}", '{"featviz": 1}'):
        with pytest.raises(fv.RecipeError):
            fv.Recipe.from_json(broken)


def test_the_hash_names_the_picture_not_the_machine():
    net = toys.plain()
    one = fv.render(net, "conv1:0", steps=1).recipe
    assert one.hash == fv.render(net, "conv1:0", steps=1).recipe.hash
    assert one.hash != fv.render(net, "conv1:0", steps=1, seed=1).recipe.hash


def test_replay_is_equal_to_the_byte(motifnet, tmp_path):
    rendering = fv.render(
        motifnet, ["stage1:3", "logit:star - 0.1*stage2"], param=param.Image((40, 56)), steps=6, seed=7
    )
    rendering.save(tmp_path / "sheet.png")
    (tmp_path / "each").mkdir()
    _, second = rendering.save(tmp_path / "each")
    assert torch.equal(fv.replay(tmp_path / "sheet.png", device="cpu").images, rendering.images)
    assert torch.equal(fv.replay(second, device="cpu").images, rendering[1].images)


def test_replay_runs_as_far_as_the_picture_did(motifnet, tmp_path):
    stopped = fv.render(motifnet, "stage1:3", steps=6, until=3)
    assert len(stopped.history) == 3
    stopped.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu").images, stopped.images)


def test_replay_of_what_is_ones_own(motifnet, tmp_path):
    @obj.objective("stage1")
    def corner(acts):
        return acts["stage1"][:, 0, 0, 0]

    picture = tmp_path / "own.png"
    rendering = fv.render(motifnet, corner + obj.Channel("stage1", 2), steps=2)
    rendering.save(picture)
    with pytest.raises(fv.RecipeError, match="'corner' is not one of featviz's names"):
        fv.replay(picture)
    assert torch.equal(fv.replay(picture, own={"corner": corner}, device="cpu").images, rendering.images)

    net = toys.plain()
    fv.render(net, "conv1:0", steps=1).save(picture)
    with pytest.raises(fv.RecipeError, match="network was made in Python; a picture never runs code"):
        fv.replay(picture)
    assert len(fv.replay(picture, network=net)) == 1
    with pytest.raises(fv.RecipeError, match="the picture was made with weights"):
        fv.replay(picture, network=motifnet)


def test_replay_says_what_it_started_from(motifnet, tmp_path):
    fv.render(motifnet, "stage1:0", steps=1, start=torch.rand(3, 64, 64)).save(tmp_path / "a.png")
    with pytest.raises(fv.RecipeError, match="begun with an image made in Python, which is not here; give it"):
        fv.replay(tmp_path / "a.png")


def test_a_start_file_that_changed_is_found_out(motifnet, tmp_path, photo):
    start = tmp_path / "start.png"
    fv.render(motifnet, "stage1:0", steps=0, start=photo).save(start)
    rendering = fv.render(motifnet, "stage1:0", steps=1, start=start)
    rendering.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu").images, rendering.images)
    moved = start.rename(tmp_path / "moved.png")
    with pytest.raises(
        fv.RecipeError, match=r"begun with .*start.png, which is not here; give it with --start, or start=$"
    ):
        fv.replay(tmp_path / "a.png", device="cpu")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu", start=moved).images, rendering.images)
    (noise,) = fv.render(motifnet, "stage1:0", steps=1).save(tmp_path / "noise.png")
    with pytest.raises(fv.SettingError, match=r"begun with noise, not with .*moved.png; leave that out$"):
        fv.replay(noise, device="cpu", start=moved)
    fv.render(motifnet, "stage1:0", steps=0, start=photo.flip(-1)).save(start)
    with pytest.raises(fv.RecipeError, match=r"started from .*start.png, which holds another image now$"):
        fv.replay(tmp_path / "a.png", device="cpu")
    two = [fv.render(motifnet, "stage1:0", steps=0, start=image).recipe.hash for image in (photo, photo.flip(-1))]
    assert two[0] != two[1]


def test_long_recipes_stay_readable(tmp_path):
    net = toys.plain()
    goal = obj.Match("conv2", torch.rand(3, 500, 500, generator=torch.Generator().manual_seed(0)))
    (path,) = fv.render(net, goal, steps=1).save(tmp_path / "a.png")
    assert path.stat().st_size > 1_000_000
    assert read_image(path).shape == (3, 32, 32)
    assert fv.replay(path, network=net).recipe.objectives == (repr(goal),)


def test_only_what_may_name_a_file_is_opened(tmp_path, monkeypatch):
    """A layer or class that is called as a file is no file."""
    (tmp_path / "conv2").write_text("a secret")
    rendering = fv.render(toys.plain(), "conv2:1 + logit:bee", steps=1)
    assert rendering.recipe.files == {}
    Path("it's.png").write_bytes(rendering.save("b.png")[0].read_bytes())
    goal = obj.Match("conv2", "it's.png") + obj.Within(obj.Channel("conv2", 1), "b.png")
    assert set(fv.render(toys.plain(), goal, steps=1).recipe.files) == {"it's.png", "b.png"}


def test_a_hash_does_not_depend_on_what_files_are_called():
    fv.render(toys.plain(), "conv2:1", steps=1).save("a.png")
    Path("b.png").write_bytes(Path("a.png").read_bytes())
    one, two = (fv.render(toys.plain(), obj.Match("conv2", name), steps=1).recipe for name in ("a.png", "b.png"))
    assert one.hash == two.hash
    assert fv.render(toys.plain(), obj.Match("conv1", "a.png"), steps=1).recipe.hash != one.hash


def test_stacks_of_other_libraries_are_given_by_hand(tmp_path):
    from torchvision.transforms import v2

    net, stack = toys.plain(), (v2.RandomPerspective(p=1.0),)
    (path,) = fv.render(net, "conv2:1", transforms=stack, steps=2).save(tmp_path / "a.png")
    with pytest.raises(fv.RecipeError, match=r"; or give the whole stack by hand: fv.replay\(..., transforms=...\)$"):
        fv.replay(path, network=net)
    assert fv.replay(path, network=net, transforms=stack).images.equal(
        fv.render(net, "conv2:1", transforms=stack, steps=2).images
    )


@pytest.mark.parametrize("wrong", ["x", -1, 3.5, [], {}, ["a"], True])
def test_a_recipe_whose_values_are_of_another_kind_cannot_be_read(motifnet, wrong):
    right = json.loads(fv.render(motifnet, "stage1:0", steps=0).recipe.to_json())
    asked = [right | {key: wrong} for key in right if key not in ("machine", "files", "classes", "dream")]
    asked += [right | {"expects": right["expects"] | {key: wrong}} for key in ("mean", "std", "size")]
    for recipe in asked:
        with contextlib.suppress(fv.FeatvizError):  # most are wrong, and all others can be drawn
            fv.replay(fv.Recipe.from_json(json.dumps(recipe)))
    with pytest.raises(fv.RecipeError, match="^the recipe cannot be read; was the file changed?"):
        fv.Recipe.from_json(json.dumps(right | {"size": wrong}))
