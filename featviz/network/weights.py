"""Weights from files that cannot run code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from featviz.errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts keep the weights."""

WRAPPED = ("module.", "_orig_mod.", "model.")
"""What nn.DataParallel, torch.compile and Lightning put before names."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors, or a `state_dict` saved by `torch.save`.

    Raises:
        WeightsError: there is no such file, or it holds anything but tensors.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; give a safetensors or state_dict file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has its own family of errors
        raise WeightsError(
            f"cannot read weights from {path}; give a safetensors or state_dict file "
            "(a pickled module is not read, since it could run code)"
        ) from error
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state_dict; save one with torch.save(module.state_dict(), ...)")
    return found


def load_weights(module: nn.Module, path: Path, *, spare: tuple[str, ...] = ()) -> None:
    """Put the weights of a file into a module; every key and shape has to fit.

    Args:
        module: gets them.
        path: safetensors, or a `state_dict` saved by `torch.save`.
        spare: beginnings of keys that the module can do without.

    Raises:
        WeightsError: they do not; the message names the keys.
    """
    weights, own = read_weights(path), module.state_dict()
    for prefix in WRAPPED:
        if not any(key in own for key in weights):
            weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    weights = {key: value for key, value in weights.items() if key in own or not key.startswith(spare or "\0")}
    faults = {
        "missing": [key for key in own if key not in weights and not key.endswith("num_batches_tracked")],
        "not in the model": [key for key in weights if key not in own],
        "of another shape": [key for key in own if key in weights and own[key].shape != weights[key].shape],
    }
    said = [f"{len(keys)} {what} ({_few(keys)})" for what, keys in faults.items() if keys]
    if said:
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {'; '.join(said)}; is it another model's?")
    module.load_state_dict(weights, strict=False)


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
