"""Networks with several inputs: one is optimised, the others are given, and everything else is as for images."""

import copy

import numpy as np
import pytest
import torch
from input_toys import (
    GREEN,
    NAMED,
    RED,
    SPEC,
    TABULAR,
    WAYS,
    Both,
    KeywordOnly,
    OneDict,
    Positional,
    Switched,
    switched,
)
from text_toys import state
from torch import nn

import featviz as fv
from featviz.errors import FeatvizError
from featviz.network.inputs.given_inputs import inputs_in

IMAGES = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("way", WAYS)
def test_activations_are_those_of_a_direct_call(way):
    kind, inputs = WAYS[way]
    module = kind()
    net = fv.Network(module, inputs=inputs)
    found = net.capture(IMAGES, ["", "conv", "head"])
    images, table = (IMAGES - 0.5) / 0.5, TABULAR.expand(5, 2)
    assert torch.allclose(found[""], module.both(images, table), rtol=0, atol=1e-6)
    assert torch.allclose(found["conv"], module.conv(images), rtol=0, atol=1e-5)
    assert torch.equal(found["head"], found[""])
    assert {name: layer.layout.kind for name, layer in net.table.items()} == {
        "conv": "map", "head": "vector", "": "vector"
    }  # fmt: skip
    assert net.receptive_fields()["conv"].px == 5


@pytest.mark.parametrize("way", WAYS)
def test_nothing_changes_on_the_module(way):
    kind, inputs = WAYS[way]
    module = kind().train()
    table = TABULAR.clone()
    before, values = state(module), copy.deepcopy(module.state_dict())
    net = fv.Network(module, inputs=inputs)
    net.layers()
    fv.render(net, "logit:1", steps=2, size=32, progress=None)
    fv.explain(net, IMAGES[0], "logit:1")
    assert state(module) == before
    assert all(torch.equal(values[name], value) for name, value in module.state_dict().items())
    assert torch.equal(TABULAR, table)


def test_a_module_that_changes_its_inputs_gets_copies():
    class Writes(Both):
        def forward(self, image, tabular, plain):
            tabular += 1
            plain += 1
            return self.both(image, tabular) + plain.sum()

    net = fv.Network(Writes(), inputs={"image": SPEC, "tabular": TABULAR, "plain": fv.Given(torch.zeros(3))})
    first, second = (net.capture(IMAGES, [""])[""] for _ in range(2))
    assert torch.equal(first, second)
    expected = Positional()((IMAGES - 0.5) / 0.5, TABULAR.expand(5, 2) + 1) + 3
    assert torch.allclose(first, expected, rtol=0, atol=1e-6)


def test_a_later_change_of_the_tensor_does_not_matter():
    table = TABULAR.clone()
    net = fv.Network(Positional(), inputs={"image": SPEC, "tabular": table})
    before, fingerprint = net.capture(IMAGES, [""])[""], net.fingerprint
    table.zero_()
    assert torch.equal(net.capture(IMAGES, [""])[""], before)
    assert net.fingerprint == fingerprint


