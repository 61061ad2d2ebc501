"""Comparisons of networks: formulas restated, networks whose difference is known, bad input, and the page."""

import copy
import re

import numpy as np
import pytest
import torch
import toys
from PIL import Image
from torch import nn

import featviz as fv
from featviz.apps.diff import measure as measuring
from featviz.apps.diff.classes import ClassChange, common_classes, divergence, recognise, transfer_loss
from featviz.apps.diff.diff import diff
from featviz.apps.diff.layers import Layers, choose_layers
from featviz.apps.diff.moments import Moments
from featviz.apps.diff.page import network_titles
from featviz.apps.diff.plan import combine
from featviz.apps.diff.similarity import correlations, linear_cka, mutual, nearest
from featviz.apps.diff.training import spread_units
from featviz.cli import main
from featviz.io import read_report, resize
from featviz.network import OUTPUT
from featviz.objectives import Channel

FEW = {"steps": 1, "size": 16, "progress": None, "scan_progress": None}
QUIET = {"progress": None, "scan_progress": None}


def save(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / f"{i:03}.png")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six smooth random images."""
    small = torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return save(nn.functional.interpolate(small, (32, 32), mode="bilinear"), tmp_path_factory.mktemp("photos"))


def permuted(net, order):
    """The same network with the channels of `conv1` in another order, and the weights behind it accordingly."""
    module = copy.deepcopy(net.module)
    with torch.no_grad():
        norm = module.bn1
        for values in (*module.conv1.parameters(), *norm.parameters(), norm.running_mean, norm.running_var):
            values.copy_(values[order])
        module.conv2.weight.copy_(module.conv2.weight[:, order])
    return fv.Network(module, **vars(net.input), classes=net.classes)


# ---------------------------------------------------------------------------------------------- formulas


@pytest.fixture
def tables():
    """Rows of two tables, three and two blocks, with a large mean in one column."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    second = first[:, [1, 3, 0, 2]] + 0.5 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    first[:, 2] += 1e6
    moments = Moments((1, 2, 3), (3, 1))
    for some in range(0, 50, 8):
        moments.add(first[some : some + 8], second[some : some + 8])
    return first, second, moments


def test_covariances_are_those_of_all_rows(tables):
    first, second, moments = tables
    whole = np.cov(torch.cat([first, second], 1).T.numpy(), bias=True)
    assert np.allclose(moments.cross.numpy(), whole[:6, 6:], rtol=1e-9, atol=1e-9)
    assert np.allclose(moments.own(0)[1].numpy(), whole[1:3, 1:3], rtol=1e-9, atol=1e-9)
    assert np.allclose(moments.variance(1).numpy(), whole.diagonal()[6:], rtol=1e-9)
    assert moments.rows == 50


def test_correlations_are_means_of_products_of_z_scores(tables):
    first, second, moments = tables
    found = correlations(moments)
    for i in range(6):
        for j in range(4):
            x, y = first[:, i], second[:, j]
            z, w = (x - x.mean()) / x.std(correction=0), (y - y.mean()) / y.std(correction=0)
            assert float(found[i, j]) == pytest.approx(sum(float(a * b) for a, b in zip(z, w, strict=True)) / 50)


def test_a_constant_unit_is_correlated_with_none():
    moments = Moments((2,), (1,))
    column = torch.arange(8.0)[:, None]
    moments.add(torch.cat([column, torch.ones(8, 1)], 1), column)
    assert correlations(moments).flatten().tolist() == pytest.approx([1, 0])


def test_cka_is_that_of_centered_gram_matrices(tables):
    """HSIC by matrices of rows x rows, as the paper defines it, where the code has features x features."""
    first, second, moments = tables
    found = linear_cka(moments)
    center = torch.eye(50, dtype=torch.float64) - 1 / 50

    def hsic(x, y):
        return torch.trace(x @ x.T @ center @ y @ y.T @ center)

    for i, x in enumerate(first.split((1, 2, 3), 1)):
        for j, y in enumerate(second.split((3, 1), 1)):
            x = x - x.mean(0)
            expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()
            assert float(found[i, j]) == pytest.approx(float(expected), rel=1e-6)


