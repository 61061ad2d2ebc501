"""Say in one line why something cannot be a network, or why a module does not run on images."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from featviz.errors import ModelError, pluralize
from featviz.network.inputs.input_spec import InputSpec

INTEGER_PACKAGES = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")
"""Packages of modules that compute with 8-bit integers, and have no gradients."""


def check_module(module: object) -> None:
    """Check that something is a module whose layers can be hooked and whose gradients can be computed.

    Args:
        module: What the user gave as the network.

    Raises:
        ModelError: `module` is not an `nn.Module`, or its layers cannot be hooked or differentiated.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"a network needs an nn.Module, got {_describe(module)}")
    label = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{label} is TorchScript, whose layers cannot be hooked; give the original nn.Module")
    if any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise ModelError(f"{label} has uninitialised lazy layers; run it once on a batch of images first")
    if any(weight.is_meta for weight in module.parameters()):
        raise ModelError(f"{label} is on the meta device and has no weights; load them first")
    for name, part in module.named_modules():
        if type(part).__module__.startswith(INTEGER_PACKAGES) and not type(part).__name__.endswith("FloatFunctional"):
            where = f"{name!r} of {label}" if name else label
            raise ModelError(f"{where} is quantized to integers, which have no gradients; give the float module")


def _describe(given: object) -> str:
    """Return an error message for an argument that is no module."""
    if isinstance(given, str):
        return f"the text {given!r}; use fv.load({given!r})"
    if isinstance(given, type):
        return f"the class {given.__name__}; make an instance of it: {given.__name__}(...)"
    if isinstance(given, Mapping) and all(isinstance(value, Tensor) for value in given.values()):
        return "a state_dict; build the module and load it with module.load_state_dict(...)"
    if isinstance(given, torch.export.ExportedProgram):
        return "an ExportedProgram; give exported.module()"
    if callable(given):
        return f"the function {getattr(given, '__name__', given)!s}; call it if it makes the module, or wrap it in one"
    return f"{type(given).__name__}; give the module itself"


def raise_known_failure(module: nn.Module, spec: InputSpec, label: str, error: Exception) -> None:
    """Raise an error that says why a module does not run on images, where that can be told.

    Args:
        module: The module.
        spec: What it was said to expect.
        label: Name of the network.
        error: What the forward pass raised.

    Raises:
        ModelError: The module needs several inputs, or images with another number of channels.
    """
    raise_if_several_inputs(module, label, error)
    kinds = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
    first = next((part for part in module.modules() if isinstance(part, tuple(kinds))), None)
    axes = next((axes for kind, axes in kinds.items() if isinstance(first, kind)), 0)
    if axes and axes != len(spec.size) and "input to conv" in str(error):
        example = {1: "(4096,)", 2: "224", 3: "(32, 64, 64)"}[axes]
        raise ModelError(
            f"size {spec.size} has {len(spec.size)} axes, but the first convolution of {label} is a "
            f"{type(first).__name__}, which reads {axes}; give e.g. size={example}"
        ) from error
    if isinstance(error, RuntimeError) and "channels" in str(error) and first and first.in_channels != spec.channels:
        reads, given = pluralize(first.in_channels, "channel"), pluralize(spec.channels, "value")  # type: ignore[arg-type]
        raise ModelError(
            f"mean and std have {given}, one per channel of an image, but the first convolution of {label} reads "
            f"{reads}; give mean and std one value for each channel"
        ) from error


def raise_if_several_inputs(module: nn.Module, label: str, error: Exception, given: str = "images") -> None:
    """Raise an error that says what to do with a module whose `forward` needs several inputs.

    Args:
        module: The module.
        label: Name of the network.
        error: What the forward pass raised.
        given: What the module gets, as a noun in the plural.

    Raises:
        ModelError: It needs several inputs.
    """
    needed = [
        each
        for each, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    name = given.split()[-1]
    if isinstance(error, TypeError) and len(needed) > 1 and "required" in str(error):
        if given == "images":
            tensors = "".join(f", {each!r}: tensor" for each in needed[1:])
            raise ModelError(
                f"{label}.forward needs {len(needed)} inputs ({', '.join(needed)}), and gets images only; give "
                f"inputs={{{needed[0]!r}: fv.InputSpec(...){tensors}}} in place of size, mean and std"
            ) from error
        others = ", ".join(f"{each}=..." for each in needed[1:])
        raise ModelError(
            f"{label}.forward needs {len(needed)} inputs ({', '.join(needed)}), and gets {given} only; wrap it:\n\n"
            f"class On{given.title().replace(' ', '')}(torch.nn.Module):\n"
            "    def __init__(self, inner):\n"
            "        super().__init__()\n"
            "        self.inner = inner\n\n"
            f"    def forward(self, {name}):\n"
            f"        return self.inner({name}, {others})\n"
        ) from error
