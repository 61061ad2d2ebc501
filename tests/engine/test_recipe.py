"""Recipes: text from which an image is rendered again, and which can run no code."""

import contextlib
import json
from dataclasses import MISSING, fields, replace
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

NAMES = {name: getattr(package, name) for package in (obj, param, T, fv.optimizers, fv) for name in package.__all__}
UNREADABLE = r"^the recipe cannot be read; was the file changed\?$"


def test_every_new_field_says_whether_it_is_in_the_hash():
    """A field that older recipes lack would otherwise change the names of all files."""
    later = {
        field.name
        for field in fields(fv.Recipe)
        if field.default is not MISSING or field.default_factory is not MISSING
    }
    assert later - fv.Recipe.NOT_HASHED - fv.Recipe.HASHED_IF_SET == {"index", "shown", "dream"}
    assert {field.name for field in fields(fv.Recipe)} >= fv.Recipe.NOT_HASHED | fv.Recipe.HASHED_IF_SET


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
def test_parse_repr_rebuilds_the_value(value):
    assert parse_repr(repr(value), NAMES) == value


@pytest.mark.parametrize(
    "text",
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
def test_parse_repr_never_runs_code(text):
    with pytest.raises(fv.RecipeError):
        parse_repr(text, NAMES)


@pytest.mark.parametrize(
    "text",
    ["find('evil.py:run')()", "find('evil.py:run')", "load('evil.py:run')", "parse('stage1')", "read_image('evil.py')"],
)
def test_recipes_cannot_call_functions_or_import_files(motifnet, tmp_path, text):
    (tmp_path / "evil.py").write_text("open('ran', 'w')\ndef run(): pass\n")
    recipe = fv.render(motifnet, "stage1:0", steps=0).recipe
    for field in ("param", "transforms", "optimizer"):
        with pytest.raises(fv.RecipeError):
            fv.replay(replace(recipe, **{field: text}))
    with pytest.raises(fv.RecipeError):
        fv.replay(replace(recipe, objectives=(text,)))
    with pytest.raises(
        fv.RecipeError, match="^the image's network is the user's own 'evil.py:run', and a recipe never runs code; "
    ):
        fv.replay(replace(recipe, model="evil.py:run"))
    with pytest.raises(fv.RecipeError, match=UNREADABLE):
        fv.Recipe.from_json(replace(recipe, input={"device": "cpu"}).to_json())
    assert not (tmp_path / "ran").exists()


def test_unknown_names_have_to_be_given():
    with pytest.raises(fv.RecipeError) as caught:
        parse_repr("Channel('a', 1) + chanel", {"Channel": obj.Channel})
    assert str(caught.value) == (
        "'chanel' is no name of featviz; nearest: 'Channel'; if it is your own, add --own path/to/file.py:chanel "
        "(the text in an image file never runs code)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Channel('a'", r"cannot parse \"Channel\('a'\"; give a name, or a call as in Python"),
        (
            "'a' * 3",
            "only numbers and objectives can be added or multiplied; list transforms as .*",
        ),
        (
            "[1][0]",
            r"'\[1\]\[0\]' is not allowed; only calls of known names, numbers, strings, tuples and \+ - \* / are",
        ),
        ("np.float64('a')", "np.float64 needs a number, got 'a'"),
        ("(*1,)", r"'\*1' is no tuple, so it cannot be starred"),
    ],
)
def test_text_that_is_no_repr(text, message):
    with pytest.raises(fv.RecipeError, match=f"^{message}$"):
        parse_repr(text, NAMES)


def test_json_round_trip_and_other_formats():
    recipe = fv.render(toys.plain(), "conv1:0", steps=1).recipe
    assert fv.Recipe.from_json(recipe.to_json()) == recipe
    for version in (99, "4"):
        later = json.dumps(json.loads(recipe.to_json()) | {"featviz": version})
        message = f"^the recipe has format {version!r}, this featviz reads 4; use another version$"
        with pytest.raises(fv.RecipeError, match=message):
            fv.Recipe.from_json(later)
    for broken in ("", "[]", "{}"):
        with pytest.raises(fv.RecipeError, match=UNREADABLE):
            fv.Recipe.from_json(broken)


