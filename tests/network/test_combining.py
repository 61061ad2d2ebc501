"""Combined networks in one objective."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz import objectives as obj


@pytest.fixture
def pair():
    other = toys.network(toys.Vit(size=48), 48, mean=(0.4,) * 3, std=(0.2,) * 3, classes=("x", "y", "z"))
    return fv.combine(first=toys.plain(), second=other)


def test_each_network_gets_the_same_input_as_alone(pair):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    acts = pair.capture(images, ["first.conv2", "second.block", "second"])
    alone = toys.plain().capture(images, ["conv2"])
    assert torch.allclose(acts["first.conv2"], alone["conv2"], atol=1e-5)
    other = toys.network(toys.Vit(size=48), 48, mean=(0.4,) * 3, std=(0.2,) * 3)
    resized = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", antialias=True)
    assert torch.allclose(acts["second.block"], other.capture(resized, ["block"])["block"], atol=1e-5)
    assert acts.logits("second").shape == (2, 3)


def test_one_objective_addresses_all_networks(pair):
    goal = obj.parse("first.conv2:1 + logit:y@second - 0.5*prob:cat@first + tv")
    assert str(goal) == "first.conv2:1 + logit:y@second - 0.5 * prob:cat@first + tv"
    assert goal.layers == {"first.conv2", "second", "first"}
    rendering = fv.render(pair, goal, steps=12, transforms=())
    assert rendering.history[-1] > rendering.history[0]
    images = rendering.images
    acts = pair.capture(images, goal.layers)
    assert obj.Logit("y", "second")(acts).item() == acts["second"][0, 1].item()
    assert obj.Probability("cat", "first")(acts).item() == acts["first"].softmax(1)[0, 2].item()


def test_no_hooks_stay_on_the_modules(pair):
    fv.render(pair, "second.block:1", steps=2, transforms=())
    for module in pair.module.modules():
        assert not module._forward_hooks


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (
            "logit:cat",
            "the network has several heads; name the one whose class is meant: logit:NAME@first or logit:NAME@second; "
            "or choose one with --head",
        ),
        (
            "logit:3",
            "the network has several heads; name the one whose class is meant: logit:NAME@first or logit:NAME@second; "
            "or choose one with --head",
        ),
        ("logit:cat@second", "no class 'cat'"),
        ("logit:cat@third", "no layer 'third' in _Combined"),
        ("conv2:1", "no layer 'conv2' in _Combined; nearest: 'first.conv2'"),
    ],
)
def test_addresses_that_do_not_exist(pair, goal, message):
    with pytest.raises(fv.AddressError) as caught:
        fv.render(pair, goal, steps=1)
    assert str(caught.value).startswith(message)


def test_networks_that_cannot_be_combined():
    with pytest.raises(
        fv.SettingError, match=r"^combine needs at least 2 networks, as combine\(first=one, second=other\), got 1$"
    ):
        fv.combine(only=toys.plain())
    grey = toys.network(toys.Plain(1), mean=(0.5,), std=(0.5,))
    with pytest.raises(
        fv.SettingError,
        match="^combined networks must have equal axes, channels, device and precision, got yx 3 cpu torch.float32 a",
    ):
        fv.combine(a=toys.plain(), b=grey)
    net = toys.plain()
    with pytest.raises(
        fv.SettingError, match=r"^combined networks must not share a module; copy it with copy.deepcopy\(module\)$"
    ):
        fv.combine(a=net, b=net)
    for name in ("a.b", "forward", ""):
        with pytest.raises(
            fv.SettingError,
            match=f"^the name of a combined network must be an identifier that nn.Module does not use, got {name!r}$",
        ):
            fv.combine(**{name: net, "other": toys.plain()})


def test_positions_refer_to_the_resized_images(pair):
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    acts = pair.capture(images, ["second.block"])
    assert obj.Neuron("second.block", 2, (5, 5))(acts).item() == acts["second.block"][0, 1 + 5 * 6 + 5, 2].item()
    assert obj.Neuron("second.block", 2, "cls")(acts).item() == acts["second.block"][0, 0, 2].item()


def test_networks_without_captured_layers_are_skipped(pair):
    ran = []
    for name in ("first", "second"):
        module = pair.module.get_submodule(name)
        original = module.forward
        module.forward = lambda x, name=name, original=original: ran.append(name) or original(x)
    fv.render(pair, "second.block:1", steps=1, transforms=())  # the search for foldable pairs runs all networks once
    ran.clear()
    fv.render(pair, "second.block:1", steps=2, transforms=())
    assert set(ran) == {"second"}


def test_combined_networks_that_draw_random_numbers_leave_the_global_generator_alone():
    class Noisy(toys.Plain):
        def forward(self, x):
            return super().forward(x + 0.1 * torch.randn_like(x))

    both = fv.combine(first=toys.network(Noisy()), second=toys.plain())
    assert both.probed.draws
    before = torch.get_rng_state()
    one = fv.render(both, "first.conv2:1", steps=2).images
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    assert torch.equal(fv.render(both, "first.conv2:1", steps=2).images, one)


def test_signals_reach_each_network_in_its_own_range():
    torch.manual_seed(0)
    parts = [nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()) for _ in range(2)]
    for ranges in [((-1.0, 1.0), (-1.0, 1.0)), ((-1.0, 1.0), (0.0, 3.0)), (None, None)]:
        first, second = (
            fv.Network(part.eval(), size=(64,), mean=(0.5,), std=(0.2,), value_range=given)
            for part, given in zip(parts, ranges, strict=True)
        )
        both = fv.combine(first=first, second=second)
        assert both.input.axes == "x"
        signals = torch.rand(2, 1, 64, generator=torch.Generator().manual_seed(1))
        acts = both.capture(signals, ["first", "second"])
        assert torch.allclose(acts["first"], first.capture(signals, [""])[""], atol=1e-5)
        assert torch.allclose(acts["second"], second.capture(signals, [""])[""], atol=1e-5)
        shared = ranges[0] == ranges[1]
        assert torch.allclose(both.input.values(signals), first.input.values(signals), atol=1e-6) == shared


class Several(toys.Plain):
    """Outputs a dict of probabilities and logits."""

    def forward(self, x):
        logits = super().forward(x)
        return {"likely": logits.softmax(1), "logits": logits, "value": logits[:, :2]}


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
@pytest.mark.parametrize("head", ["output.logits", "output.likely"])
def test_the_chosen_output_of_each_network_is_its_head(head):
    torch.manual_seed(0)
    names = ("one", "two", "three")
    single = toys.network(Several(), heads={head: names})
    both = fv.combine(other=toys.network(Several(), heads={"output.value": ("a", "b")}), single=single)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for goal in ("logit:two", "prob:two"):
        alone = fv.score(single, goal, images)
        assert torch.allclose(fv.score(both, f"{goal}@single", images), alone, atol=1e-6)
    assert torch.allclose(
        fv.score(both, '"single.output.value":1 + 0*logit:a@other', images),
        fv.score(single, "output.value:1", images),
        atol=1e-6,
    )


def test_networks_with_several_heads_keep_them():
    several = toys.network(Several(), heads={"output.logits": ("a", "b", "c"), "output.value": ("d", "e")})
    both = fv.combine(first=several, second=toys.plain())
    assert set(both.heads) == {"first.output.logits", "first.output.value", "second"}
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert fv.score(both, "logit:e@first.output.value", images) == fv.score(several, "logit:e@output.value", images)


def test_outputs_that_are_no_probabilities_stay_so():
    both = fv.combine(first=toys.network(toys.Plain(), outputs="regression"), second=toys.plain())
    with pytest.raises(fv.AddressError, match="^the network's outputs are values of a regression"):
        fv.render(both, "prob:0@first", steps=1)
    assert both.outputs_of("second")[0] == "classes"
    assert both.with_input(size=48).outputs_of("first")[0] == "regression"


def test_a_network_that_writes_its_weights_keeps_them():
    class Writes(toys.Plain):
        def forward(self, x):
            with torch.no_grad():
                self.conv1.weight.mul_(1.01)
            return super().forward(x)

    single = toys.network(Writes())
    before = single.module.conv1.weight.clone()
    both = fv.combine(first=single, second=toys.plain())
    for network, goal in ((both, "first.conv2:1 + second.conv2:1"), (single, "conv2:1")):
        fv.render(network, goal, steps=2)
        assert torch.equal(single.module.conv1.weight, before)


def test_other_sizes_and_heads_keep_the_patches_of_each_network(pair, monkeypatch):
    block = pair.table["second.block"].layout
    assert block.patch and pair.with_input(size=64).table["second.block"].layout == block
    assert pair.with_input(size=64).table["first.conv2"].shape[1:] == (32, 32)
    monkeypatch.setattr("featviz.network.loading.load.find", lambda _: lambda: pair)
    loaded = fv.load("networks.py:both", device="cpu", head="first")
    assert loaded.table["second.block"].layout == block
    assert fv.score(loaded, "second.block:1@3,3", torch.rand(1, 3, 32, 32)).shape == (1, 1)


def test_hooks_of_the_user_do_not_decide_which_networks_run(pair):
    pair.module.get_submodule("first").register_forward_hook(lambda *_: None)
    assert pair.accepts((36, 36))
    assert pair.capture(torch.rand(1, 3, 32, 32), ["second.block"])["second.block"].shape == (1, 37, 12)
