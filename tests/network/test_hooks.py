"""Capturing outputs: the last call of each layer, and where the pass stops."""

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import toys
from torch import nn

import featviz as fv
from featviz.network.hooks import Capture, CapturedCall
from featviz.network.working_copy import working_copy

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def module_of(kind):
    return toys.network(kind()).module.eval()


def hooked(module, calls):
    """Return a function that runs a pass and returns the outputs of the last calls of layers."""
    return Capture(module, {layer: CapturedCall(layer, number) for layer, number in calls.items()})


def capture(module, calls, images=IMAGES):
    copy = working_copy(module)
    return hooked(copy, calls)(lambda: copy(images))


class Paired(nn.Module):
    """Outputs a tuple that the next layer overwrites in place."""

    class Pair(nn.Module):
        def forward(self, x):
            return x * 2, "more"

    def __init__(self):
        super().__init__()
        self.pair = self.Pair()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.pair(x - 0.5)[0])


class Aliased(nn.Module):
    """Changes the output of a layer in place, and reads the input of the layer, which may be the same tensor."""

    def __init__(self, layer):
        super().__init__()
        self.conv, self.layer = nn.Conv2d(3, 4, 3), layer

    def forward(self, x):
        before = self.conv(x)
        after = self.layer(before)
        after += 1
        return before.flatten(1) * after.flatten(1)


# ---------------------------------------------------------------------------------------------- what is captured


@pytest.mark.parametrize("layer", [nn.Dropout(), nn.Identity(), nn.Sequential(nn.Identity())])
def test_capturing_a_layer_that_returns_its_input_changes_nothing(layer):
    module = Aliased(layer).eval()
    expected, conv = module(IMAGES), module.conv(IMAGES)
    copy = working_copy(module)
    run = hooked(copy, {"layer": 1, "": 1})
    for _ in range(2):
        found = run(lambda: copy(IMAGES.clone().requires_grad_()))
        assert torch.equal(found[""], expected)
        assert torch.equal(found["layer"], conv)
        # (conv + 1) squared: both factors depend on the layer
        (gradient,) = torch.autograd.grad(found[""].sum(), found["layer"])
        assert torch.allclose(gradient, 2 * (conv + 1), atol=1e-6)


def test_layers_that_return_their_input_stay_in_the_graph():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Conv2d(4, 2, 3)).eval()
    found = capture(module, {"1": 1, "": 1}, IMAGES.clone().requires_grad_())
    (gradient,) = torch.autograd.grad(found[""].sum(), found["1"])
    assert gradient.abs().sum() > 0


def test_outputs_by_name():
    module = module_of(toys.Plain)
    found = capture(module, {"conv1": 1, "conv2": 1, "": 1})
    assert set(found) == {"conv1", "conv2", ""}
    conv1 = module.conv1(IMAGES)
    conv2 = module.conv2(F.relu(module.bn1(conv1)))
    assert torch.allclose(found["conv1"], conv1, atol=1e-6)
    assert torch.allclose(found["conv2"], conv2, atol=1e-6)
    assert torch.allclose(found[""], module(IMAGES), atol=1e-6)


def test_last_call_is_captured():
    module = module_of(toys.Twice)
    once = module.conv(IMAGES)
    assert torch.allclose(capture(module, {"conv": 2})["conv"], module.conv(once), atol=1e-6)
    assert torch.allclose(capture(module, {"conv": 1})["conv"], once, atol=1e-6)
    assert torch.allclose(capture(module, {"conv": 2, "head": 1})["conv"], module.conv(once), atol=1e-6)


def test_each_pass_starts_anew():
    module = module_of(toys.Twice)
    run = hooked(module, {"conv": 2})
    first, second = run(lambda: module(IMAGES)), run(lambda: module(2 * IMAGES))
    assert torch.equal(run(lambda: module(IMAGES))["conv"], first["conv"])
    assert not torch.equal(first["conv"], second["conv"])


def test_first_tensor_of_tuples_and_dicts():
    assert capture(module_of(toys.Dict), {"": 1})[""].shape == (2, 4)
    assert torch.equal(capture(Paired(), {"pair": 1})["pair"], 2 * (IMAGES - 0.5))


def test_without_layers_nothing_runs():
    assert hooked(module_of(toys.Plain), {})(lambda: pytest.fail("the network ran")) == {}


# ---------------------------------------------------------------------------------------------- where the pass stops


@pytest.mark.parametrize(
    ("calls", "reached"),
    [({"conv1": 1}, ["conv1"]), ({"conv1": 1, "bn1": 1}, ["conv1", "bn1"]), ({"relu": 2}, ["conv1", "bn1", "conv2"])],
)
def test_pass_stops_after_the_last_layer(calls, reached):
    module, ran = module_of(toys.Plain), []
    for name in ("conv1", "bn1", "conv2", "head"):
        getattr(module, name).register_forward_pre_hook(lambda *_, name=name: ran.append(name))
    capture(module, calls)
    assert ran == reached


