"""What cannot be a network says so in one line; modules that many libraries fail on work."""

import copy
import warnings
from collections import OrderedDict

import pytest
import torch
import toys
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import featviz as fv
from featviz.errors import pluralize

SIDE = 16
HALF = {"size": SIDE, **toys.HALF}


@pytest.fixture(autouse=True)
def always_the_same_weights():
    torch.manual_seed(0)


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


def refusal(given, **more):
    with pytest.raises(fv.ModelError) as caught:
        fv.Network(given, **{**HALF, **more})
    return str(caught.value)


def failure(module, **more):
    net = fv.Network(module, **{**HALF, **more})
    with pytest.raises(fv.ModelError) as caught:
        net.layers()
    return str(caught.value)


def rises(net, objective="0:1"):
    rendering = fv.render(net, objective, transforms=(), steps=6, robustness_views=0)
    return rendering.history[:, 0].max() > rendering.history[0, 0]


def make_network():
    return small()


@pytest.mark.parametrize(
    ("given", "described"),
    [
        ("resnet50", "the text 'resnet50'; use fv.load('resnet50')"),
        (toys.Plain, "the class Plain; make an instance of it: Plain(...)"),
        (nn.Identity, "the class Identity; make an instance of it: Identity(...)"),
        (small().state_dict(), "a state_dict; build the module and load it with module.load_state_dict(...)"),
        (
            OrderedDict(weight=torch.zeros(1)),
            "a state_dict; build the module and load it with module.load_state_dict(...)",
        ),
        (make_network, "the function make_network; call it if it makes the module, or wrap it in one"),
        (torch.relu, "the function relu; call it if it makes the module, or wrap it in one"),
        (None, "NoneType; give the module itself"),
        (3, "int; give the module itself"),
        (["conv"], "list; give the module itself"),
        ({"a": 1}, "dict; give the module itself"),
        (torch.zeros(3), "Tensor; give the module itself"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_what_is_no_module(given, described):
    assert refusal(given) == f"a network needs an nn.Module, got {described}"


def test_exported_programs_have_a_module_that_works():
    exported = torch.export.export(small(), (torch.rand(2, 3, SIDE, SIDE),))
    assert refusal(exported) == "a network needs an nn.Module, got an ExportedProgram; give exported.module()"


@pytest.mark.parametrize(
    "make", [torch.jit.script, lambda module: torch.jit.trace(module, torch.rand(1, 3, SIDE, SIDE))]
)
def test_torchscript(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = make(small())
    assert refusal(scripted) == (
        f"{type(scripted).__name__} is TorchScript, whose layers cannot be hooked; give the original nn.Module"
    )


def test_modules_without_weights():
    assert refusal(nn.Sequential(nn.LazyConv2d(4, 3))) == (
        "Sequential has uninitialised lazy layers; run it once on a batch of images first"
    )
    with torch.device("meta"):
        module = nn.Conv2d(3, 4, 3)
    assert refusal(module) == "Conv2d is on the meta device and has no weights; load them first"


@pytest.mark.parametrize("static", [False, True])
def test_modules_quantized_to_integers(static):
    from torch.ao.quantization import (
        QConfig,
        convert,
        default_observer,
        default_weight_observer,
        prepare,
        quantize_dynamic,
    )

    module = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if static:
            module.qconfig = QConfig(activation=default_observer, weight=default_weight_observer)
            module = prepare(module)
            module(torch.rand(2, 3, SIDE, SIDE))
            module = convert(module)
        else:
            module = quantize_dynamic(module, {nn.Linear})
    where = "0" if static else "4"
    assert refusal(module) == (
        f"'{where}' of Sequential is quantized to integers, which have no gradients; give the float module"
    )


# ---------------------------------------------------------------------------------------------- inputs


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.label = nn.Conv2d(3, 4, 3), nn.Linear(2, 4)

    def forward(self, image: Tensor, condition: Tensor, scale: float, *, flag: bool = False) -> Tensor:
        return (self.conv(image).mean((2, 3)) + self.label(condition)) * scale


class OneInput(nn.Module):
    """Its second input has a default."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor, scale: float = 1.0) -> Tensor:
        return self.conv(image) * scale


def test_several_required_inputs_are_told_and_work_once_they_are_given():
    assert failure(TwoInputs()) == (
        "TwoInputs.forward needs 3 inputs (image, condition, scale), and gets images only; give inputs={'image': "
        "fv.InputSpec(...), 'condition': tensor, 'scale': tensor} in place of size, mean and std"
    )
    given = {"image": fv.InputSpec(**HALF), "condition": torch.ones(1, 2), "scale": torch.tensor(2.0)}
    assert rises(fv.Network(TwoInputs(), inputs=given), "conv:1")
    assert rises(fv.Network(OneInput(), **HALF), "conv:1")


@pytest.mark.parametrize(("channels", "given"), [(1, 3), (3, 1), (4, 3)])
def test_another_number_of_input_channels(channels, given):
    found = failure(toys.Plain(channels), mean=(0.5,) * given, std=(0.5,) * given)
    assert found == (
        f"mean and std have {pluralize(given, 'value')}, one per channel of an image, but the first convolution of "
        f"Plain reads {pluralize(channels, 'channel')}; give mean and std one value for each channel"
    )


class Squeezed(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3))).squeeze()


@pytest.mark.parametrize("classes", [5, 1])
def test_an_output_without_its_batch_dimension_for_one_image(classes):
    net = fv.Network(Squeezed(classes), **HALF)
    images = torch.rand(2, 3, 16, 16)
    goals = [f"logit:{k}" for k in range(classes)]
    both = fv.score(net, goals, images)
    assert both.shape == (2, classes)
    alone = torch.cat([fv.score(net, goals, image[None]) for image in images])
    assert torch.allclose(alone, both, atol=1e-6)
    assert net.capture(images[:1], [""])[""].shape == (1, classes)
    assert rises(net, goals[-1])


class Subtracts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        images.sub_(0.1)
        images[:, 0] = 0
        return self.conv(images)


@pytest.mark.parametrize(
    ("module", "layer"), [(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 8, 3)), "1"), (Subtracts(), "conv")]
)
def test_a_module_may_write_its_input(module, layer):
    net, images = fv.Network(module, **HALF), torch.rand(2, 3, 16, 16)
    before = images.clone()
    found = net.capture(images, [layer])[layer]
    assert torch.equal(images, before)
    assert torch.allclose(found, module(((images - 0.5) / 0.5).clone()), atol=1e-5)
    assert rises(net, f"{layer}:1")


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(3, 8)

    def forward(self, images):
        return self.dense(images).mean((1, 2))


@pytest.mark.parametrize(
    ("module", "given", "other"), [(ChannelsLast(), "NCHW", "NHWC"), (nn.Conv2d(3, 4, 3), "NHWC", "NCHW")]
)
def test_a_layout_with_which_the_module_runs_is_named(module, given, other):
    message = failure(module, layout=given)
    assert message.startswith(f"{type(module).__name__} does not run on batches in the layout {given}: RuntimeError: ")
    assert message.endswith(f"; it runs with layout={other!r}")
    assert fv.Network(module, layout=other, **HALF).layers()


class OneByOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return self.conv(images.view(1, 3, SIDE, SIDE))


def test_a_module_of_single_images_is_told_to_accept_several():
    assert failure(OneByOne()) == (
        "OneByOne runs on one image, and not on 2: RuntimeError: shape '[1, 3, 16, 16]' is invalid for input of size "
        "1536; let it accept any number of images, as with x.view(len(x), ...)"
    )


def test_the_authors_own_errors_surface():
    with pytest.raises(RuntimeError, match="^the author's own mistake") as caught:
        fv.Network(toys.Broken(), **HALF).layers()
    (note,) = caught.value.__notes__
    assert note.startswith("while running Broken on a batch of grey images, (2, 3, 16, 16); if it reads something")


# ---------------------------------------------------------------------------------------------- without gradients


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.conv, self.inner, self.reentrant = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, self.conv(x), use_reentrant=self.reentrant).mean((2, 3))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")
def test_checkpointing():
    reentrant = fv.Network(Checkpointed(True), **HALF)
    assert str(reentrant.layers())
    images = torch.rand(1, 3, SIDE, SIDE)
    torch.testing.assert_close(reentrant.capture(images, [""])[""], reentrant.module((images - 0.5) / 0.5))
    for call in (lambda: fv.render(reentrant, "inner:1", steps=1), lambda: fv.explain(reentrant, images, "logit:1")):
        with pytest.raises(fv.ModelError) as caught:
            call()
        assert str(caught.value) == (
            "the network uses re-entrant checkpointing, whose gradients cannot be computed for images alone; give "
            "use_reentrant=False to torch.utils.checkpoint.checkpoint, or turn checkpointing off"
        )
    assert rises(fv.Network(Checkpointed(False), **HALF), "inner:1")
    assert torch.utils.checkpoint.CheckpointFunction.__name__ == "CheckpointFunction"


class NoGrad(nn.Module):
    def __init__(self, context) -> None:
        super().__init__()
        self.conv, self.head, self.context = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), context

    def forward(self, x: Tensor) -> Tensor:
        with self.context():
            x = self.conv(x).mean((2, 3))
        return self.head(x.clone())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_contexts_without_gradients_inside_are_named_and_around_work(context):
    inside = fv.Network(NoGrad(context), **HALF)
    assert str(inside.layers())
    with pytest.raises(fv.RenderError) as caught:
        fv.render(inside, "conv:1", transforms=(), steps=2)
    assert str(caught.value) == (
        "the score has no gradient: the layer does not depend on the image, or the network or the objective computes "
        "it under torch.no_grad, in numpy or with argmax; choose another layer, or compute it with differentiable "
        "operations"
    )
    with context():
        net = fv.Network(small(), **HALF)
        assert rises(net)
        assert fv.explain(net, torch.rand(1, 3, SIDE, SIDE)).map.abs().amax() > 0
        assert net.outputs_of() == ("classes", "logits")


# ---------------------------------------------------------------------------------------------- layouts and compiling


class Scaled(nn.Module):
    """Has a parameter of four dimensions that belongs to no convolution, and reshapes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 4, 3, padding=1), nn.Parameter(torch.randn(1, 4, 2, 3))
        self.place = nn.Parameter(torch.randn(1, 4, SIDE, SIDE))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) + self.place
        return x.mean((2, 3)) * self.scale.view(4, 6).sum(1)


def test_a_parameter_of_four_dimensions_that_is_no_convolutions():
    net = fv.Network(Scaled(), **HALF)
    assert [row[0] for row in net.layers().rows()] == ["conv", "logit"]
    assert rises(net, "conv:1")
    assert rises(net, "logit:1")


def test_compiled_modules_run_uncompiled(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("compiled")

    monkeypatch.setattr("torch._dynamo.convert_frame.ConvertFrame.__call__", fail)
    images = torch.rand(1, 3, SIDE, SIDE)
    plain = small()
    expected = plain((images - 0.5) / 0.5)
    in_place, inner = copy.deepcopy(plain), copy.deepcopy(plain)
    in_place.compile()
    inner[0] = torch.compile(inner[0])
    for module in (torch.compile(copy.deepcopy(plain)), in_place, inner):
        net = fv.Network(module, **HALF)
        torch.testing.assert_close(net.capture(images, [""])[""], expected)
        assert rises(net, "logit:1")
        assert fv.explain(net, images).map.abs().amax() > 0
    assert in_place._compiled_call_impl is not None