def test_values_of_all_kinds():
    class Kinds(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.words = nn.Conv2d(3, 4, 3), nn.Embedding(10, 4)

        def forward(self, image, ids, graph, scale, step, name, *, extra=None, flag=False):
            assert (name, flag, extra, step.shape, graph.shape) == ("sum", True, None, (), (3, 3))
            found = self.conv(image).mean((2, 3)) + self.words(ids).mean(1)
            return (found * scale + graph.sum() + step)[:, :3]

    graph = np.eye(3, dtype=np.float32)
    inputs = {
        "image": SPEC, "ids": torch.tensor([[1, 2, 3]]), "graph": fv.Given(graph), "scale": 2.0,
        "step": torch.tensor(7), "name": "sum", "extra": None, "flag": True,
    }  # fmt: skip
    module = Kinds()
    net = fv.Network(module, inputs=inputs)
    expected = module(
        (IMAGES - 0.5) / 0.5, torch.tensor([[1, 2, 3]] * 5), torch.eye(3), 2.0, torch.tensor(7), "sum", flag=True
    )
    assert torch.allclose(net.capture(IMAGES, [""])[""], expected, rtol=0, atol=1e-5)
    assert list(net.given) == ["ids", "graph", "scale", "step", "name", "extra", "flag"]
    assert "ids = int64 (1, 3), graph = float32 (3, 3), scale = 2.0" in repr(net)


def test_an_encoder_of_two_images_is_captured_on_the_optimised_one():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Conv2d(3, 4, 3)

        def forward(self, first, second):
            return (self.encoder(first).mean((2, 3)) * self.encoder(second).mean((2, 3))).sum(1, keepdim=True)

    module, second = Pair(), torch.rand(1, 3, 20, 20)
    net = fv.Network(module, inputs={"first": SPEC, "second": second}, outputs="regression")
    expected = module((IMAGES - 0.5) / 0.5, second.expand(5, -1, -1, -1))
    assert torch.allclose(net.capture(IMAGES, [""])[""], expected, rtol=0, atol=1e-6)
    encoded = net.capture(IMAGES, ["encoder"])["encoder"]  # its call on the optimised input, though it is not the last
    assert torch.allclose(encoded, module.encoder((IMAGES - 0.5) / 0.5), atol=1e-5)
    with pytest.raises(fv.AddressError, match="nearest: 'encoder'"):
        net.capture(IMAGES, ["encoder#2"])
    assert not net.fixed_size


@pytest.mark.parametrize(
    ("spec", "conv"),
    [
        (fv.InputSpec((64,), (0.0,), (1.0,)), nn.Conv1d(1, 4, 5)),
        (fv.InputSpec((8, 16, 16), (0.0,), (1.0,)), nn.Conv3d(1, 4, 3)),
        (fv.InputSpec(16, (0.2, 0.4, 0.6), (0.5,) * 3, "BGR", "NHWC"), nn.Conv2d(3, 4, 3)),
    ],
)
def test_the_optimised_input_may_be_a_signal_a_volume_or_have_its_channels_last(spec, conv):
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.gate = conv, nn.Linear(2, 4)

        def forward(self, tabular, signal):
            signal = signal.permute(0, 3, 1, 2) if spec.layout == "NHWC" else signal
            return self.conv(signal).flatten(2).mean(2) * self.gate(tabular)

    module, images = Gated(), torch.rand(3, spec.channels, *spec.size)
    net = fv.Network(module, inputs=(TABULAR, spec))
    expected = module(TABULAR.expand(3, 2), spec.normaliser(torch.zeros(1))(images))
    assert torch.allclose(net.capture(images, [""])[""], expected, rtol=0, atol=1e-6)
    rendering = fv.render(net, "logit:1", steps=2, transforms=(), progress=None)
    assert rendering.images.shape == (1, spec.channels, *spec.size)


def test_two_inputs_are_optimised_in_turn():
    class Match(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 5)

        def forward(self, first, second):
            return (self.conv(first).mean((2, 3)) * self.conv(second).mean((2, 3))).sum(1, keepdim=True)

    module, quick = Match(), {"steps": 8, "transforms": (), "progress": None, "robustness_views": 0}
    given, scores = {"first": torch.zeros(1, 3, 32, 32), "second": torch.ones(1, 3, 32, 32)}, []
    for name in ("first", "second", "first"):
        net = fv.Network(module, inputs=given | {name: SPEC}, outputs="regression")
        rendering = fv.render(net, "logit:0", **quick)
        given[name] = net.normaliser()(rendering.images)
        scores.append(rendering.history[[0, -1], 0].tolist())
    assert all(last > first for first, last in scores)
    assert torch.allclose(module(**given)[0, 0], fv.score(net, "logit:0", rendering.images)[0, 0], atol=1e-6)


def test_layers_of_given_inputs_cannot_be_addressed():
    with pytest.raises(fv.AddressError) as caught:
        fv.render(fv.Network(Positional(), inputs=NAMED), "table:1", progress=None)
    assert str(caught.value) == (
        "layer 'table' of Positional cannot be addressed: no gradient goes from it to the optimised input, as it reads "
        "given ones"
    )


def test_with_given_replaces_values_and_shares_what_was_measured():
    net = switched()
    table = net.table
    other = net.with_given({"tabular": GREEN})
    assert other.table is table
    assert other.module is not net.module
    assert other.fingerprint != net.fingerprint
    assert net.with_given({"tabular": fv.Given(torch.cat([RED, GREEN]), per_image=True)}).table is table
    assert net.with_given({"tabular": fv.Given(RED)}).table is not table
    assert net.with_given({"tabular": RED.clone()}).fingerprint == net.fingerprint
    images = torch.rand(2, 3, 16, 16)
    for used, row in ((net, RED), (other, GREEN), (other.with_input(size=12), GREEN)):
        expected = Switched()((images - 0.5) / 0.5, row.expand(2, 2))
        assert torch.allclose(used.capture(images, [""])[""], expected, atol=1e-6)
    assert fv.Network(other.module, inputs={"image": SPEC, "tabular": RED}).given["tabular"].shown == "[[1.0, 0.0]]"


def test_without_other_inputs_the_fingerprint_is_that_of_the_weights():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            nn.init.ones_(self.conv.weight)

        def forward(self, image):
            return self.conv(image)

    with_size = fv.Network(Alone(), size=32, mean=SPEC.mean, std=SPEC.std)
    assert fv.Network(Alone(), inputs={"image": SPEC}).fingerprint == with_size.fingerprint


def test_combined_networks_keep_their_inputs():
    both = fv.combine(red=switched(RED), green=switched(GREEN))
    images = torch.rand(2, 3, 16, 16)
    found = both.capture(images, ["red", "green"])
    for name, row in (("red", RED), ("green", GREEN)):
        assert torch.allclose(found[name], Switched()((images - 0.5) / 0.5, row.expand(2, 2)), atol=1e-6)
    assert list(both.given) == ["red.tabular", "green.tabular"]
    assert both.fingerprint != fv.combine(red=switched(RED), green=switched(RED)).fingerprint


def test_wrapped_modules_run_on_a_working_copy_and_are_unwrapped_again():
    class Patched(Both):
        def forward(self, image, tabular):
            raise AssertionError("the instance has another forward")

    module = Patched()
    module.forward = module.both
    net = fv.Network(module, inputs=NAMED)
    again = fv.Network(net.module, inputs={"image": SPEC, "tabular": TABULAR + 1})
    for used, shift in ((net, 0), (again, 1)):
        expected = module.both((IMAGES - 0.5) / 0.5, TABULAR.expand(5, 2) + shift)
        assert torch.allclose(used.capture(IMAGES, [""])[""], expected, rtol=0, atol=1e-6)
    assert list(inputs_in(again.module)) == [""]


# ---------------------------------------------------------------------------------------------- explanations


@pytest.mark.parametrize("method", ["gradcam", "IntegratedGradients(steps=16)", "occlusion"])
def test_explanations_are_about_the_optimised_input(method):
    image = torch.full((3, 16, 16), 0.5)
    image[0, :8] = 0.9  # red above
    image[1, 8:] = 0.8  # green below, less so
    for row, evidence, rest in ((RED, slice(0, 8), slice(8, 16)), (GREEN, slice(8, 16), slice(0, 8))):
        found = fv.explain(switched(row), image, "logit:seen", method=method).map[0]
        assert found.shape == (16, 16)
        assert found[evidence].mean() > 0
        assert found[evidence].mean() > found[rest].mean()


@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_a_direct_call(way):
    kind, inputs = WAYS[way]
    module, images = kind(), IMAGES.clone().requires_grad_()
    fv.Network(module, inputs=inputs).capture(images, [""])[""][:, 1].sum().backward()
    direct = IMAGES.clone().requires_grad_()
    module.both((direct - 0.5) / 0.5, TABULAR.expand(5, 2))[:, 1].sum().backward()
    assert direct.grad.abs().max() > 0
    assert torch.allclose(images.grad, direct.grad, rtol=1e-4, atol=1e-7)


# ---------------------------------------------------------------------------------------------- errors

EXAMPLE = "use e.g. inputs={'image': fv.InputSpec(...), 'tabular': tensor}"
ROWS = (
    "input 'tabular' must have one row for all images, (1, ...), got {}; give tensor[None] if it is that row, "
    "fv.Given(tensor, per_image=True) if it has a row per image, or fv.Given(tensor) to pass it as it is"
)
PER = fv.Given(torch.zeros(3, 2), per_image=True)
BAD = [
    (Positional, {"image": SPEC}, "inputs must have every argument of Positional.forward without a default; missing: tabular; give each as a tensor"),
    (KeywordOnly, {"image": SPEC}, "inputs must have every argument of KeywordOnly.forward without a default; missing: tabular; give each as a tensor"),
    (Positional, (SPEC,), "inputs must have every argument of Positional.forward without a default; missing: tabular; give each as a tensor"),
    (Positional, (SPEC, TABULAR, TABULAR), "Positional.forward takes 2 inputs by position (image, tabular), got 3"),
    (Positional, {**NAMED, "tabula": TABULAR}, "no input 'tabula' of Positional.forward, which has image, tabular; nearest: 'tabular'"),
    (Positional, {"image": SPEC, "tabular": TABULAR[0]}, ROWS.format("(2,)")),
    (Positional, {"image": SPEC, "tabular": torch.zeros(3, 2)}, ROWS.format("(3, 2)")),
    (Positional, {"image": SPEC, "tabular": TABULAR.double()}, "input 'tabular' must be float32, as the weights are, got float64; give tensor.to(torch.float32)"),
    (Positional, {"image": SPEC, "tabular": TABULAR.to("meta")}, "input 'tabular' is on the meta device and has no values; give it on the CPU or a GPU"),
    (Positional, {"image": SPEC, "tabular": TABULAR.to_sparse()}, "input 'tabular' must be a dense tensor, got torch.sparse_coo; give tensor.to_dense()"),
    (Positional, {"image": SPEC, "tabular": np.array(["a"])}, "input 'tabular' must hold numbers, got an array of <U1"),
    (Positional, {"image": SPEC, "tabular": object}, "input 'tabular' must be an fv.InputSpec, a tensor, an fv.Given(tensor), a number or text, got <class 'object'>"),
    (Positional, {"image": SPEC, "tabular": SPEC}, "Positional does not run on images image (3, 32, 32), tabular (3, 32, 32): RuntimeError: mat1 and mat2 shapes cannot be multiplied (192x32 and 2x4); give each input as the module expects it, with the images first"),
    (Positional, {"image": IMAGES[:1], "tabular": TABULAR}, "one of the inputs must be optimised, and none is an fv.InputSpec: image, tabular"),
    (OneDict, {"batch": {"image": SPEC}}, "OneDict does not run on images (n, 3, h, w): KeyError: 'tabular'; give each input as the module expects it, with the images first"),
    (Positional, {}, f"inputs must be a dict of the arguments of Positional.forward by name, or a tuple of them, got {{}}; {EXAMPLE}"),
    (Positional, "image", f"inputs must be a dict of the arguments of Positional.forward by name, or a tuple of them, got 'image'; {EXAMPLE}"),
    (KeywordOnly, {"image": SPEC, "tabular": torch.zeros(1, 3)}, "KeywordOnly does not run on images (n, 3, h, w), tabular = float32 (1, 3): RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 2x4); give each input as the module expects it, with the images first"),
    (KeywordOnly, {"image": SPEC, "tabular": torch.zeros(1, 2, dtype=torch.int64)}, "KeywordOnly does not run on images (n, 3, h, w), tabular = int64 (1, 2): RuntimeError: mat1 and mat2 must have the same dtype, but got Long and Float; give each input as the module expects it, with the images first"),
    (KeywordOnly, {"image": SPEC, "tabular": torch.zeros(1, 4, 2)}, "KeywordOnly does not run on images (n, 3, h, w), tabular = float32 (1, 4, 2): RuntimeError: Tensors must have same number of dimensions: got 2 and 3; give each input as the module expects it, with the images first"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "inputs", "message"), BAD)
def test_bad_inputs_are_told_in_one_line(kind, inputs, message):
    with pytest.raises(FeatvizError) as caught:
        fv.Network(kind(), inputs=inputs).layers()
    assert str(caught.value) == message


def test_an_input_specification_is_given_once():
    with pytest.raises(fv.SettingError) as caught:
        fv.Network(Positional(), inputs=NAMED, size=32, mean=(0.5,) * 3, layout="NHWC")
    assert str(caught.value) == "inputs has the fv.InputSpec of the optimised input; leave out layout, size, mean"


def test_values_per_image_are_for_one_number_of_images():
    class Three(Both):
        def forward(self, image, tabular, more):
            return self.both(image, tabular)

    given = {"image": SPEC, "tabular": PER, "more": fv.Given(torch.zeros(2, 2), per_image=True)}
    with pytest.raises(fv.SettingError) as caught:
        fv.Network(Three(), inputs=given)
    assert str(caught.value) == "inputs per image must have as many rows as there are images, got tabular 3, more 2"
    for value, message in (
        (torch.tensor(1.0), "a value per image must have one row per image, got a single number"),
        ([1, 2], "a given input must be a tensor, got [1, 2]"),
    ):
        with pytest.raises(fv.SettingError) as caught:
            fv.Given(value, per_image=True)
        assert str(caught.value) == message
    with pytest.raises(fv.SettingError) as caught:
        fv.Network(Positional(), inputs={"image": SPEC, "tabular": fv.Given(torch.zeros(0, 2), per_image=True)})
    assert str(caught.value) == "input 'tabular' must have a row per image, got none"


def test_errors_of_with_given():
    net = switched()
    for values, message in (
        ({"image": RED}, "no given input 'image'; the given inputs are 'tabular'"),
        ({"tabular": SPEC}, "input 'tabular' must be a value here; make another network to optimise it"),
        (RED, "values must be a dict of given inputs by name, got tensor([[1., 0.]])"),
    ):
        with pytest.raises(fv.SettingError) as caught:
            net.with_given(values)
        assert str(caught.value) == message
    with pytest.raises(fv.SettingError) as caught:
        fv.load("motifnet", device="cpu").with_given({"tabular": RED})
    assert str(caught.value) == (
        "motifnet has no given inputs of its own; one that has is fv.Network(module, inputs=...)"
    )


@pytest.mark.parametrize("way", WAYS)
def test_another_input_specification_stays_when_given_values_change(way):
    kind, inputs = WAYS[way]
    net = fv.Network(kind(), inputs=inputs).with_input(size=48, std=(0.25,) * 3)
    name = next(iter(net.given))
    changed = net.with_given({name: 2 * TABULAR})
    assert changed.input == net.input and changed.size == (48, 48) and changed.input.std == (0.25,) * 3
    assert inputs_in(changed.module)[""].spec == net.input
