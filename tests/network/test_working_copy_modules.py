"""Working copies of scripted, traced, quantised, compiled and parametrized modules."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch
import toys
from torch import nn
from working_copies import IMAGES, Wrapper, module_of, ran

import featviz as fv
from featviz.network.working_copy import uncompiled, working_copy

# ---------------------------------------------------------------------------------------------- parametrized weights


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "apply",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
    ],
    ids=["old weight norm", "old spectral norm", "weight norm", "spectral norm", "orthogonal"],
)
def test_computed_weights_are_those_of_the_copy(apply):
    torch.manual_seed(0)
    module = nn.Sequential(apply(nn.Conv2d(3, 4, 3, stride=2)), nn.BatchNorm2d(4), apply(nn.Conv2d(4, 2, 1)))
    module(IMAGES)
    net = fv.Network(module, size=8, **toys.HALF)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copy = working_copy(module)
    for name, weight in copy.named_parameters():
        assert weight.data_ptr() == dict(module.named_parameters())[name].data_ptr()
    assert fv.render(net, '"2":1', steps=2).history.isfinite().all()
    captured = net.capture(IMAGES, ["2"])["2"]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training and all(weight.requires_grad for weight in module.parameters())
    normal = (IMAGES - 0.5) / 0.5
    expected = module.eval()(normal)
    assert torch.allclose(captured, expected, atol=1e-5)
    assert torch.allclose(copy(normal), expected, atol=1e-5)


# ---------------------------------------------------------------------------------------------- other kinds of modules


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_submodule_runs_and_is_not_changed():
    module = module_of()
    module.bn1 = torch.jit.script(module.bn1)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    copy = working_copy(module)
    assert torch.allclose(copy(IMAGES), expected)
    assert not copy.bn1.training and module.bn1.training
    assert not any(weight.requires_grad for weight in copy.parameters())
    assert all(weight.requires_grad for weight in module.parameters())
    copy.train()(IMAGES)
    assert copy.bn1.num_batches_tracked == 1 and module.bn1.num_batches_tracked == 0


def test_a_traced_graph_module_runs_its_copy():
    module = torch.fx.symbolic_trace(toys.Plain())
    copy = working_copy(module)
    calls = ran(copy)
    assert torch.equal(copy(IMAGES), module.eval()(IMAGES))
    assert calls == [1]
    assert copy.conv1 is not module.conv1


def test_the_users_own_special_methods_are_not_called():
    class Strict(toys.Plain):
        def __init__(self):
            super().__init__()
            vars(self)["ready"] = True

        def train(self, mode=True):
            raise AssertionError("adapters were merged")

        def requires_grad_(self, requires_grad=True):
            raise AssertionError("requires_grad_ was called")

        def __setattr__(self, name, value):
            assert "ready" not in vars(self), "written"
            super().__setattr__(name, value)

        def __deepcopy__(self, memo):
            raise AssertionError("copied")

        def __getstate__(self):
            raise AssertionError("copied")

    module = Strict()
    assert torch.equal(working_copy(module)(IMAGES), working_copy(module)(IMAGES))


def test_a_module_whose_class_needs_arguments():
    class Square(nn.Linear):
        def __new__(cls, size):
            return super().__new__(cls)

        def __init__(self, size):
            super().__init__(size, size)

    assert working_copy(Square(3))(torch.rand(1, 3)).shape == (1, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("calibrated", [True, False])
def test_fake_quantisation_does_not_adapt(calibrated):
    from torch.ao.quantization import get_default_qat_qconfig, prepare_qat

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    module.qconfig = get_default_qat_qconfig("x86")
    module = prepare_qat(module.train())
    if calibrated:
        module(IMAGES - 0.5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    net = fv.Network(module, size=8, **toys.HALF)
    captured = net.capture(5 * IMAGES, ["2"])["2"]
    assert captured.isfinite().all()
    assert fv.render(net, '"2":1', steps=3, transforms=()).images.isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    if calibrated:  # the same image gives the same result, whatever ran before
        assert torch.equal(net.capture(5 * IMAGES, ["2"])["2"], captured)
        copy = working_copy(module)
        first = copy(IMAGES)
        copy(100 * IMAGES)
        assert torch.equal(copy(IMAGES), first)


# ---------------------------------------------------------------------------------------------- torch.compile


def refuse(*_):
    raise AssertionError("compiled")


class Compiled(Wrapper):
    """Compiled in one of several ways, with a backend that fails."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        if how == "submodule":
            self.net = torch.compile(self.net, backend=refuse)
        elif how == "method":
            self.run = torch.compile(self.run, backend=refuse)
        elif how == "forward":
            self.net.forward = torch.compile(self.net.forward, backend=refuse)
        elif how == "closure":
            net = self.net
            self.run = torch.compile(lambda x: net(x), backend=refuse)
        elif how == "compile()":
            self.net.compile(backend=refuse)
        elif how == "compile() of the whole":
            self.compile(backend=refuse)

    def run(self, x):
        return self.net(x)

    def forward(self, x):
        if self.how == "class method":
            return self.decorated(x)
        return self.run(x)

    @torch.compile(backend=refuse)
    def decorated(self, x):
        return self.net(x)


WAYS = ["submodule", "method", "forward", "closure", "compile()", "compile() of the whole", "class method"]


@pytest.mark.parametrize("how", WAYS)
def test_compiled_modules_and_functions_run_uncompiled(how):
    net = toys.network(Compiled(how), 8)
    before = {name: dict(vars(part)) for name, part in net.module.named_modules()}
    calls = []
    inner = getattr(net.module.net, "_orig_mod", net.module.net)
    inner.conv2.register_forward_hook(lambda *_: calls.append(1))
    layer = next(name for name in net.table if name.endswith("conv2"))
    assert fv.render(net, f"{layer}:1", steps=2).history.isfinite().all()
    assert calls
    plain = toys.network(Wrapper(), 8)
    assert torch.equal(net.capture(IMAGES, [layer])[layer], plain.capture(IMAGES, ["net.conv2"])["net.conv2"])
    for name, part in net.module.named_modules():
        assert vars(part).keys() == before[name].keys()
        assert all(value is before[name][key] for key, value in vars(part).items())
    if how != "compile() of the whole":
        with suppress(Exception), torch.no_grad():
            net.module(IMAGES)
            pytest.fail("the user's module is not compiled any more")


def test_attributes_and_methods_of_a_compiled_submodule():
    class Uses(Wrapper):
        def __init__(self):
            super().__init__()
            self.net.width = 7
            self.net = torch.compile(self.net, backend=refuse)
            self.parts = torch.compile(nn.Sequential(nn.Identity(), nn.ReLU()), backend=refuse)

        def forward(self, x):
            assert self.net.width == 7
            assert len(self.parts) == 2
            return self.net.head(self.net.conv2(self.net.conv1(x)).mean((2, 3)))

    copy = working_copy(Uses())
    assert copy(IMAGES).shape == (2, 5)
    with pytest.raises(AttributeError, match="missing"):
        copy.net.missing


def stance():
    import torch._dynamo.eval_frame as frame

    return frame._stance.stance


def test_the_stance_of_the_compiler_is_restored_in_any_order():
    """It is global, so passes in two threads overlap."""
    import torch._dynamo  # noqa: F401

    before = stance()
    first, second = uncompiled(), uncompiled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stance() == "force_eager"
    second.__exit__(None, None, None)
    assert stance() == before
    with suppress(ZeroDivisionError), uncompiled():
        raise ZeroDivisionError
    assert stance() == before
