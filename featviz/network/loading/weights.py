"""Load weights from files that cannot run code: safetensors, or a state_dict read with `weights_only=True`."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from featviz.errors import WeightsError
from featviz.io import is_file

DEFAULT_WEIGHTS = "default"
"""In place of a weights file: the weights with which the model is published."""
RANDOM_WEIGHTS = "none"
"""In place of a weights file: random weights."""
STATE_DICT_KEYS = (
    "state_dict", "model_state_dict", "model", "net", "state_dict_ema", "ema_state_dict", "model_ema", "ema",
    "params_ema", "params",
)  # fmt: skip
"""Keys under which training scripts save the state_dict in a checkpoint."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that nn.DataParallel, torch.compile and Lightning put before the names of weights."""
WRAPPER_KEYS = ("n_averaged",)
"""Names of what wrappers save besides the weights: the number of steps that AveragedModel has averaged."""
MAX_LISTED_KEYS = 3


def read_weights(path: Path, skip: int = 0) -> dict[str, Tensor]:
    """Read safetensors, or a `state_dict` saved by `torch.save`.

    Args:
        path: The file.
        skip: Number of bytes before the state_dict, as of a header.

    Returns:
        The tensors by name.

    Raises:
        WeightsError: There is no such file, or it contains anything but tensors.
    """
    if not is_file(path):
        raise WeightsError(f"no weights file {path}; give a safetensors or state_dict file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = io.BytesIO(path.read_bytes()[skip:]) if skip else path
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # each format raises errors of its own types
        raise WeightsError(f"cannot read weights from {path}: {_why_unreadable(error)}") from error
    while isinstance(found, dict):
        inner = next((found[key] for key in STATE_DICT_KEYS if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise WeightsError(f"{path} contains no state_dict; save one with torch.save(module.state_dict(), ...)")
    found = {key: value for key, value in found.items() if isinstance(value, Tensor) or not _is_extra_state(key)}
    others = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(
            f"{path} contains no state_dict under {', '.join(STATE_DICT_KEYS)}, but other values "
            f"({_first_keys(others)}); save one with torch.save(module.state_dict(), ...)"
        )
    for key, value in found.items():
        if value.is_meta:
            raise WeightsError(
                f"{path} holds weights without values ({key}, on the meta device); save them from the CPU"
            )
        if value.is_quantized or value.layout != torch.strided:
            kind = "quantized" if value.is_quantized else "sparse"
            raise WeightsError(f"{path} holds {kind} weights ({key}); save them dense, in floating point")
    return found


def _why_unreadable(error: Exception) -> str:
    """Return why a file cannot be read, and what to do."""
    if not isinstance(error, pickle.UnpicklingError):
        return "it is damaged or of another format; give a safetensors or state_dict file"
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    named = found[1] if found else "a pickled object"
    return f"it holds {named}, and only tensors are read, since objects could run code; save module.state_dict() alone"


def load_weights(
    module: nn.Module,
    path: Path,
    *,
    optional_prefixes: tuple[str, ...] = (),
    rename: Callable[[str], str] | None = None,
) -> tuple[str, ...]:
    """Load the weights of a file into a module. Every key and shape must match.

    Args:
        module: The module that gets the weights.
        path: Safetensors, or a `state_dict` saved by `torch.save`.
        optional_prefixes: Prefixes of keys that are ignored in the file if the module does not have them.
        rename: Returns the name in the module of a key of the file; `None` where the names are the same.

    Returns:
        The keys in the file, without prefixes of wrappers.

    Raises:
        WeightsError: The file cannot be read, or does not match; the message names the keys.
    """
    own, rename = module.state_dict(keep_vars=True), rename or (lambda key: key)
    found = _unwrapped(read_weights(path), lambda key: rename(key) in own)
    keys = tuple(found)
    weights = {rename(key): value for key, value in found.items()}
    ignored = [key for key in weights if key.startswith(optional_prefixes) or _is_extra_state(key)]
    weights = {key: value for key, value in weights.items() if key in own or key not in ignored}
    differences = {
        "missing": [key for key in _needed(own, weights) if key not in weights],
        "not in the model": [key for key in weights if key not in own],
        "of another shape": [key for key in own if key in weights and _shape(own[key]) != _shape(weights[key])],
        "of another type": [key for key in own if key in weights and _is_of_another_type(own[key], weights[key])],
        "with NaN": [key for key in own if key in weights and _has_nan(weights[key])],
    }
    listed = [f"{len(keys)} {kind} ({_first_keys(keys)})" for kind, keys in differences.items() if keys]
    if listed:
        raise WeightsError(
            f"{path} does not fit {type(module).__name__}: {'; '.join(listed)}; give weights of the same model"
        )
    module.load_state_dict(weights, strict=False)
    return keys


def _unwrapped(weights: dict[str, Tensor], is_own: Callable[[str], bool]) -> dict[str, Tensor]:
    """Return weights without the prefixes of wrappers, in whatever order these were combined.

    Args:
        weights: The weights by key.
        is_own: Whether a key is one of the module.
    """
    found = {key: value for key, value in weights.items() if is_own(key) or key not in WRAPPER_KEYS}
    while not any(is_own(key) for key in found):
        prefix = next((each for each in WRAPPER_PREFIXES if any(key.startswith(each) for key in found)), None)
        if prefix is None:
            return weights
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def _needed(own: Mapping[str, Any], weights: Collection[str]) -> list[str]:
    """Return the keys of a module without counters, extra state, and weights that are tied to one of the file."""
    tensors = {key: value for key, value in own.items() if isinstance(value, Tensor)}
    given = {(value.data_ptr(), value.shape) for key, value in tensors.items() if key in weights and value.numel()}
    return [
        key
        for key, value in tensors.items()
        if not (key.endswith("num_batches_tracked") or _is_extra_state(key))
        and (value.data_ptr(), value.shape) not in given
    ]


def _is_extra_state(key: str) -> bool:
    """Whether a key is that of values other than weights and buffers, which modules may add to their state."""
    return key.endswith("_extra_state")


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else None


def _is_of_another_type(own: Any, given: Tensor) -> bool:
    """Whether numbers would lose their meaning: whole numbers for a parameter, complex ones for any real tensor."""
    if not isinstance(own, Tensor) or not own.is_floating_point():
        return False
    return given.is_complex() or (isinstance(own, nn.Parameter) and not given.is_floating_point())


def _has_nan(weight: Tensor) -> bool:
    return weight.is_floating_point() and bool(weight.float().isnan().any())


def _first_keys(keys: list[str]) -> str:
    return ", ".join(keys[:MAX_LISTED_KEYS]) + (", …" if len(keys) > MAX_LISTED_KEYS else "")