def test_cka_ignores_rotation_scale_and_shift():
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(40, 4, generator=generator)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    moments = Moments((4,), (4,))
    moments.add(first, 3 * first @ rotation + 7)
    assert float(linear_cka(moments)) == pytest.approx(1)


def test_nearest_neighbours_prefer_the_same_address_where_units_are_equal():
    correlation = torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.9, 0.2], [0.3, 0.4, 0.2]])
    index, value = nearest(correlation, torch.tensor([0, 1, -1]))
    assert index.tolist() == [0, 1, 1] and value.tolist() == pytest.approx([0.9, 0.9, 0.4])
    back, _ = nearest(correlation.T, torch.tensor([0, 1, 2]))
    assert back.tolist() == [0, 1, 1 if correlation[1, 2] > correlation[2, 2] else 2]
    assert mutual(index, back).tolist() == [True, True, False]


def test_divergence_is_in_bits():
    p, q = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)

    def entropy(r):
        return -sum(float(x) * np.log2(float(x)) for x in r if x > 0)

    assert divergence(p, q) == pytest.approx(entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)
    assert divergence(p, p) == 0


def test_what_a_judge_recognises_adds_up_to_one(net):
    images = [torch.rand(3, 32, 40, generator=torch.Generator().manual_seed(k)) for k in range(2)]
    for outputs in ("classes", "multilabel"):
        judge = toys.plain(outputs=outputs)
        found = recognise(images, judge)
        assert found.shape == (5,) and float(found.sum()) == pytest.approx(1)
    with pytest.raises(fv.AddressError):
        recognise(images, toys.plain(outputs="regression"))


def test_the_transfer_loss_by_loops():
    """Images are resized to the input of each network, and a class may have another index in the second one."""
    first, second = toys.plain(), fv.Network(toys.Plain(), size=24, **toys.HALF)
    images = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    change = ClassChange("x", (1, 4), 0.5, deviations=(0.5, 4.0))

    def logit(network, image, index):
        return float(network.capture(resize(image[None], network.size), [""])[""][0, index])

    expected = 0.0
    for a, b in zip(*images, strict=True):
        expected += (logit(first, a, 1) - logit(first, b, 1)) / 0.5 / 3
        expected += (logit(second, b, 4) - logit(second, a, 4)) / 4.0 / 3
    assert transfer_loss((first, second), change, tuple(images)) == pytest.approx(expected, rel=1e-4)
    assert transfer_loss((first, first), change, (images[0], images[0])) == 0


class SeesRed(toys.Plain):
    """The same network, whose class 2 also responds to saturated red."""

    def forward(self, x):
        red = (4 * (x[:, 0] - x[:, 1]) - 6).exp().mean((1, 2))
        return super().forward(x) + 20 * red[:, None] * torch.eye(5)[2]


def test_a_class_with_another_pattern_in_its_image_comes_first(photos, tmp_path):
    first = toys.plain(classes=("ant", "bee", "cat", "dog", "eel"))
    module = SeesRed()
    module.load_state_dict(first.module.state_dict())
    second = fv.Network(module, **vars(first.input), classes=first.classes)
    judge, few = toys.network(toys.Dict()), FEW | {"steps": 24}
    found = diff(first, second, photos, tmp_path / "out", layers=["conv1"], per_class=1, judge=judge, **few)
    assert found.classes[0].title == "cat" and found.classes[0].transfer_loss > 0.05
    page = (tmp_path / "out" / "index.html").read_text()
    assert f"transfer loss {found.classes[0].transfer_loss:.1f}" in page
    assert all(abs(each.transfer_loss) < 1e-3 for each in found.classes[1:])


# ---------------------------------------------------------------------------------------------- known differences


def test_the_same_network_twice_shows_nothing_changed(net, photos, tmp_path):
    found = diff(
        net, net, photos, tmp_path / "out", classes=[1, 4], per_class=1, judge=toys.network(toys.Dict()), **FEW
    )
    assert found.changed == [] and all(match.correlation > 1 - 1e-9 for match in found.units)
    assert torch.allclose(found.similarity.diagonal(), torch.ones(len(found.layers[0]), dtype=torch.float64))
    assert all(each.change == 0 and each.correlation == pytest.approx(1) for each in found.classes)
    assert all(each.transfer_loss == 0 for each in found.classes)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "No unit changed." in page and "0 of 2 classes changed" in page and "<li " not in page


