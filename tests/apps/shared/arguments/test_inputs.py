"""Images, targets and layers as users have them, alike in `explain`, `compare`, `blocks` and `dream`."""

import numpy as np
import pytest
import torch
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz.apps.judge.judge import class_rank

SIDE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
BATCH = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255


def file_of(pixels, folder, name):
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


FORMS = {
    "path": lambda folder: file_of(PIXELS[0], folder, "0.png"),
    "text": lambda folder: str(file_of(PIXELS[0], folder, "0.png")),
    "Pillow": lambda folder: Image.fromarray(PIXELS[0]),
    "array": lambda folder: PIXELS[0],
    "array, channels first": lambda folder: PIXELS[0].transpose(2, 0, 1),
    "floats": lambda folder: PIXELS[0].astype(np.float32) / 255,
    "tensor": lambda folder: BATCH[0],
    "tensor, channels last": lambda folder: torch.from_numpy(PIXELS[0]),
    "batch": lambda folder: BATCH[:1],
    "list": lambda folder: [PIXELS[0]],
    "list of paths": lambda folder: [file_of(PIXELS[0], folder, "0.png")],
}


def message(call, error=fv.SettingError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_image_gives_the_same_result_everywhere(form, net, tmp_path):
    given = FORMS[form](tmp_path)
    expected = fv.explain(net, BATCH[:1], "logit:cat")
    torch.testing.assert_close(fv.explain(net, given, "logit:cat").map, expected.map)
    single = given if not isinstance(given, list) else given[0]
    compared = fv.compare(net, single, "logit:cat", ["gradcam"])
    torch.testing.assert_close(compared.image, BATCH[0])
    torch.testing.assert_close(compared.rows[0][0].map, expected.map)
    assert not fv.blocks(net, single, ["conv2"], tmp_path / "blocks", cells=2, groups=1, steps=0).problems
    options = {"octaves": 1, "steps": 1, "jitter": 0, "seed": 3}
    torch.testing.assert_close(
        fv.dream(net, single, "conv2", **options).images, fv.dream(net, BATCH[0], "conv2", **options).images
    )


def test_several_images_in_every_form_give_the_maps_of_each(net, tmp_path):
    (tmp_path / "folder").mkdir()
    files = [file_of(pixels, tmp_path / "folder", f"{i}.png") for i, pixels in enumerate(PIXELS)]
    expected = torch.cat([fv.explain(net, image, "logit:bee").map for image in BATCH])
    for given in (
        files, tuple(map(str, files)), tmp_path / "folder", str(tmp_path / "folder"), PIXELS, list(PIXELS), BATCH,
        PIXELS.transpose(0, 3, 1, 2), [Image.fromarray(pixels) for pixels in PIXELS], [files[0], PIXELS[1]],
    ):  # fmt: skip
        torch.testing.assert_close(fv.explain(net, given, "logit:bee").map, expected)


def test_photographs_of_several_sizes_are_one_batch(net, tmp_path):
    shapes = [(40, 60), (64, 33), (32, 32)]
    files = [
        file_of(np.random.default_rng(i).integers(0, 256, (*shape, 3), np.uint8), tmp_path, f"{i}.png")
        for i, shape in enumerate(shapes)
    ]
    assert fv.explain(net, files, "logit:bee").map.shape == (3, SIDE, SIDE)
    assert fv.explain(net, files[0], "logit:bee").map.shape == (1, SIDE, 48)
    arrays = [torch.rand(3, *shape) for shape in shapes]
    assert fv.explain(net, arrays, "logit:bee").map.shape == (3, SIDE, SIDE)
    assert fv.explain(net, arrays[0], "logit:bee").map.shape == (1, 40, 60)  # numbers keep their size


# ---------------------------------------------------------------------------------------------- targets


def test_a_target_for_each_image(net):
    several = torch.cat([BATCH, BATCH.flip(2)])
    targets = ["logit:cat", "logit:ant", 2, fv.objectives.Logit("dog")]
    for method in ("gradcam", "gradient", "IntegratedGradients"):
        found = fv.explain(net, several, targets, method)
        single = [fv.explain(net, image, target, method) for image, target in zip(several, targets, strict=True)]
        torch.testing.assert_close(found.map, torch.cat([each.map for each in single]))
        torch.testing.assert_close(found.score, torch.cat([each.score for each in single]))
        torch.testing.assert_close(found.images, several)
        if found.per_channel is not None:
            torch.testing.assert_close(found.per_channel, torch.cat([each.per_channel for each in single]))
        assert found.target == "logit:cat, logit:ant, logit:2, logit:dog"
        assert len(found) == 4 and found.sheet().ndim == 3
    indices = fv.explain(net, several, torch.tensor([2, 0, 2, 3]))
    torch.testing.assert_close(indices.map, fv.explain(net, several, targets).map)
    torch.testing.assert_close(fv.explain(net, several, (2, 0, 2, 3)).map, indices.map)
    torch.testing.assert_close(fv.explain(net, BATCH, np.int64(2)).map, fv.explain(net, BATCH, "logit:cat").map)


def test_no_target_is_the_most_likely_class_of_each_image(net):
    with torch.no_grad():  # one image of each of two classes
        logits = net.capture(BATCH, [""]).logits()
        net.module.head.bias -= logits.mean(0)
        logits = net.capture(BATCH, [""]).logits()
    best = logits.argmax(1).tolist()
    assert best[0] != best[1]
    found = fv.explain(net, BATCH)
    torch.testing.assert_close(found.score, logits.amax(1))
    expected = [fv.explain(net, image, index).map for image, index in zip(BATCH, best, strict=True)]
    torch.testing.assert_close(found.map, torch.cat(expected))
    title = "logit:{}".format
    names = [net.classes[index] for index in best]
    assert (
        found.target == ", ".join(str(fv.objectives.Logit(name)) for name in names) or title(names[0]) in found.target
    )
    compared = fv.compare(net, BATCH[1], methods=["gradcam"])
    torch.testing.assert_close(compared.rows[0][0].map, expected[1])


@pytest.mark.parametrize(
    ("targets", "text"),
    [
        (["logit:cat"], "give one target for all images or one for each of 2, got 1"),
        (["logit:cat"] * 3, "give one target for all images or one for each of 2, got 3"),
        ([], "give one target for all images or one for each of 2, got 0"),
        (torch.tensor([1, 2, 3]), "give one target for all images or one for each of 2, got 3"),
    ],
)
def test_another_number_of_targets_than_images(targets, text, net):
    assert message(lambda: fv.explain(net, BATCH, targets)) == text


# ---------------------------------------------------------------------------------------------- layers


def test_a_layer_is_a_name_or_a_module_and_of_a_list_the_mean_is_taken(net):
    by_name = fv.explain(net, BATCH, "logit:cat", layer="conv1")
    by_module = fv.explain(net, BATCH, "logit:cat", layer=net.module.conv1)
    assert torch.equal(by_name.map, by_module.map)
    assert by_name.recipe["method"] == by_module.recipe["method"]
    for listed in (["conv1"], (net.module.conv1,)):
        assert torch.equal(fv.explain(net, BATCH, "logit:cat", layer=listed).map, by_name.map)
    other = fv.explain(net, BATCH, "logit:cat", layer="conv2")
    found = fv.explain(net, BATCH, "logit:cat", layer=["conv1", net.module.conv2])
    expected = torch.stack(
        [(one / one.abs().max() + two / two.abs().max()) / 2 for one, two in zip(by_name.map, other.map, strict=True)]
    )
    torch.testing.assert_close(found.map, expected)
    assert found.recipe["method"] == [by_name.recipe["method"], other.recipe["method"]]
    compared = fv.compare(net, BATCH[0], "logit:cat", ["gradcam"], layer=net.module.conv1)
    torch.testing.assert_close(compared.rows[0][0].map, by_name.map[:1])


def test_layers_that_do_not_fit(net):
    assert message(lambda: fv.explain(net, BATCH, "logit:cat", layer=nn.ReLU()), fv.AddressError) == (
        "the layer ReLU is no module of Plain; give a name, or one of it"
    )
    assert message(lambda: fv.explain(net, BATCH, "logit:cat", layer="conv9"), fv.AddressError) == (
        "no layer 'conv9' in Plain; nearest: 'conv2', 'conv1' (list all: net.layers())"
    )
    assert message(lambda: fv.explain(net, BATCH, "logit:cat", "gradient", layer="conv1")) == (
        "Gradient does not read a single layer; leave out layer='conv1'"
    )
    assert message(lambda: fv.compare(net, BATCH[0], "logit:cat", ["gradient"], layer="conv1")) == (
        "none of the methods reads a single layer; leave out layer 'conv1', or add gradcam"
    )


# ---------------------------------------------------------------------------------------------- what is no image

ACCEPTED = "a file, a Pillow image, or numbers of shape (h, w, c) or (c, h, w), or a list of them"
CALLS = {
    "explain": lambda net, image, folder: fv.explain(net, image, "logit:cat"),
    "compare": lambda net, image, folder: fv.compare(net, image, "logit:cat"),
    "blocks": lambda net, image, folder: fv.blocks(net, image, ["conv2"], folder / "pages", steps=0),
    "dream": lambda net, image, folder: fv.dream(net, image, "conv2", octaves=1, steps=1),
    "accentuate": lambda net, image, folder: fv.accentuate(net, image, "conv2", steps=1, crops=1),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (None, fv.SettingError, f"an image must be {ACCEPTED}, got NoneType"),
        (3, fv.SettingError, f"an image must be {ACCEPTED}, got int"),
        ("missing.png", fv.OutputError, "no file missing.png; check the path"),
        (
            torch.rand(5, 6, 7),
            fv.SettingError,
            "the image must have shape (3, h, w), (h, w, 3) or (h, w), got (5, 6, 7)",
        ),
        (
            torch.full((3, SIDE, SIDE), 300),
            fv.SettingError,
            "whole numbers of an image must be in 0…255, got 300…300",
        ),
    ],
)
def test_what_is_no_image_is_refused_alike(call, image, error, text, net, tmp_path):
    assert message(lambda: CALLS[call](net, image, tmp_path), error) == text
    assert not (tmp_path / "pages").exists()