def test_pass_stops_through_modules_that_catch_exceptions():
    caught = []

    class Catching(toys.Plain):
        def forward(self, x):
            try:
                return super().forward(x)
            except Exception as error:
                caught.append(error)
                return x

    assert capture(module_of(Catching), {"conv1": 1})["conv1"].shape == (2, 6, 8, 8)
    assert not caught


def test_passes_outside_of_the_function_are_not_changed():
    module = module_of(toys.Plain)
    expected = module(IMAGES)
    run = hooked(module, {"conv1": 1})
    assert torch.equal(module(IMAGES), expected)
    run(lambda: module(IMAGES))
    assert torch.equal(module(IMAGES), expected)


# ---------------------------------------------------------------------------------------------- in-place operations


@pytest.mark.parametrize(("kind", "layer", "last"), [(toys.Plain, "bn1", "head"), (toys.Functional, "conv", "head")])
def test_in_place_operations_do_not_change_captured_outputs(kind, layer, last):
    module = module_of(kind)
    alone = capture(module, {layer: 1})[layer]
    found = capture(module, {layer: 1, last: 1})
    assert torch.equal(found[layer], alone)
    assert (found[layer] < 0).any()  # not rectified
    assert torch.equal(found[last], module(IMAGES))  # later layers see the same values


def test_in_place_operations_do_not_change_outputs_inside_of_tuples():
    found = capture(Paired(), {"pair": 1, "relu": 1})
    assert torch.equal(found["pair"], 2 * (IMAGES - 0.5))
    assert torch.equal(found["relu"], F.relu(found["pair"]))


def test_captured_outputs_are_between_the_image_and_later_layers():
    images = IMAGES.clone().requires_grad_()
    found = capture(module_of(toys.Plain), {"bn1": 1, "conv2": 1}, images)
    (gradient,) = torch.autograd.grad(found["conv2"].sum(), found["bn1"], retain_graph=True)
    assert gradient.abs().sum() > 0
    (gradient,) = torch.autograd.grad(found["bn1"].sum(), images)
    assert gradient.abs().sum() > 0


# ---------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("calls", "missed"), [({"conv": 2, "aux": 1}, "aux"), ({"head": 1, "conv": 3}, "conv")])
def test_layer_that_the_pass_does_not_reach(calls, missed):
    with pytest.raises(fv.AddressError) as caught:
        capture(module_of(toys.Twice), calls)
    assert str(caught.value) == f"the forward pass did not reach layer {missed!r} for these images"


def test_outputs_of_an_earlier_pass_are_not_returned():
    module = module_of(toys.Twice)
    run = hooked(module, {"conv": 2, "head": 1})
    run(lambda: module(IMAGES))
    with pytest.raises(fv.AddressError, match="^the forward pass did not reach layer 'head' for these images$"):
        run(lambda: module.conv(module.conv(IMAGES)))


def test_output_without_a_tensor_is_not_captured():
    class Text(nn.Module):
        def forward(self, x):
            return "text"

    with pytest.raises(fv.AddressError, match="^the forward pass did not reach layer '' for these images$"):
        capture(Text(), {"": 1})


def test_errors_of_the_network_surface():
    module = module_of(toys.Broken)
    with pytest.raises(RuntimeError, match="^the author's own mistake$"):
        capture(module, {"conv": 1})


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_pass_after_an_error_is_complete(error):
    def interrupted():
        module.conv(IMAGES)
        raise error

    module = module_of(toys.Twice)
    run = hooked(module, {"conv": 2})
    expected = run(lambda: module(IMAGES))["conv"]
    with pytest.raises(error):
        run(interrupted)
    assert torch.equal(module(IMAGES), module(IMAGES))  # a pass outside of the function is not stopped
    assert torch.equal(run(lambda: module(IMAGES))["conv"], expected)


def test_layer_that_does_not_exist():
    with pytest.raises(AttributeError):
        hooked(module_of(toys.Plain), {"conv1": 1, "conv9": 1})


@pytest.mark.parametrize("kept", [False, True])
def test_hooks_of_the_user_see_and_replace_outputs(kept):
    module, seen = module_of(toys.Plain), []
    module.conv1.register_forward_hook(lambda _, __, out: seen.append(out) if kept else 2 * out)
    found = capture(module, {"conv1": 1})["conv1"]
    assert torch.allclose(found, module.conv1(IMAGES), atol=1e-6)
    assert len(module.conv1._forward_hooks) == 1
    assert len(seen) == (2 if kept else 0)


def test_hooks_that_are_added_later_run_before_the_pass_ends():
    module, seen = module_of(toys.Plain), []
    run = hooked(module, {"conv1": 1})
    module.conv1.register_forward_hook(lambda _, __, out: seen.append(out) or 2 * out)
    found = run(lambda: module(IMAGES))["conv1"]
    assert len(seen) == 1
    assert torch.equal(found, 2 * seen[0])
    assert len(module.conv1._forward_hooks) == 1  # the capturing one is removed