def test_hash_depends_on_the_image_not_on_the_machine():
    net = toys.plain()
    one = fv.render(net, "conv1:0", steps=1).recipe
    assert one.hash == fv.render(net, "conv1:0", steps=1).recipe.hash
    assert one.hash == replace(one, machine={"featviz": "0"}, execution="Execution('float32', tile=256)").hash
    assert one.hash != replace(one, execution="Execution('bfloat16')").hash
    assert one.hash != fv.render(net, "conv1:0", steps=1, seed=1).recipe.hash


def test_replay_is_byte_equal(motifnet, tmp_path):
    rendering = fv.render(
        motifnet, ["stage1:3", "logit:star - 0.1*stage2"], param=param.Image((40, 56)), steps=6, seed=7
    )
    rendering.save(tmp_path / "sheet.png")
    (tmp_path / "each").mkdir()
    _, second = rendering.save(tmp_path / "each")
    assert torch.equal(fv.replay(tmp_path / "sheet.png", device="cpu").images, rendering.images)
    assert torch.equal(fv.replay(second, device="cpu").images, rendering[1].images)


def test_replay_stops_where_the_render_stopped(motifnet, tmp_path):
    stopped = fv.render(motifnet, "stage1:3", steps=6, until=3)
    assert len(stopped.history) == 3
    stopped.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu").images, stopped.images)


def test_replay_needs_own_objectives_and_networks(motifnet, tmp_path):
    @obj.objective("stage1")
    def corner(acts):
        return acts["stage1"][:, 0, 0, 0]

    path = tmp_path / "own.png"
    rendering = fv.render(motifnet, corner + obj.Channel("stage1", 2), steps=2)
    rendering.save(path)
    with pytest.raises(
        fv.RecipeError,
        match="^'corner' is no name of featviz; .*; if it is your own, add --own path/to/file.py:corner ",
    ):
        fv.replay(path)
    assert torch.equal(fv.replay(path, own={"corner": corner}, device="cpu").images, rendering.images)

    net = toys.plain()
    fv.render(net, "conv1:0", steps=1).save(path)
    with pytest.raises(
        fv.RecipeError, match="^the image's network was made in Python, and a recipe never runs code; give "
    ):
        fv.replay(path)
    assert len(fv.replay(path, network=net)) == 1
    with pytest.raises(
        fv.RecipeError,
        match=f"^the image was rendered with weights {net.fingerprint}, motifnet has {motifnet.fingerprint}; ",
    ):
        fv.replay(path, network=motifnet)


def test_replay_needs_a_start_image_made_in_python(motifnet, tmp_path):
    fv.render(motifnet, "stage1:0", steps=1, start=torch.rand(3, 64, 64)).save(tmp_path / "a.png")
    with pytest.raises(
        fv.RecipeError, match="^the image was rendered from an image made in Python, which is missing; give"
    ):
        fv.replay(tmp_path / "a.png")


def test_replay_checks_the_start_file(motifnet, tmp_path, photo):
    start = tmp_path / "start.png"
    fv.render(motifnet, "stage1:0", steps=0, start=photo).save(start)
    rendering = fv.render(motifnet, "stage1:0", steps=1, start=start)
    rendering.save(tmp_path / "a.png")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu").images, rendering.images)
    moved = start.rename(tmp_path / "moved.png")
    with pytest.raises(
        fv.RecipeError,
        match=r"^the image was rendered from .*start.png, which is missing; give its file with --start, or start=$",
    ):
        fv.replay(tmp_path / "a.png", device="cpu")
    assert torch.equal(fv.replay(tmp_path / "a.png", device="cpu", start=moved).images, rendering.images)
    (noise,) = fv.render(motifnet, "stage1:0", steps=1).save(tmp_path / "noise.png")
    with pytest.raises(
        fv.SettingError, match=r"^the image started from noise, so start must be left out, got .*moved.png$"
    ):
        fv.replay(noise, device="cpu", start=moved)
    fv.render(motifnet, "stage1:0", steps=0, start=photo.flip(-1)).save(start)
    with pytest.raises(
        fv.RecipeError,
        match=r"^the image was rendered from .*start.png, whose content has changed; give the original file",
    ):
        fv.replay(tmp_path / "a.png", device="cpu")
    two = [fv.render(motifnet, "stage1:0", steps=0, start=image).recipe.hash for image in (photo, photo.flip(-1))]
    assert two[0] != two[1]


