"""Replaying an image, and what a user is told where that is not possible."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from safetensors.torch import save_file

import featviz as fv

DREAM = {"octaves": 1, "steps": 2}


def message(caught):
    return str(caught.value)


def test_an_image_without_a_recipe(tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(file)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(file)
    assert (
        message(caught)
        == f"{file} holds no recipe; give a file of a render, or of a dream on an image, as it was saved"
    )
    with pytest.raises(fv.OutputError) as caught:
        fv.replay(tmp_path / "b.png")
    assert message(caught) == f"no file {tmp_path / 'b.png'}; check the path"


@pytest.mark.parametrize(
    ("model", "origin"), [("", "was made in Python"), ("mine.py:net", "is the user's own 'mine.py:net'")]
)
def test_a_recipe_never_runs_code_to_make_a_network(net, model, origin):
    made = fv.render(net, "conv1:0", steps=1)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(replace(made.recipe, model=model))
    assert message(caught) == (
        f"the image's network {origin}, and a recipe never runs code; "
        "give the network with --model path/to/file.py:factory, or network= in Python"
    )
    assert fv.replay(made.recipe, network=net).images.equal(made.images)


def test_weights_that_are_missing(motifnet, tmp_path):
    weights = tmp_path / "w.safetensors"
    recipe = replace(fv.render(motifnet, "stage1:0", steps=0).recipe, weights=str(weights))
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(recipe, device="cpu")
    assert message(caught) == f"the image's weights file {weights} is missing; give it with --weights"
    assert len(fv.replay(recipe, weights="default", device="cpu")) == 1


def test_weights_that_differ(net):
    recipe = fv.render(net, "conv1:0", steps=0).recipe
    other = toys.network(toys.Plain(), classes=net.classes)
    with torch.no_grad():
        other.module.head.bias.add_(1)
    other = fv.Network(other.module, size=32, classes=net.classes, **toys.HALF)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(recipe, network=other)
    assert message(caught) == (
        f"the image was rendered with weights {recipe.fingerprint}, {other.label} has {other.fingerprint}; "
        "give the original network with --weights or --model"
    )


def test_a_start_image_that_has_moved(net, tmp_path):
    start, moved = tmp_path / "start.png", tmp_path / "moved.png"
    Image.new("RGB", (32, 32), (90, 120, 150)).save(start)
    made = fv.render(net, "conv1:0", steps=1, start=start)
    start.rename(moved)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(made.recipe, network=net)
    assert message(caught) == (
        f"the image was rendered from {start}, which is missing; give its file with --start, or start="
    )
    assert fv.replay(made.recipe, network=net, start=moved).images.equal(made.images)
    Image.new("RGB", (32, 32)).save(moved)
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(made.recipe, network=net, start=moved)
    assert message(caught) == (
        f"the image was rendered from {moved}, whose content has changed; "
        "give the original file with --start, or start="
    )


def test_a_start_image_for_a_render_from_noise(net, tmp_path):
    with pytest.raises(fv.SettingError) as caught:
        fv.replay(fv.render(net, "conv1:0", steps=0).recipe, network=net, start=tmp_path / "a.png")
    assert message(caught) == f"the image started from noise, so start must be left out, got {tmp_path / 'a.png'}"


@pytest.fixture
def photograph(tmp_path):
    file = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), (90, 120, 150)).save(file)
    return file


@fv.objectives.objective("conv1")
def fragile(acts):
    """An objective that works until its author breaks it."""
    return acts["conv1"].mean((1, 2, 3)) * fragile_scale["value"]


fragile_scale: dict[str, object] = {"value": 1.0}


def test_a_mistake_in_the_objective_of_a_dream_is_not_blamed_on_the_recipe(net, photograph, monkeypatch):
    made = fv.dream(net, photograph, fragile, **DREAM)
    own = {"fragile": fragile}
    assert fv.replay(made.recipe, network=net, own=own).images.equal(made.images)
    monkeypatch.setitem(fragile_scale, "value", None)
    with pytest.raises(TypeError, match="unsupported operand"):
        fv.replay(made.recipe, network=net, own=own)


@pytest.mark.parametrize(
    ("name", "value"),
    [("depth", 3), ("steps", 2.5), ("octaves", True), ("scale", "2"), ("keep_color", 1), ("mask", 4), ("jitter", None)],
)
def test_a_changed_setting_of_a_dream(net, photograph, name, value):
    recipe = fv.dream(net, photograph, "conv2:1", **DREAM).recipe
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(replace(recipe, dream={**recipe.dream, name: value}), network=net)
    assert message(caught) == (
        f"the recipe cannot be read, as fv.dream has no setting {name}={value!r}; was the file changed?"
    )


def test_a_whole_number_for_a_fraction_is_a_setting_of_a_dream(net, photograph):
    made = fv.dream(net, photograph, "conv2:1", **DREAM, scale=2)
    assert fv.replay(made.recipe, network=net).images.equal(made.images)


NO_DOWNLOAD = (
    "the image was rendered with {}, whose weights are not on this machine; add --download to get them, or give "
    "--weights FILE (download=True or weights= in Python)"
)


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Empty caches, and the addresses and files that are asked for instead of downloaded."""
    asked = []

    def refuse(*given, **named):
        asked.append((given, named))
        raise OSError("no network in tests")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    if importlib.util.find_spec("timm"):
        monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
        monkeypatch.setattr("featviz.network.loading.load._check_connection", lambda _: None)
    return asked