def test_a_permutation_of_channels_is_recovered(net, photos):
    order = torch.randperm(net.table["conv1"].channels, generator=torch.Generator().manual_seed(1))
    found = diff(net, permuted(net, order), photos, layers=["conv1", "conv2"], **QUIET)
    of_layer = [match for match in found.units if match.first.layer == "conv1"]
    assert [match.first.channel for match in of_layer] == [int(order[match.second.channel]) for match in of_layer]
    assert {match.status for match in of_layer} <= {"shared", "moved"} and len(found.of("moved")) >= 2
    assert {match.status for match in found.units if match.first.layer == "conv2"} == {"shared"}
    assert found.similarity.diagonal().tolist() == pytest.approx([1, 1])


def test_a_unit_that_was_silenced_is_lost_and_one_that_awoke_is_new(net, photos):
    module = copy.deepcopy(net.module)
    with torch.no_grad():
        module.conv1.weight[2], module.conv1.bias[2] = 0, 0.5
    silenced = fv.Network(module, **vars(net.input), classes=net.classes)
    there = diff(net, silenced, photos, layers=["conv1"], **QUIET)
    assert [match.first for match in there.of("lost")] == [Channel("conv1", 2)] and not there.of("new")
    back = diff(silenced, net, photos, layers=["conv1"], **QUIET)
    assert [match.second for match in back.of("new")] == [Channel("conv1", 2)] and not back.of("lost")


