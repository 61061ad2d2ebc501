"""Weights load from safetensors or a state_dict; files that could run code are refused."""

import pickle

import pytest
import torch
import toys
from safetensors.torch import save_file, save_model
from torch import nn

import featviz as fv
from featviz.network.loading.weights import load_weights

STATE = toys.plain().module.state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"model.{k}": v for k, v in s.items()},
        lambda s: {f"model._orig_mod.{k}": v for k, v in s.items()},
        lambda s: {f"_orig_mod.module.{k}": v for k, v in s.items()},
        lambda s: {"n_averaged": torch.tensor(3)} | {f"module.{k}": v for k, v in s.items()},
    ],
)
def test_state_dicts_as_training_scripts_save_them(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "w.pt")
    module = toys.Plain()
    load_weights(module, tmp_path / "w.pt")
    assert all(torch.equal(value, STATE[key]) for key, value in module.state_dict().items())


def test_safetensors(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    module = toys.Plain()
    load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.conv1.weight, STATE["conv1.weight"])


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "w.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(fv.WeightsError, match=r"^cannot read weights from .*w.pt: it is damaged or of another format"):
        load_weights(toys.Plain(), tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_keys_and_shapes_that_do_not_fit_are_named(tmp_path):
    state = {key: value for key, value in STATE.items() if key != "head.bias"}
    state["extra"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(6, 3, 5, 5)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(fv.WeightsError) as caught:
        load_weights(toys.Plain(), tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path / 'w.pt'} does not fit Plain: 1 missing (head.bias); 1 not in the model (extra); "
        "1 of another shape (conv1.weight); give weights of the same model"
    )


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(fv.WeightsError, match="^no weights file nowhere.pt; give a safetensors or state_dict file$"):
        fv.load("motifnet", weights="nowhere.pt")
    (tmp_path / "w.safetensors").write_bytes(b"no")
    with pytest.raises(fv.WeightsError, match="cannot read weights from"):
        fv.load("motifnet", weights=tmp_path / "w.safetensors")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(
        fv.WeightsError,
        match=r"list.pt contains no state_dict; save one with torch.save\(module.state_dict\(\), ...\)$",
    ):
        load_weights(toys.Plain(), tmp_path / "list.pt")


def test_a_wrapper_whose_own_keys_start_with_module(tmp_path):
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = toys.Plain()

    torch.save(Wrapper().state_dict(), tmp_path / "w.pt")
    load_weights(Wrapper(), tmp_path / "w.pt")


@pytest.mark.parametrize("heads", [True, False])
def test_googlenet_loads_files_with_and_without_auxiliary_heads(tmp_path, heads):
    import torchvision

    state = torchvision.models.googlenet(init_weights=False, aux_logits=heads).state_dict()
    torch.save(state, tmp_path / "w.pt")
    net = fv.load("googlenet", weights=tmp_path / "w.pt", device="cpu")
    assert net.module.transform_input
    assert torch.equal(net.module.fc.weight, state["fc.weight"])


def reason(state, tmp_path, module=None):
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(fv.WeightsError) as caught:
        load_weights(module or toys.Plain(), tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{tmp_path / 'w.pt'} ")


@pytest.mark.filterwarnings("ignore::UserWarning")  # of PyTorch, about sparse and quantized tensors
def test_weights_that_are_no_dense_floating_point_numbers_are_refused(tmp_path):
    bias = STATE["head.bias"]
    whole, imaginary = bias.to(torch.int8), bias.to(torch.complex64)
    broken = torch.where(torch.arange(len(bias)) == 1, torch.nan, bias)
    listed = "does not fit Plain: 1 {} (head.bias); give weights of the same model"
    for given, kind in ((whole, "of another type"), (imaginary, "of another type"), (broken, "with NaN")):
        assert reason(STATE | {"head.bias": given}, tmp_path) == listed.format(kind)
    sparse, quantized = bias.to_sparse(), torch.quantize_per_tensor(bias, 0.1, 0, torch.qint8)
    for given, kind in ((sparse, "sparse"), (quantized, "quantized")):
        expected = f"holds {kind} weights (head.bias); save them dense, in floating point"
        assert reason(STATE | {"head.bias": given}, tmp_path) == expected
    assert reason({1: bias}, tmp_path).startswith("contains no state_dict; save one with")
    found = reason({"epoch": 3, "weights": STATE}, tmp_path)
    assert "but other values (epoch, weights); save one with torch.save(module.state_dict(), ...)" in found
    assert "but other values (step); save" in reason({"state_dict": STATE | {"step": 3}}, tmp_path)


@pytest.mark.parametrize("keys", [["state_dict"], ["model"], ["ema", "state_dict"], ["state_dict_ema"], ["params"]])
def test_the_state_dict_of_a_checkpoint_is_found(keys, tmp_path):
    state = STATE
    for key in reversed(keys):
        state = {"epoch": 3, key: state}
    torch.save(state, tmp_path / "w.pt")
    module = toys.Plain()
    load_weights(module, tmp_path / "w.pt")
    assert torch.equal(module.conv1.weight, STATE["conv1.weight"])


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight


class WithState(Tied):
    """Its state holds more than tensors."""

    def get_extra_state(self):
        return {"version": 3}

    def set_extra_state(self, state):
        assert state == {"version": 3}


def test_weights_that_share_memory_may_be_saved_once(tmp_path):
    made, module = Tied(), WithState()
    save_model(made, str(tmp_path / "w.safetensors"))
    load_weights(module, tmp_path / "w.safetensors")
    assert torch.equal(module.two.weight, made.two.weight) and torch.equal(module.two.bias, made.two.bias)
    state = {key: value for key, value in made.state_dict().items() if key != "one.bias"}
    assert "1 missing (one.bias)" in reason(state, tmp_path, WithState())


def test_why_a_file_cannot_be_read(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    whole = (tmp_path / "module.pt").read_bytes()
    for name, content in (("cut.pt", whole[:300]), ("empty.pt", b""), ("text.pt", b"hello world")):
        (tmp_path / name).write_bytes(content)
    for name, why in {
        "module.pt": "it holds torch.nn.modules.linear.Linear, and only tensors are read, since objects could run "
        "code; save module.state_dict() alone",
        **dict.fromkeys(
            ("cut.pt", "empty.pt", "text.pt"),
            "it is damaged or of another format; give a safetensors or state_dict file",
        ),
    }.items():
        with pytest.raises(fv.WeightsError) as caught:
            load_weights(toys.Plain(), tmp_path / name)
        assert str(caught.value) == f"cannot read weights from {tmp_path / name}: {why}"


class Masking(nn.Module):
    """A mask of -inf as a parameter, one of zeros and ones as a buffer, and a counter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(3))
        self.mask = nn.Parameter(torch.full((3, 3), -torch.inf).triu(1), requires_grad=False)
        self.register_buffer("kept", torch.ones(3))
        self.register_buffer("count", torch.tensor(5))


def test_other_legitimate_tensors_are_loaded(tmp_path):
    state = Masking().state_dict()
    for given in (state, state | {"kept": torch.ones(3, dtype=torch.bool)}, state | {"count": torch.tensor(5.0)}):
        torch.save(given, tmp_path / "w.pt")
        load_weights(Masking(), tmp_path / "w.pt")
    small = {key: value.to(torch.float8_e4m3fn) if value.is_floating_point() else value for key, value in state.items()}
    for kind in (small, {key: value.bfloat16() for key, value in state.items()}):
        torch.save(kind, tmp_path / "w.pt")
        load_weights(Masking(), tmp_path / "w.pt")