def foreign(net, **changes):
    return replace(fv.render(net, "conv2:1", steps=1).recipe, **changes)


@pytest.mark.parametrize(
    "model", ["resnet18", "vit_b_16", "timm/resnet18", "timm/vit_tiny_patch16_224", "timm/hf-hub:a/b"]
)
def test_a_recipe_downloads_nothing_unless_allowed(model, net, downloads):
    if model.startswith("timm/"):
        pytest.importorskip("timm")
    recipe = foreign(net, model=model, weights="default")
    with pytest.raises(fv.RecipeError) as caught:
        fv.replay(recipe)
    assert str(caught.value) == NO_DOWNLOAD.format(model) and not downloads
    rendering = replace(fv.render(net, "logit:1", steps=1), recipe=foreign(net, model=model, weights="default"))
    with pytest.raises(fv.RecipeError):
        fv.judge(rendering, judge=fv.load("motifvit"))
    assert not downloads
    with pytest.raises(fv.WeightsError):
        fv.replay(recipe, download=True)
    assert downloads


def test_weights_that_are_on_this_machine_are_used(net, downloads, tmp_path):
    import torchvision

    recipe = foreign(net, model="squeezenet1_1", weights="default", fingerprint="other")
    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_1()
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(module.state_dict(), folder / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(fv.RecipeError, match="was rendered with weights other"):
        fv.replay(recipe)
    untrained = replace(recipe, weights="none")
    with pytest.raises(fv.RecipeError, match="was rendered with weights other"):
        fv.replay(untrained)
    assert not downloads


def test_relative_files_are_found_above_the_image(motifnet, tmp_path, monkeypatch):
    """The command on a page runs in the folder of the page, below that of the files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    (tmp_path / "page" / "images").mkdir(parents=True)
    Image.new("RGB", (24, 24), "red").save("files/red.png")
    Image.new("L", (24, 24), 200).save("files/mask.png")
    save_file(motifnet.module.state_dict(), "files/w.safetensors")
    net = fv.load("motifnet", weights="files/w.safetensors", device="cpu")
    goal = "within(match(stage1, 'files/red.png'), 'files/mask.png') + stage1:3"
    image = Path("page", "images", "a.png")
    made = fv.render(net, goal, size=24, steps=2, start="files/red.png")
    made.save(image)
    assert fv.Recipe.of(image) == made.recipe
    monkeypatch.chdir(tmp_path / "page")
    again = fv.replay("images/a.png", device="cpu")
    assert again.images.equal(made.images)
    assert again.recipe.hash == made.recipe.hash
    monkeypatch.chdir(tmp_path / "files")
    with pytest.raises(fv.RecipeError, match="^the image was rendered from files/red.png, which is missing"):
        fv.replay(made.recipe, network=net)


@pytest.mark.parametrize("named", [{}, {"classes": ["K1", "K2", "K3", "K4", "K5"]}])
def test_names_that_were_given_beside_the_network_are_in_the_recipe(named, tmp_path, monkeypatch):
    """As `--classes` does, for a network with other names, or without any."""
    (tmp_path / "mine.py").write_text(
        "import toys\n\ndef net():\n    return toys.network(toys.Plain(), classes="
        + repr(named.get("classes", ()))
        + ")\n"
    )
    monkeypatch.chdir(tmp_path)
    own = fv.load("mine.py:net").with_classes(["ant", "bee", "cat", "dog", "elk"])
    for objective in ("logit:ant", "logit:bee - logit:elk", "prob:dog"):
        rendering = fv.render(own, objective, steps=2)
        (file,) = rendering.save(tmp_path / "a.png")
        assert torch.equal(fv.replay(file, network="mine.py:net").images, rendering.images)