def test_transparent_files_are_seen_over_white(tmp_path):
    seen = []

    class Looking(toys.Plain):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    net = toys.network(Looking())
    pixels = np.zeros((SIDE, SIDE, 4), np.uint8)  # black, and fully transparent
    path = file_of(pixels, tmp_path, "clear.png")
    net.layers()
    for call in CALLS.values():
        if call is CALLS["blocks"]:
            continue
        seen.clear()
        call_net = fv.Network(net.module, size=SIDE, **toys.HALF, classes=("ant", "bee", "cat", "dog", "emu"))
        call_net.layers()
        seen.clear()
        call(call_net, path, tmp_path)
        assert seen
        real = [x for x in seen if len(x) == 1 and x.std() < 1e-4 and x.mean() > 0.9]
        assert real, "no pass saw a white image"
        assert not [x for x in seen if x.mean() < -0.9], "a pass saw a black image"


def test_judge_takes_renderings_files_and_pillow_images_alike(tmp_path):
    torch.manual_seed(1)
    net, other = toys.plain(), fv.Network(toys.Plain(), size=32, **toys.HALF)
    rendering = fv.render(net, "logit:1", steps=2)
    (file,) = rendering.save(tmp_path / "one.png")
    with Image.open(file) as picture:
        found = fv.judge([rendering, file, str(file), picture], judge=other, network=net)
        alone = fv.judge(picture, judge=other, network=net)
    assert [verdict.image for verdict in found.verdicts] == ["logit:1", "one", "one", "one"]
    assert repr(found.verdicts[1]) == repr(found.verdicts[2]) == repr(found.verdicts[3]) == repr(alone.verdicts[0])


