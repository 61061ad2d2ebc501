"""Outputs as networks have them: several, by name, without probabilities, one number; and names for some of them."""

import pytest
import torch
import toys
from PIL import Image
from torch import Tensor, nn

import featviz as fv
from featviz.apps.shared.activations.cache_key import cache_key
from featviz.apps.shared.judging.predictions import predict

SIDE = 16
NAMES = ("ant", "bee", "cat", "dog")
EMOTIONS = ("joy", "fear", "awe")


@pytest.fixture(autouse=True)
def always_the_same_weights():
    torch.manual_seed(0)


class Trunk(nn.Module):
    """Convolutions whose means go through an ending."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.embed, self.head, self.emo = nn.Linear(8, 8), nn.Linear(8, 4), nn.Linear(8, 3)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.conv(x).relu().mean((2, 3))
        return self.embed(pooled), self.head(pooled), self.emo(pooled)


class Pair(Trunk):
    """Outputs an embedding before the logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.parts(x)[:2]


class WithLoss(Trunk):
    """Outputs a single number and logits, in a dict."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        embedding, logits, _ = self.parts(x)
        return {"loss": logits.square().mean(), "logits": logits, "embedding": embedding}


class Emotions(Trunk):
    """Outputs the logits of two heads, in a dict."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        embedding, logits, emotion = self.parts(x)
        return {"embedding": embedding, "objects": logits, "feeling": emotion}