@dataclass(frozen=True, slots=True)
class Outputs:
    tokens: torch.Tensor
    rest: object = None


Named = namedtuple("Named", "x y")


class Odd(tuple):
    """A tuple that is made from two arguments."""

    __slots__ = ()

    def __new__(cls, one, two):
        return super().__new__(cls, (one, two))


CONTAINERS = {
    "tuple": (lambda x: (x, None), lambda y: y[0]),
    "nested": (lambda x: {"a": [x, 1]}, lambda y: y["a"][0]),
    "dataclass": (Outputs, lambda y: y.tokens),
    "namespace": (lambda x: SimpleNamespace(x=x), lambda y: y.x),
    "named tuple": (lambda x: Named(x, 2), lambda y: y.x),
    "return type": (lambda x: torch.sort(x, 3), lambda y: y[0]),
    "odd tuple": (lambda x: Odd(x, 1), lambda y: y[0]),
}


class Wrapped(nn.Module):
    """Returns its output in a container."""

    def __init__(self, wrap):
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 8, 3), wrap

    def forward(self, x):
        return self.wrap(self.conv(x).relu())


class Unwrapping(nn.Module):
    """Reads the container, and overwrites what is in it."""

    def __init__(self, wrap, unwrap):
        super().__init__()
        self.block, self.unwrap, self.head = Wrapped(wrap), unwrap, nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.unwrap(self.block(x)).mul_(2).mean((2, 3)))


@pytest.mark.parametrize("name", CONTAINERS)
def test_later_layers_depend_on_what_is_captured_in_a_container(name):
    torch.manual_seed(0)
    net = toys.network(Unwrapping(*CONTAINERS[name]), 16)
    images = torch.rand(2, 3, 16, 16)
    acts = net.capture(images.clone().requires_grad_(), ["block", ""])
    expected = net.module.eval()(net.normaliser()(images))
    assert torch.allclose(acts[""], expected, atol=1e-6)
    (gradient,) = torch.autograd.grad(acts[""][:, 1].sum(), acts["block"], allow_unused=True)
    if name == "odd tuple":  # which cannot be made again
        assert gradient is None
        return
    assert torch.allclose(gradient, 2 * net.module.head.weight[1].view(1, -1, 1, 1).expand_as(gradient) / 14**2)
    with net.session(["block", ""]) as forward:
        replaced = forward(images, replace={"block": torch.zeros_like})
    assert torch.allclose(replaced[""], net.module.head.bias.expand(2, -1))


def test_gradcam_reaches_a_layer_that_returns_a_tuple():
    net = toys.network(Unwrapping(*CONTAINERS["tuple"]), 16)
    found = fv.explain(net, torch.rand(1, 3, 16, 16), "logit:1", "GradCAM(layer='block')")
    assert found.map.abs().max() > 0


class Locked(dict):
    """Refuses other items once it is made."""

    def __setitem__(self, key, value):
        raise KeyError("locked")


class Remembering(nn.Module):
    """Returns its output in a container that it keeps, or beside a view of it."""

    def __init__(self, wrap):
        super().__init__()
        self.conv, self.wrap = nn.Conv2d(3, 4, 3), wrap

    def forward(self, x):
        self.kept = self.wrap(self.conv(x))
        return self.kept


class Reaching(nn.Module):
    """Overwrites what it reads of the block, in one of several ways."""

    def __init__(self, wrap, read):
        super().__init__()
        self.block, self.read, self.last = Remembering(wrap), read, nn.ReLU()

    def forward(self, x):
        return self.last(self.read(self.block, self.block(x)).mul_(2)).mean((2, 3))


@pytest.mark.parametrize(
    ("wrap", "read"),
    [
        (lambda y: (y, y[:, :2]), lambda block, output: output[1]),
        (lambda y: {"y": y, "v": y.view_as(y)}, lambda block, output: output["v"]),
        (lambda y: [y], lambda block, output: block.kept[0]),
        (lambda y: y, lambda block, output: block.kept),
        (lambda y: {"y": y}, lambda block, output: block.kept.setdefault("more", output["y"])),
        (lambda y: Locked(y=y), lambda block, output: output["y"]),
    ],
    ids=["view in a tuple", "view in a dict", "kept list", "kept tensor", "kept dict", "locked dict"],
)
def test_captured_tensors_keep_their_values_however_they_are_reached(wrap, read):
    torch.manual_seed(0)
    net = toys.network(Reaching(wrap, read), 16)
    images = torch.rand(2, 3, 16, 16)
    acts = net.capture(images, ["block", "last", ""])
    expected = net.module.eval()(net.normaliser()(images))
    assert torch.allclose(acts["block"], net.module.block.conv(net.normaliser()(images)), atol=1e-6)
    assert torch.allclose(acts[""], expected, atol=1e-6)
    assert torch.equal(acts["block"], net.capture(images, "block")["block"])