def test_long_recipes_can_be_read(tmp_path):
    net = toys.plain()
    objective = obj.Match("conv2", torch.rand(3, 500, 500, generator=torch.Generator().manual_seed(0)))
    (path,) = fv.render(net, objective, steps=1).save(tmp_path / "a.png")
    assert path.stat().st_size > 1_000_000
    assert read_image(path).shape == (3, 32, 32)
    assert fv.replay(path, network=net).recipe.objectives == (repr(objective),)


def test_recipe_hashes_only_declared_files(tmp_path):
    """A layer that has the name of a file is not hashed as one."""
    (tmp_path / "conv2").write_text("secret")
    rendering = fv.render(toys.plain(), "conv2:1 + logit:bee", steps=1)
    assert rendering.recipe.files == {}
    Path("it's.png").write_bytes(rendering.save("b.png")[0].read_bytes())
    objective = obj.Match("conv2", "it's.png") + obj.Within(obj.Channel("conv2", 1), "b.png")
    assert set(fv.render(toys.plain(), objective, steps=1).recipe.files) == {"it's.png", "b.png"}


def test_hash_depends_on_the_content_of_files_not_on_their_names():
    fv.render(toys.plain(), "conv2:1", steps=1).save("a.png")
    Path("b.png").write_bytes(Path("a.png").read_bytes())
    one, two = (fv.render(toys.plain(), obj.Match("conv2", name), steps=1).recipe for name in ("a.png", "b.png"))
    assert one.hash == two.hash
    assert fv.render(toys.plain(), obj.Match("conv1", "a.png"), steps=1).recipe.hash != one.hash


def test_recipes_of_other_objectives_name_the_files_of_these():
    """Pages name images by such recipes before they are rendered."""
    Path("renders").mkdir()
    fv.render(toys.plain(), ["conv2:1", "conv2:2"], steps=1).save("renders")
    files = sorted(map(str, Path("renders").glob("*.png")))
    goals = [obj.Match("conv2", file) for file in files]
    rendering = fv.render(toys.plain(), goals, seed=[3, 4], steps=1)
    alone = fv.render(toys.plain(), goals[0], seed=3, steps=1).recipe
    other = alone.about(goals[1], 4, {})
    assert set(other.files) == set(rendering[1].recipe.alone.files) == {files[1]}
    assert other.hash == rendering[1].recipe.hash
    Path(files[1]).write_bytes(Path(files[0]).read_bytes())
    assert alone.about(goals[1], 4, {}).hash != other.hash


def test_modules_of_other_libraries_have_to_be_given_to_replay(tmp_path):
    from torchvision.transforms import v2

    net, transforms = toys.plain(), (v2.RandomPerspective(p=1.0),)
    (path,) = fv.render(net, "conv2:1", transforms=transforms, steps=2).save(tmp_path / "a.png")
    with pytest.raises(fv.RecipeError, match=r"; or give all transforms: fv.replay\(..., transforms=...\)$"):
        fv.replay(path, network=net)
    assert fv.replay(path, network=net, transforms=transforms).images.equal(
        fv.render(net, "conv2:1", transforms=transforms, steps=2).images
    )


@pytest.mark.filterwarnings("ignore:.*class names:featviz.FeatvizWarning")  # one text for all outputs
@pytest.mark.parametrize("wrong", ["x", -1, 3.5, [], {}, ["a"], True])
def test_recipe_with_values_of_the_wrong_type_cannot_be_read(motifnet, wrong):
    right = json.loads(fv.render(motifnet, "stage1:0", steps=0).recipe.to_json())
    changed = [right | {key: wrong} for key in right if key not in ("machine", "files", "classes", "dream")]
    changed += [right | {"input": right["input"] | {key: wrong}} for key in ("mean", "std", "size")]
    for recipe in changed:
        with contextlib.suppress(fv.FeatvizError):  # no other error; a few of the values are valid
            fv.replay(fv.Recipe.from_json(json.dumps(recipe)))
    with pytest.raises(fv.RecipeError, match=UNREADABLE):
        fv.Recipe.from_json(json.dumps(right | {"size": wrong}))