def test_a_class_whose_weights_are_redrawn_comes_first(net, photos):
    module = copy.deepcopy(net.module)
    head = [part for part in module.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        head.weight[3] = torch.randn(head.weight.shape[1], generator=torch.Generator().manual_seed(0))
    found = diff(net, fv.Network(module, **vars(net.input), classes=net.classes), photos, **QUIET)
    assert found.classes[0].title == net.classes[3] and found.classes[0].correlation < 0.99
    assert all(each.correlation == pytest.approx(1) for each in found.classes[1:])
    assert found.changed == []


def test_the_threshold_decides_what_is_a_match(photos):
    first, second = toys.plain(), fv.Network(toys.Plain(), size=32, **toys.HALF)
    counts = []
    for threshold in (0.0, 0.5, 1.0):
        found = diff(first, second, photos, threshold=threshold, **QUIET)
        counts.append(len(found.of("shared")) + len(found.of("moved")))
        assert all(match.correlation >= threshold for match in found.of("moved") + found.of("shared"))
    assert counts[0] >= counts[1] >= counts[2] and counts[0] > counts[2]


def test_results_do_not_depend_on_the_batch(net, photos, monkeypatch):
    other = fv.Network(toys.Plain(), size=32, classes=net.classes, **toys.HALF)
    whole = diff(net, other, photos, **QUIET)
    monkeypatch.setattr(measuring, "BATCH", 1)
    single = diff(net, other, photos, **QUIET)
    assert [(a.status, a.first, a.second) for a in whole.units] == [(a.status, a.first, a.second) for a in single.units]
    assert torch.allclose(whole.similarity, single.similarity, rtol=1e-5)


def test_units_are_correlated_over_the_positions_of_all_images(net, photos):
    """Restated with all activations in memory: maps of 16 x 16 positions of both networks."""
    other = fv.Network(toys.Plain(), size=32, classes=net.classes, **toys.HALF)
    measured = measuring.measure([net, other], [Layers.of(each, ["conv1"]) for each in (net, other)], photos, None)
    images = torch.stack([image for _, image in fv.io.read_photographs(photos, size=32)])
    columns = []
    for each in (net, other):
        maps = fv.io.resize(each.capture(images, ["conv1"]).as_map("conv1").detach(), (16, 16))
        columns.append(maps.transpose(0, 1).flatten(1).double().numpy())
    count = len(columns[0])
    expected = np.corrcoef(np.concatenate(columns))[:count, count:]
    assert np.allclose(correlations(measured.units[0]).numpy(), expected, atol=1e-5)
    assert measured.photographs == 6 and measured.units[0].rows == 6 * 16 * 16


def test_networks_of_other_sizes_and_architectures_are_compared(photos):
    first = toys.network(toys.Plain(), size=64, classes=("ant", "bee", "x", "y", "z"))
    second = toys.network(toys.Vit(), classes=("bee", "ant", "yak"))
    found = diff(first, second, photos, **QUIET)
    assert set(found.layers[0]) <= set(first.table) and set(found.layers[1]) <= set(second.table)
    assert not found.of("shared") and found.of("lost")
    assert {each.title for each in found.classes} == {"ant", "bee"}
    assert found.similarity.shape == (len(found.layers[0]), len(found.layers[1]))


# ---------------------------------------------------------------------------------------------- choices


def test_classes_are_matched_by_name_where_both_have_names():
    first = toys.plain()
    second = toys.plain(classes=("bee", "Ant", "x", "y", "z"))
    assert common_classes(first, second, None) == [("ant", 0, 1), ("bee", 1, 0)]
    assert common_classes(first, toys.plain(classes=()), [4]) == [("jack-o'-lantern", 4, 4)]
    assert common_classes(toys.plain(classes=()), first, [4]) == [("logit 4", 4, 4)]


def test_layers_default_to_the_suggested_ones_in_common():
    first, second = toys.plain(), toys.plain()
    own, others = choose_layers(first, second, None, None)
    assert own == others and own.names and OUTPUT not in own.names
    assert own.units[0] == Channel(own.names[0], 0) and len(own.units) == sum(own.sizes)
    assert choose_layers(first, second, ["logit"], None)[0].names == (OUTPUT,)


def test_units_are_spread_over_layers():
    layers = Layers(("a", "b"), (8, 2))
    assert spread_units(layers, 4) == [Channel("a", 0), Channel("a", 4), Channel("b", 0), Channel("b", 1)]
    assert len(spread_units(layers, 1)) == 1 and len(spread_units(layers, 100)) == 10


def test_a_network_that_occurs_twice_is_copied(net):
    both = combine({"first": net, "second": net})
    assert both.module.first is net.module and both.module.second is not net.module
    image = torch.rand(1, 3, 32, 32)
    acts = both.capture(image, ["first.conv1", "second.conv1"])
    assert torch.equal(acts["first.conv1"], acts["second.conv1"])


def test_titles_tell_networks_apart(net):
    assert network_titles([net, net]) == ["Plain (1)", "Plain (2)"]
    named = fv.load("motifnet", weights="none", device="cpu")
    assert network_titles([named, net]) == ["motifnet, random weights", "Plain"]


def test_a_dictionary_can_be_compared(net, photos):
    count = net.table["conv1"].channels
    dictionary = fv.Dictionary(kind="topk", encoder=torch.eye(count)[:3], k=2)
    attached = net.with_dictionary("conv1", dictionary)
    found = diff(attached, attached, photos, layers=["conv1~"], **QUIET)
    assert found.layers == (("conv1~",), ("conv1~",)) and not found.changed


# ---------------------------------------------------------------------------------------------- bad input


def message(call):
    with pytest.raises(fv.FeatvizError) as caught:
        call()
    return str(caught.value)


def test_messages(net, photos, tmp_path):
    few = save(torch.rand(2, 3, 32, 32), tmp_path / "few")
    assert message(lambda: diff(net, net, few)) == (
        f"diff needs at least 4 images, got 2 in {few}; give more, 100 or so"
    )
    grey = toys.network(nn.Conv2d(1, 2, 3), mean=(0.5,), std=(0.5,))
    assert message(lambda: diff(net, grey, photos)) == (
        "both networks must take images of the same channels, Plain takes 3 and Conv2d 1; compare networks of the "
        "same input"
    )
    wide = net.with_input(size=(32, 48))
    assert message(lambda: diff(net, wide, photos)) == (
        "both networks must see the same part of an image, but Plain takes 32x32 px and Plain 32x48; give both one "
        "aspect ratio by network.with_input(size=...)"
    )
    other = toys.plain(classes=("u", "v", "x", "y", "z"))
    assert message(lambda: diff(net, other, photos, classes=["ant"])) == (
        "both networks must have the class 'ant', Plain has not; leave it out"
    )
    assert diff(net, other, photos, **QUIET).classes == ()
    vit = toys.network(toys.Vit())
    assert message(lambda: diff(net, vit, photos, layers=["conv1"])) == (
        "no layer 'conv1' in Vit; give its own layers, as second_layers=[...] or --second-layer"
    )
    linear = toys.network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)))
    assert message(lambda: diff(linear, linear, photos)) == (
        "no layer with positions in Sequential; name the layers to compare, such as one that outputs a vector"
    )
    assert not diff(linear, linear, photos, layers=["1"], **QUIET).changed
    assert message(lambda: diff(net, net, photos, threshold=1.5)) == (
        "threshold must be in [0, 1], got 1.5 (default 0.5)"
    )
    assert message(lambda: diff(net, net, photos, checkpoints=net)) == (
        "checkpoints must be a sequence of Networks, got Network; use fv.load(...)"
    )
    assert message(lambda: diff(net, net, photos, photos / "out")).endswith(
        "would be taken for photographs; give an output elsewhere"
    )
    assert message(lambda: diff(net, net, photos, judge=net)).startswith("the judge must not have rendered the images")
    both = fv.combine(a=net, b=vit)
    assert message(lambda: diff(both, net, photos)) == "diff compares single networks, got a, b combined"