def test_judge_takes_any_images_with_a_target(tmp_path):
    torch.manual_seed(1)
    net, other = toys.plain(), fv.Network(toys.Plain(), size=32, **toys.HALF)
    file = file_of(PIXELS[0], tmp_path, "photo.png")
    forms = [BATCH[0], PIXELS[0], PIXELS[0].transpose(2, 0, 1), file, str(file), Image.fromarray(PIXELS[0])]
    found = fv.judge(forms, "logit:1", judge=other, network=net).verdicts
    assert [verdict.image for verdict in found] == ["image 0", "image 1", "image 2", "photo", "photo", "image 5"]
    assert {verdict.score for verdict in found} == {fv.score(net, "logit:1", BATCH[:1]).item()}
    assert {verdict.rank for verdict in found} == {class_rank(BATCH[0], 1, other)[0]}
    each = fv.judge(BATCH, [1, "conv2:0"], judge=other, network=net).verdicts
    assert [verdict.unit for verdict in each] == ["logit:1", "conv2:0"]
    assert [verdict.rank is None for verdict in each] == [False, True]


def test_judge_says_what_is_missing_for_a_target():
    net, other = toys.plain(), fv.Network(toys.Plain(), size=32, **toys.HALF)
    assert message(lambda: fv.judge(BATCH, judge=other)) == (
        "images must be files that featviz saved, got Tensor; of others, give a target"
    )
    assert message(lambda: fv.judge(BATCH, 1, judge=other)) == (
        "with a target, give the network whose unit the images show, as network="
    )
    assert message(lambda: fv.judge(BATCH, [1], judge=other, network=net)) == (
        "give one target for all images or one for each of 2, got 1"
    )


