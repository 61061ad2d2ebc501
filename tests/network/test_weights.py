"""Weights load from safetensors or a state_dict; files that could run code are refused."""

import pickle

import pytest
import torch
import toys
from safetensors.torch import save_file

import featviz as fv
from featviz.network.weights import load_weights

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
    with pytest.raises(fv.WeightsError, match=r"cannot read weights from .*w.pt; .* \(a pickled module is not read"):
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