def test_layers_with_nan_are_refused(net, photos):
    module = copy.deepcopy(net.module)
    with torch.no_grad():
        module.conv1.bias[0] = torch.nan
    broken = fv.Network(module, **vars(net.input))
    assert message(lambda: diff(net, broken, photos, layers=["conv1"], **QUIET)) == (
        "layer 'conv1' of Plain outputs NaN or infinite numbers for these photographs; check its weights, mean and "
        "std, or choose an earlier layer"
    )


def test_files_that_cannot_be_read_are_skipped_and_do_not_count(net, tmp_path):
    folder = save(torch.rand(3, 3, 32, 32), tmp_path / "some")
    (folder / "z.png").write_text("no image")
    warned = r"^skipped 1 file in .* that cannot be used; the first: cannot read .*z\.png as an image"
    with pytest.warns(fv.FeatvizWarning, match=warned):
        assert message(lambda: diff(net, net, folder)).startswith("diff needs at least 4 images, got 3 in ")
    save(torch.rand(5, 3, 32, 32), folder)
    with pytest.warns(fv.FeatvizWarning, match=warned):
        assert diff(net, net, folder, **QUIET).photographs == 5


def test_classes_whose_logit_is_constant_are_left_out(tmp_path):
    one = toys.plain()
    with torch.no_grad():
        one.module.head.weight[1].zero_()
    found = diff(one, one, save(torch.rand(6, 3, 32, 32), tmp_path / "some"), **QUIET)
    assert len(found.classes) == 4 and "bee" not in [each.title for each in found.classes]


# ---------------------------------------------------------------------------------------------- the page


WILD = ("<b>ant</b>", '"><script>x</script>', "cat", "dog", "jack-o'-lantern")


@pytest.fixture(scope="module")
def page(photos, tmp_path_factory):
    """A page of three networks with classes of wild names, judged."""
    folder = tmp_path_factory.mktemp("page") / "out"
    first = toys.plain(classes=WILD)
    order = torch.randperm(first.table["conv1"].channels, generator=torch.Generator().manual_seed(1))
    middle, last = permuted(first, order), fv.Network(toys.Plain(), size=32, classes=WILD, **toys.HALF)
    judge = toys.network(toys.Dict(), classes=WILD[:4])
    found = diff(
        first,
        last,
        photos,
        folder,
        layers=["conv1"],
        checkpoints=[middle],
        classes=[0, 1],
        judge=judge,
        most=2,
        per_class=1,
        **FEW,
    )
    return found, (folder / "index.html").read_text()


def test_the_page_has_a_card_of_each_kind_with_images_of_both_networks(page):
    found, text = page
    groups = re.findall(r'data-group="(\w+)"', text)
    assert set(groups) >= {"class", "lost", "new", "checkpoint"} and max(map(groups.count, set(groups))) <= 2
    assert text.count("first - second") >= 2 and "second - first" in text and "nearest in second" in text
    assert "<script>x" not in text and "&lt;b&gt;ant&lt;/b&gt;" in text
    assert not found.pages.problems and found.pages.count == text.count('<button class="open"')
    assert "style=" not in text  # which the policy of the page refuses