def test_dream_on_several_images_dreams_on_each(net, tmp_path):
    (tmp_path / "folder").mkdir()
    files = [file_of(pixels, tmp_path / "folder", f"{i}.png") for i, pixels in enumerate(PIXELS)]
    options = {"octaves": 1, "steps": 1, "jitter": 0}
    expected = [fv.dream(net, image, "conv2", **options).images for image in BATCH]
    for given in (files, tuple(files), tmp_path / "folder", PIXELS, list(PIXELS), BATCH):
        renderings = fv.dream(net, given, "conv2", **options)
        for rendering, images in zip(renderings, expected, strict=True):
            torch.testing.assert_close(rendering.images, images)
    assert [len(fv.dream(net, one, "conv2", **options)) for one in ([files[0]], BATCH[:1])] == [1, 1]
    assert renderings[0].recipe.start == fv.Recipe.TENSOR
    assert len(fv.dream(net, BATCH, "conv2", **options, until=9)) == 2
    of_files = fv.dream(net, files, 1, **options)
    assert [(one.recipe.start, *one.recipe.objectives) for one in of_files] == [
        (str(file), repr(fv.objectives.Logit(1))) for file in files
    ]


def test_compare_and_blocks_on_several_images_work_on_each(net, tmp_path):
    (tmp_path / "folder").mkdir()
    files = [file_of(pixels, tmp_path / "folder", f"{i}.png") for i, pixels in enumerate(PIXELS)]
    for given in (files, tmp_path / "folder", PIXELS, list(PIXELS), BATCH):
        found = fv.compare(net, given, "logit:bee", ["gradcam"])
        for comparison, image in zip(found, BATCH, strict=True):
            torch.testing.assert_close(comparison.image, image)
    few = {"cells": 2, "groups": 1, "steps": 0}
    for given, names in ((files, ["000-0", "001-1"]), (BATCH, ["000", "001"])):
        out = tmp_path / f"out{names[0]}"
        pages = fv.blocks(net, given, ["conv2"], out, **few)
        assert [page.page for page in pages] == [f"{out}/{name}/index.html" for name in names]
        assert sorted(path.name for path in out.iterdir()) == names


def test_ctrl_c_ends_the_dream_on_several_images(net):
    def interrupt(done, total):
        raise KeyboardInterrupt

    renderings = fv.dream(net, BATCH, "conv2", octaves=1, steps=4, progress=interrupt)
    assert len(renderings) == 1 and renderings[0].recipe.until == 1