class Single(Trunk):
    """Outputs one number per image, without a dimension of classes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.parts(x)[1][:, 0]


class Ending(Trunk):
    """Ends in some function of its logits."""

    def __init__(self, end: nn.Module, count: int = 4) -> None:
        super().__init__()
        self.end, self.count = end, count

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.parts(x)[1][:, : self.count])


@pytest.fixture
def images():
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path):
    """Two photographs."""
    (tmp_path / "photographs").mkdir()
    generator = torch.Generator().manual_seed(2)
    for i in range(2):
        pixels = (torch.rand(SIDE, SIDE, 3, generator=generator) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{i}.png")
    return tmp_path / "photographs"


def net_of(module, **more):
    return toys.network(module, size=SIDE, **more)


def parts(net, images):
    with torch.no_grad():
        return net.module.parts((images - 0.5) / 0.5)


def message(call, error=fv.AddressError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def rises(net, objective):
    rendering = fv.render(net, objective, transforms=(), steps=8, robustness_views=0)
    return (rendering.history.amax(0) > rendering.history[0]).all()


# ---------------------------------------------------------------------------------------------- several outputs


def test_of_several_outputs_the_one_with_as_many_numbers_as_there_are_classes_is_the_logits(images):
    net = net_of(Pair(), classes=NAMES)
    expected = parts(net, images)[1]
    torch.testing.assert_close(net.capture(images, [""]).logits(), expected)
    torch.testing.assert_close(
        fv.score(net, ["logit:cat", "logit:3", "prob:cat"], images),
        torch.stack([expected[:, 2], expected[:, 3], expected.softmax(1)[:, 2]], 1),
    )
    torch.testing.assert_close(predict(net, images), expected.softmax(1))
    found = fv.explain(net, images)
    torch.testing.assert_close(found.score, expected.amax(1))
    assert rises(net, "logit:cat")
    assert net.layers().rows()[-1][:4] == ("logit", "vector", "4", "4")


def test_another_head_has_other_cached_results():
    module = Pair()
    keys = {cache_key(net_of(module, heads={head: ()})) for head in ("output.0", "output.1")}
    assert len(keys) == 2


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
def test_several_outputs_without_class_names_ask_for_the_head(images):
    net = net_of(Pair())
    asks = (
        "Pair outputs output.0 of 8, output.1 of 4; say which are the class logits: heads={'output.0': class names} "
        "(--head output.0)"
    )
    for call in (
        lambda: fv.render(net, "logit:2", steps=1),
        lambda: fv.score(net, ["prob:2"], images),
        lambda: fv.explain(net, images),
        lambda: predict(net, images),
        lambda: net.outputs_of(),
    ):
        assert message(call) == asks
    # As many names as neither output has numbers do not tell, either.
    assert message(lambda: fv.score(net_of(Pair(), classes=EMOTIONS), ["logit:joy"], images)) == asks
    assert not any(line.startswith("logit") and line.endswith("*") for line in str(net.layers()).splitlines())
    # Each output has an address of its own.
    embedding, logits, _ = parts(net, images)
    acts = net.capture(images, ["output.0", "output.1"])
    torch.testing.assert_close(acts["output.0"], embedding)
    torch.testing.assert_close(acts["output.1"], logits)
    assert rises(net, "output.0:5")


@pytest.mark.parametrize("head", ["output.1", "1", "head"])
def test_a_head_says_which_output_is_the_logits(head, images):
    net = net_of(Pair(), heads={head: ()})
    torch.testing.assert_close(net.capture(images, [""]).logits(), parts(net, images)[1])
    assert fv.score(net, ["logit:3"], images).shape == (2, 1)
    assert net.given_heads == {head: ()}


def test_a_loss_beside_the_logits_is_passed_over(images):
    net = net_of(WithLoss(), classes=NAMES)
    expected = parts(net, images)[1]
    assert set(net.probed.outputs) == {"output.logits", "output.embedding"}
    torch.testing.assert_close(net.capture(images, [""]).logits(), expected)
    torch.testing.assert_close(predict(net, images), expected.softmax(1))
    torch.testing.assert_close(fv.explain(net, images, "logit:dog").score, expected[:, 3])
    assert rises(net, "logit:bee")
    # An output that is called so is the logits, whether or not there are names.
    torch.testing.assert_close(fv.score(net_of(WithLoss()), ["logit:1"], images)[:, 0], expected[:, 1])


# ---------------------------------------------------------------------------------------------- heads


@pytest.mark.parametrize("head", ["emo", "feeling", "output.feeling"])
def test_one_head_is_used_by_every_call(head, images, folder, tmp_path):
    net = net_of(Emotions(), heads={head: EMOTIONS})
    expected = parts(net, images)[2]
    torch.testing.assert_close(fv.score(net, ["logit:fear", "logit:2"], images), expected[:, 1:])
    torch.testing.assert_close(predict(net, images), expected.softmax(1))
    found = fv.explain(net, images)
    torch.testing.assert_close(found.score, expected.amax(1))
    best = [EMOTIONS[i] for i in expected.argmax(1).tolist()]
    assert found.target == ", ".join(f"logit:{name}" for name in best) or found.target == f"logit:{best[0]}"
    torch.testing.assert_close(
        found.map, torch.cat([fv.explain(net, images[i], f"logit:{best[i]}").map for i in range(2)])
    )
    counted = fv.evidence(net, folder, "conv")
    assert counted.count.shape == (3, 8)
    assert str(counted).splitlines()[1].split()[0] in EMOTIONS
    pages = fv.gallery(net, tmp_path / "gallery", steps=1)
    html = (tmp_path / "gallery" / "index.html").read_text()
    assert not pages.problems
    assert all(name in html for name in EMOTIONS)
    assert message(lambda: fv.score(net, ["logit:dog"], images)).startswith("no class 'dog'")


def test_the_head_is_that_of_verdicts_too():
    net, other = (net_of(Emotions(), heads={head: EMOTIONS}) for head in ("emo", "feeling"))
    with torch.no_grad():
        other.module.emo.bias.copy_(torch.tensor([3.0, 2.0, 1.0]))  # of any image
        other.module.emo.weight.mul_(1e-3)
        other.module.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    rendering = fv.render(net, "logit:fear", transforms=(), steps=2)
    (verdict,) = fv.judge(rendering, judge=other, network=net)
    assert verdict.rank == 2
    expected = torch.tensor([3.0, 2.0, 1.0]).softmax(0)[1].item()
    assert verdict.probability == pytest.approx(expected, abs=0.01)


def test_a_head_that_does_not_exist(images):
    net = net_of(Emotions(), heads={"feelings": EMOTIONS})
    assert message(lambda: fv.score(net, ["logit:joy"], images)) == (
        "heads names 'feelings', no layer or output of Emotions; nearest: 'output.feeling', 'output.embedding'; its "
        "outputs are 'output.embedding', 'output.objects', 'output.feeling'"
    )
    plain = toys.network(toys.Plain(), heads={"hat": ()})
    assert message(lambda: plain.table) == "heads names 'hat', no layer or output of Plain; nearest: 'head'"


def test_two_heads_are_named_in_the_address(images):
    net = net_of(Emotions(), heads={"head": NAMES, "emo": EMOTIONS})
    _, objects, feelings = parts(net, images)
    found = fv.score(net, ["logit:cat@head", "prob:awe@emo"], images)
    torch.testing.assert_close(found, torch.stack([objects[:, 2], feelings.softmax(1)[:, 2]], 1))
    assert message(lambda: fv.score(net, ["logit:cat"], images)) == (
        "the network has several heads; name the one whose class is meant: logit:NAME@head or logit:NAME@emo; "
        "or choose one with --head"
    )
    by_output = net_of(Emotions(), heads={"output.objects": NAMES, "output.feeling": EMOTIONS})
    found = fv.score(by_output, [fv.objectives.Logit("cat", "output.objects")], images)
    torch.testing.assert_close(found[:, 0], objects[:, 2])


def test_recipes_keep_the_head_and_the_kind_of_outputs(tmp_path):
    net = net_of(Emotions(), heads={"emo": EMOTIONS}, outputs="multilabel")
    rendering = fv.render(net, "prob:fear", transforms=(), steps=3, robustness_views=0)
    (path,) = rendering.save(tmp_path / "fear.png")
    recipe = fv.Recipe.of(path)
    assert (recipe.head, recipe.outputs, recipe.classes) == ("emo", "multilabel", {"fear": 1})
    again = fv.replay(path, network=net)
    assert torch.equal(again.images, rendering.images)


# ---------------------------------------------------------------------------------------------- one number per image


@pytest.mark.parametrize(("module", "outputs"), [(Single(), None), (Ending(nn.Identity(), 1), None)])
def test_one_number_per_image_is_one_logit(module, outputs, images, folder, tmp_path):
    net = net_of(module)
    expected = parts(net, images)[1][:, :1]
    assert net.outputs_of() == ("binary", "logits")
    torch.testing.assert_close(fv.score(net, ["logit:0"], images), expected)
    torch.testing.assert_close(fv.score(net, ["prob:0"], images), expected.sigmoid())
    torch.testing.assert_close(predict(net, images), expected.sigmoid())
    assert fv.explain(net, images).target == "logit:0"
    assert fv.explain(net, images, "prob:0").map.abs().amax() > 0
    with pytest.raises(fv.SettingError, match="has one output"):
        fv.evidence(net, folder, "conv")
    assert not fv.gallery(net, tmp_path / "gallery", steps=1).problems
    assert message(lambda: fv.score(net, ["logit:1"], images)) == "no class 1; the network has 1, 0 to 0"
    assert rises(net, "prob:0")


# ---------------------------------------------------------------------------------------------- kinds of outputs

KINDS = {
    "classes": lambda logits: logits.softmax(1),
    "multilabel": lambda logits: logits.sigmoid(),
    "binary": lambda logits: logits.sigmoid(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_of_the_kind_of_outputs(kind, images):
    net = net_of(Ending(nn.Identity()), classes=NAMES, outputs=kind)
    logits = parts(net, images)[1]
    assert net.outputs_of() == (kind, "logits")
    expected = KINDS[kind](logits)
    torch.testing.assert_close(fv.score(net, ["prob:bee"], images)[:, 0], expected[:, 1])
    torch.testing.assert_close(predict(net, images), expected)
    assert net.with_input(size=SIDE).outputs == kind


def test_a_regression_has_no_probabilities(images):
    net = net_of(Ending(nn.Identity()), outputs="regression")
    refused = "the network's outputs are values of a regression, without probabilities; use logit:"
    assert message(lambda: fv.render(net, "prob:1", steps=1)) == refused
    assert message(lambda: predict(net, images)) == refused
    assert message(lambda: fv.explain(net, images, "prob:1")) == refused
    torch.testing.assert_close(fv.score(net, ["logit:1"], images)[:, 0], parts(net, images)[1][:, 1])
    assert rises(net, "logit:1")


@pytest.mark.parametrize("wrong", ["labels", "", 3])
def test_kinds_of_outputs_that_do_not_exist(wrong):
    expected = f"outputs must be classes, multilabel, binary, regression or None, got {wrong!r}"
    assert message(lambda: net_of(Ending(nn.Identity()), outputs=wrong), fv.SettingError) == expected


def test_a_softmax_of_one_output_cannot_move(images):
    net = net_of(Ending(nn.Identity(), 1), outputs="classes")
    refused = "the softmax of a single output is always 1; give outputs='binary' to the network"
    assert message(lambda: fv.score(net, ["prob:0"], images)) == refused
    assert message(lambda: fv.render(net, "prob:0", steps=1)) == refused
    assert message(lambda: fv.explain(net, images, "prob:0")) == refused


ENDS = {
    "softmax": (nn.Softmax(1), "classes", "probabilities", lambda logits: logits.softmax(1)),
    "log-softmax": (nn.LogSoftmax(1), "classes", "log-probabilities", lambda logits: logits.softmax(1)),
    "sigmoid": (nn.Sigmoid(), "multilabel", "probabilities", lambda logits: logits.sigmoid()),
    "nothing": (nn.Identity(), "classes", "logits", lambda logits: logits.softmax(1)),
    "a dropout": (nn.Dropout(0.5), "classes", "logits", lambda logits: logits.softmax(1)),
    "softmax and reshape": (
        nn.Sequential(nn.Softmax(1), nn.Unflatten(1, (4, 1)), nn.Flatten()),
        "classes",
        "probabilities",
        lambda logits: logits.softmax(1),
    ),
}


class AsFunction(nn.Module):
    """Calls a function instead of a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) if self.name == "sigmoid" else getattr(x, self.name.replace("-", "_"))(1)


