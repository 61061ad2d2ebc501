"""Several networks in one objective."""

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj


@pytest.fixture
def pair():
    other = toys.network(toys.Vit(size=48), 48, mean=(0.4,) * 3, std=(0.2,) * 3, classes=("x", "y", "z"))
    return fv.combine(first=toys.plain(), second=other)


def test_every_network_sees_the_pictures_as_it_would_alone(pair):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    acts = pair.capture(images, ["first.conv2", "second.block", "second"])
    alone = toys.plain().capture(images, ["conv2"])
    assert torch.allclose(acts["first.conv2"], alone["conv2"], atol=1e-5)
    other = toys.network(toys.Vit(size=48), 48, mean=(0.4,) * 3, std=(0.2,) * 3)
    resized = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", antialias=True)
    assert torch.allclose(acts["second.block"], other.capture(resized, ["block"])["block"], atol=1e-5)
    assert acts.logits("second").shape == (2, 3)


def test_one_objective_speaks_of_them_all(pair):
    goal = obj.parse("first.conv2:1 + logit:y@second - 0.5*prob:cat@first + tv")
    assert str(goal) == "first.conv2:1 + logit:y@second - 0.5 * prob:cat@first + tv"
    assert goal.layers == {"first.conv2", "second", "first"}
    rendering = fv.render(pair, goal, steps=12, transforms=())
    assert rendering.history[-1] > rendering.history[0]
    images = rendering.images
    acts = pair.capture(images, goal.layers)
    assert obj.Logit("y", "second")(acts).item() == acts["second"][0, 1].item()
    assert obj.Probability("cat", "first")(acts).item() == acts["first"].softmax(1)[0, 2].item()


def test_nothing_stays_on_the_modules(pair):
    fv.render(pair, "second.block:1", steps=2, transforms=())
    for module in pair.module.modules():
        assert not module._forward_hooks


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("logit:cat", "several networks run combine; say whose class it is, as logit:NAME@first or logit:NAME@second"),
        ("logit:3", "several networks run combine; say whose class it is, as logit:NAME@first or logit:NAME@second"),
        ("logit:cat@second", "no class 'cat'"),
        ("logit:cat@third", "no layer 'third' in _Together"),
        ("conv2:1", "no layer 'conv2' in _Together; nearest: 'first.conv2'"),
    ],
)
def test_what_is_not_there(pair, goal, message):
    with pytest.raises(fv.AddressError) as caught:
        fv.render(pair, goal, steps=1)
    assert str(caught.value).startswith(message)


def test_what_cannot_run_together():
    with pytest.raises(fv.SettingError, match=r"^combine takes two networks or more, as combine\(first=one, second="):
        fv.combine(only=toys.plain())
    grey = toys.network(toys.Plain(1), mean=(0.5,), std=(0.5,))
    with pytest.raises(
        fv.SettingError, match=r"^networks run combine need the same channels, device and precision, not 3 "
    ):
        fv.combine(a=toys.plain(), b=grey)
    net = toys.plain()
    with pytest.raises(fv.SettingError, match=r"^networks run combine need modules of their own; copy.deepcopy"):
        fv.combine(a=net, b=net)
    for name in ("a.b", "forward", ""):
        with pytest.raises(fv.SettingError, match=r"^a network cannot be called"):
            fv.combine(**{name: net, "other": toys.plain()})


def test_places_are_those_of_the_images_that_a_network_sees(pair):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    acts = pair.capture(images, ["second.block"])
    assert obj.Neuron("second.block", 2, (5, 5))(acts).item() == acts["second.block"][0, 1 + 5 * 6 + 5, 2].item()
    assert obj.Neuron("second.block", 2, "cls")(acts).item() == acts["second.block"][0, 0, 2].item()


def test_only_the_networks_that_are_asked_run(pair):
    ran = []
    for name in ("first", "second"):
        module = pair.module.get_submodule(name)
        original = module.forward
        module.forward = lambda x, name=name, original=original: ran.append(name) or original(x)
    fv.render(pair, "second.block:1", steps=1, transforms=())  # looks for what can be folded, everywhere
    ran.clear()
    fv.render(pair, "second.block:1", steps=2, transforms=())
    assert set(ran) == {"second"}
