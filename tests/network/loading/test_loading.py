"""Errors of `fv.load` and `find`, with their whole messages."""

import re

import pytest
import torch
import toys
from sample_dictionaries import dictionary

import featviz as fv
from featviz.network import find

FACTORIES = """
import torch
number = 3
def text(): return "no network"
def bare(): return torch.nn.Conv2d(3, 4, 3)
"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "factories.py",
            "factories.py is a file; name the function in it that returns the network: factories.py:factory",
        ),
        ("nowhere.py:factory", "no file nowhere.py; give path/to/file.py:factory"),
        ("no.such:net", "no module 'no.such'; give path/to/file.py:net or package.module:net"),
        ("factories.py:baer", "no 'baer' in factories.py; nearest: 'bare'"),
        ("factories.py:number", "factories.py:number must be a function that returns the network, got int"),
        ("factories.py:text", "factories.py:text returned str; return an nn.Module or a featviz.Network"),
        (
            "factories.py:bare",
            "factories.py:bare returned a bare module, which needs input_size, mean and std (--input-size 32 "
            "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; for a judge --judge-input-size …); or return a featviz.Network",
        ),
        (
            "mottifnet",
            "no model 'mottifnet'; nearest: 'motifnet', 'motifvit', 'mobilenet_v2' (list all: featviz models)",
        ),
        ("timm/nothing_here", "no model 'nothing_here' in timm"),
    ],
)
def test_models_that_do_not_exist(tmp_path, model, message):
    if model.startswith("timm"):
        pytest.importorskip("timm")
    (tmp_path / "factories.py").write_text(FACTORIES)
    with pytest.raises(fv.ModelError, match=f"^{re.escape(message)}"):
        fv.load(model, device="cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda", "no CUDA GPU found; leave out --device, or give --device cpu"),
        ("cuda:1", "no CUDA GPU found; leave out --device, or give --device cpu"),
        ("tpu", "no device 'tpu' found; give auto, cpu, cuda or mps"),
    ],
)
def test_devices_that_do_not_exist(device, message):
    if torch.backends.cuda.is_built() and torch.cuda.device_count():
        pytest.skip("there is a GPU")
    with pytest.raises(fv.ModelError) as caught:
        fv.load("motifnet", device=device)
    assert str(caught.value) == message


def test_an_error_inside_of_an_imported_module_surfaces(tmp_path):
    (tmp_path / "needs_missing.py").write_text("import surely_missing\n")
    with pytest.raises(ModuleNotFoundError, match="surely_missing"):
        find("needs_missing:net")


def test_random_weights_are_always_the_same_and_leave_the_callers_random_state(tmp_path):
    before = torch.get_rng_state()
    one, two = (fv.load("motifnet", weights="none", device="cpu") for _ in range(2))
    assert one.fingerprint == two.fingerprint != fv.load("motifnet", device="cpu").fingerprint
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unreachable_server_of_weights_is_told_at_once(monkeypatch):
    pytest.importorskip("timm")

    def refuse(address, timeout):
        raise OSError(f"no route to {address[0]}")

    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("featviz.network.loading.downloads.getproxies", dict)
    monkeypatch.setattr("featviz.network.loading.load._has_weights_of_timm", lambda _: False)
    with pytest.raises(fv.WeightsError) as caught:
        fv.load("timm/resnet10t")
    text = str(caught.value)
    assert text.startswith("cannot download the weights of timm/resnet10t: ")
    assert text.endswith(" cannot be reached; give a file with --weights")
    assert fv.load("timm/resnet10t", weights="none").classes


def made_by_a_factory(monkeypatch, made, **given):
    monkeypatch.setattr("featviz.network.loading.load.find", lambda _: lambda: made)
    return fv.load("networks.py:make", device="cpu", **given)


@pytest.mark.parametrize("given", [{}, {"input_size": 40}, {"mean": (0.3,) * 3}, {"classes": list("abcde")}])
def test_a_network_that_a_factory_returns_keeps_its_dictionaries(monkeypatch, given):
    net = made_by_a_factory(monkeypatch, toys.plain().with_dictionary("conv2", dictionary()), **given)
    assert "conv2~" in net.table and net.name == "networks.py:make"
    assert net.size == ((40, 40) if "input_size" in given else (32, 32))
    assert net.classes == tuple(given.get("classes", toys.plain().classes))


def test_a_bare_module_takes_the_whole_input_specification(monkeypatch):
    given = {"input_size": 32, "mean": (117.0,) * 3, "std": (58.0,) * 3, "value_range": (0.0, 255.0)}
    net = made_by_a_factory(monkeypatch, toys.Plain(), **given)
    assert net.input == fv.InputSpec(32, (117.0,) * 3, (58.0,) * 3, value_range=(0.0, 255.0))
    with pytest.raises(fv.ModelError, match="returned a bare module, which needs input_size, mean and std"):
        made_by_a_factory(monkeypatch, toys.Plain(), input_size=32, mean=(0.5,) * 3)


def test_a_device_may_be_an_object_or_an_index():
    assert fv.load("motifnet", device=torch.device("cpu")).device.type == "cpu"
    if not torch.cuda.device_count():
        for device in (0, torch.device("cuda")):
            with pytest.raises(fv.ModelError, match=r"^no CUDA GPU found; leave out --device, or give --device cpu$"):
                fv.load("motifnet", device=device)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": "cat"}, "class names must be a list of names, got the text 'cat'"),
        ({"classes": list(range(27))}, "class names must be text, got 0"),
        ({"classes": {0: "a", "0": "b"}}, "class names by index must have each index once, as a number or as text"),
        ({"input_size": 64.0}, "input_size must be one side or (height, width) in px, got 64.0"),
        ({"input_size": (1, 2, 3, 4)}, "input_size must be one side or (height, width) in px, or 1 to 3 lengths, got "
         "(1, 2, 3, 4)"),
    ],
)  # fmt: skip
def test_class_names_and_sizes_that_are_refused(given, message):
    with pytest.raises(fv.SettingError) as caught:
        fv.load("motifnet", **given)
    assert str(caught.value) == message


@pytest.mark.parametrize(("count", "first"), [(26, 1), (28, 0)])
def test_another_number_of_class_names_is_told(count, first):
    names = [f"K{i + first}" for i in range(count)]
    with pytest.warns(fv.FeatvizWarning) as caught:
        fv.load("motifnet", classes=names).layers()
    assert [str(each.message) for each in caught] == [
        f"motifnet has 27 outputs and {count} class names, so names may belong to other outputs; give one name per "
        "output, in output order"
    ]
    for classes in ({3: "three", 20: "twenty"}, {0: "zero"}, {i: str(i) for i in range(27)}):
        fv.load("motifnet", classes=classes).layers()  # those left out have no name


def test_the_number_of_class_names_is_told_once():
    net = toys.network(toys.Plain(), classes=("ant", "bee"))
    with pytest.warns(fv.FeatvizWarning, match="^Plain has 5 outputs and 2 class names"):
        net.layers()
    net.with_input(size=40).layers()  # warnings are errors


def test_names_of_an_iterator_are_kept():
    assert fv.load("motifnet", classes=map(str, range(27))).classes[26] == "26"


def test_with_classes():
    net = fv.load("motifnet").with_classes({2: "two"})
    assert net.classes == ("", "", "two") and fv.load("motifnet").classes[2] != "two"
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(fv.score(net, "logit:two", images), fv.score(net, "logit:2", images))
    with pytest.raises(fv.AddressError):
        fv.score(net, fv.objectives.Logit(""), images)


def test_code_that_ends_the_process_is_named(tmp_path):
    for text, code in (
        ("import argparse\nargparse.ArgumentParser().parse_args(['x'])", "2"),
        ("raise SystemExit", "None"),
    ):
        (tmp_path / "script.py").write_text(text)
        with pytest.raises(fv.ModelError) as caught:
            fv.load(f"{tmp_path}/script.py:net")
        assert str(caught.value) == (
            f"{tmp_path}/script.py ended with sys.exit({code}), as argparse does; put what it does as a script under "
            'if __name__ == "__main__":'
        )
    (tmp_path / "script.py").write_text("def net():\n    return len(3)\n")
    with pytest.raises(TypeError) as caught:
        fv.load(f"{tmp_path}/script.py:net")
    assert caught.value.__notes__ == [f"while running {tmp_path}/script.py:net"]


TWO_HEADS = """
import torch
from torch import nn
import featviz as fv

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x).mean((2, 3))
        return {"one": self.one(x), "two": self.two(x)}