@pytest.mark.parametrize(
    ("end", "function"),
    [*((end, False) for end in ENDS), *((end, True) for end in ("softmax", "log-softmax", "sigmoid"))],
)
def test_networks_that_end_in_probabilities(end, function, images):
    module, kind, scale, probabilities = ENDS[end]
    net = net_of(Ending(AsFunction(end) if function else module), classes=NAMES)
    expected = probabilities(parts(net, images)[1])
    assert net.outputs_of() == (kind, scale)
    torch.testing.assert_close(fv.score(net, ["prob:cat"], images)[:, 0], expected[:, 2])
    torch.testing.assert_close(predict(net, images), expected)
    assert fv.explain(net, images, "prob:cat").map.abs().amax() > 0
    assert rises(net, "prob:cat")


def test_a_sigmoid_of_one_output_is_its_probability(images):
    net = net_of(Ending(nn.Sigmoid(), 1))
    expected = parts(net, images)[1][:, :1].sigmoid()
    assert net.outputs_of() == ("binary", "probabilities")
    torch.testing.assert_close(fv.score(net, ["prob:0"], images), expected)
    torch.testing.assert_close(predict(net, images), expected)


# ---------------------------------------------------------------------------------------------- too few class names


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
@pytest.mark.parametrize("names", [(), ("ant",), ("ant", "bee", "ant")])
def test_too_few_or_repeated_class_names(names, images, folder, tmp_path):
    net = net_of(Ending(nn.Identity()), classes=names)
    logits = parts(net, images)[1]
    for index in range(4):  # every class is the most likely one of some image
        with torch.no_grad():
            net.module.head.bias.zero_()
            net.module.head.bias[index] = 100.0
        found = fv.explain(net, images)
        known = index < len(names) and names.count(names[index]) == 1
        assert found.target == (f"logit:{names[index]}" if known else f"logit:{index}")
        torch.testing.assert_close(found.score, parts(net, images)[1][:, index])
        table = str(fv.evidence(net, folder, "conv")).splitlines()
        title = f"logit {index}" if index >= len(names) else names[index] if known else f"{names[index]} ({index})"
        assert table[1].split("  ")[0].strip() == title
    clear = fv.explain(net, images, method="clear")
    titles = {
        f"logit {i}" if i >= len(names) else names[i] if names.count(names[i]) == 1 else f"{names[i]} ({i})"
        for i in range(4)
    }
    assert set(clear.class_names) == titles
    pages = fv.gallery(net, tmp_path / "gallery", steps=1)
    html = (tmp_path / "gallery" / "index.html").read_text()
    assert not pages.problems
    assert all(title in html for title in titles)
    assert not fv.blocks(net, images[0], ["conv"], tmp_path / "blocks", cells=2, groups=1, steps=1).problems
    shown = (tmp_path / "blocks" / "index.html").read_text()
    assert "logit 3" in shown
    assert logits.shape == (2, 4)


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
def test_more_class_names_than_outputs(images):
    net = net_of(Ending(nn.Identity()), classes=(*NAMES, "emu"))
    assert message(lambda: fv.score(net, ["logit:emu"], images)) == (
        "class 'emu' has index 4 of 5 names, but the network has 4 outputs; give classes= in output order"
    )
    torch.testing.assert_close(fv.score(net, ["logit:dog"], images)[:, 0], parts(net, images)[1][:, 3])