def test_the_result_says_what_the_page_shows(page):
    found, _ = page
    assert len(found.checkpoints) == 2 and found.checkpoints[1].matched >= found.checkpoints[0].matched - 1
    losses = [each.transfer_loss for each in found.classes]
    assert losses == sorted(losses, reverse=True) and all(0 <= each.change <= 1 for each in found.classes)
    assert all(each.probabilities is not None for each in found.classes)
    assert str(found).splitlines()[0] == "Plain (1) and Plain (3), 6 images"
    assert "classes that changed most: " in str(found)


def test_the_difference_is_one_objective_over_both_networks(net, photos, tmp_path):
    other = fv.Network(toys.Plain(), size=32, classes=net.classes, **toys.HALF)
    found = diff(net, other, photos, tmp_path / "out", layers=["conv1"], most=1, **FEW)
    expected = set()
    for match in found.of("lost"):
        if match.deviations[1]:
            first, second = (float(f"{1 / deviation:.3g}") for deviation in match.deviations)
            expected.add(f"{first}*first.{match.first} - {second}*second.{match.second}")
    shown = [read_report(file.read_bytes())["shows"] for file in (tmp_path / "out" / "images").glob("*.png")]
    assert expected & {text.replace(" * ", "*") for text in shown}, (expected, shown)


def test_a_second_run_renders_nothing_again(net, photos, tmp_path):
    other = fv.Network(toys.Plain(), size=32, classes=net.classes, **toys.HALF)
    counts = []
    for _ in range(2):
        done = []
        diff(
            net, other, photos, tmp_path / "out", layers=["conv1"], most=1,
            **{**FEW, "progress": lambda now, total, done=done: done.append(total)},
        )  # fmt: skip
        counts.append(max(done, default=0))
    assert counts[0] > 2 and counts[1] == 0


# ---------------------------------------------------------------------------------------------- command line


def test_the_command_takes_models_weights_and_checkpoints(photos, tmp_path, capsys, monkeypatch):
    from safetensors.torch import save_file

    given = []
    monkeypatch.setattr(fv, "diff", lambda *args, **more: given.append((args, more)) or _Nothing())
    state = fv.load("motifnet", weights="none", device="cpu").module.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "early.safetensors")
    line = ["diff", "early.safetensors", "motifnet@early.safetensors", "motifnet", str(photos), "--quiet"]
    assert main([*line, "--device", "cpu", "--judge", "motifvit"]) == 0
    (first, last, folder, output), more = given[0]
    assert [each.weights for each in (first, *more["checkpoints"], last)] == [
        "early.safetensors", "early.safetensors", "default",
    ]  # fmt: skip
    assert more["judge"].name == "motifvit" and folder == photos and output == f"{photos.name}-diff"


class _Nothing:
    pages = None

    def __str__(self):
        return "nothing"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["motifnet", "photos"], "diff needs two networks and a folder of images, got motifnet photos; give them as in: featviz diff motifnet motifvit photos"),
        (["motifnet", "none.safetensors", "photos"], "no weights file none.safetensors"),
        (["motifnet", "motifvitt", "photos"], "no model 'motifvitt'"),
        (["motifnet", "motifvit", "nowhere"], "no folder nowhere"),
        (["motifnet", "phraselstm", "photos"], "phraselstm reads text"),
    ],
)  # fmt: skip
def test_bad_command_lines_end_with_one_line(words, expected, photos, tmp_path, capsys):
    (tmp_path / "photos").symlink_to(photos)
    assert main(["diff", *words, "-o", "out", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert expected in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_one_layer_may_be_given_as_text(net, photos):
    one, several = (diff(net, net, photos, layers=layers, **QUIET) for layers in ("conv1", ["conv1"]))
    assert one.layers == several.layers
    images = torch.rand(1, 3, *net.size)
    assert torch.equal(net.capture(images, "conv1")["conv1"], net.capture(images, ["conv1"])["conv1"])