def net():
    heads = {"output.one": ("a", "b", "c"), "output.two": ("d", "e")}
    return fv.Network(Two(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3, heads=heads)
"""


def test_one_of_several_heads_is_chosen(tmp_path):
    (tmp_path / "two.py").write_text(TWO_HEADS)
    model, images = f"{tmp_path}/two.py:net", torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both, one = fv.load(model), fv.load(model, head="output.one")
    assert one.classes == ("a", "b", "c") and list(both.heads) == ["output.one", "output.two"]
    assert torch.equal(fv.score(one, "logit:b", images), fv.score(both, "logit:b@output.one", images))
    named = fv.load(model, head="output.two", classes=["x", "y"])
    assert torch.equal(fv.score(named, "logit:y", images), fv.score(both, "logit:e@output.two", images))
    with pytest.raises(fv.SettingError) as caught:
        fv.load(model, classes=["x", "y"])
    message = "Two has the heads output.one, output.two; give head (--head) as well as the class names"
    assert str(caught.value) == message
    with pytest.raises(fv.AddressError, match="^heads names 'nosuch', no layer or output of"):
        fv.load(model, head="nosuch").layers()


def test_a_file_without_a_name_is_refused():
    with pytest.raises(fv.ModelError, match=r"^'own.py' names a file only; name the value in it, too: own.py:NAME$"):
        find("own.py")
