"""Check the inputs that a user gives for a module, against the signature of its `forward`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz.errors import SettingError, nearest, pluralize, shown
from featviz.network.inputs.given_inputs import Given, GivenInput, Inputs, Rows, dense_copy, map_leaves, parameters_of
from featviz.network.inputs.input_spec import InputSpec


def read_inputs(module: nn.Module, inputs: Any, label: str) -> Inputs:
    """Check the inputs of a module.

    Args:
        module: The user's module.
        inputs: A mapping of names of arguments, or a sequence of positional ones; see `Network`.
        label: Name of the module for messages.

    Raises:
        SettingError: There is no `InputSpec`, an input is missing or unknown, or a value cannot be given.
    """
    if not isinstance(inputs, Mapping | tuple | list) or not inputs:
        raise SettingError(
            f"inputs must be a dict of the arguments of {label}.forward by name, or a tuple of them, got "
            f"{shown(inputs)}; use e.g. inputs={{'image': fv.InputSpec(...), 'tabular': tensor}}"
        )
    dtype = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), None)
    tree = map_leaves(
        inputs if isinstance(inputs, Mapping) else tuple(inputs), lambda name, leaf: _read(name, leaf, dtype)
    )
    read = Inputs(tree, as_one=_is_one_mapping(module, tree))
    if not read.as_one:
        _check_signature(module, tree, label)
    if not read.specs:
        raise SettingError(
            f"one of the inputs must be optimised, and none is an fv.InputSpec: {', '.join(read.leaves)}"
        )
    _check_counts(read)
    return read


def with_given(inputs: Inputs, values: Any, dtype: torch.dtype | None) -> Inputs:
    """Return inputs with other given values. Of several optimised inputs, some can be given, too.

    Args:
        inputs: The inputs.
        values: The other values, by path.
        dtype: Floating-point type of the weights.

    Raises:
        SettingError: There is no such given input, a value cannot be given, or nothing would be optimised.
    """
    if not isinstance(values, Mapping):
        raise SettingError(f"values must be a dict of given inputs by name, got {shown(values)}")
    specs = inputs.specs
    known = inputs.leaves if len(specs) > 1 else inputs.given
    for name in values:
        if name not in known:
            kind = "" if len(specs) > 1 else "given "
            raise SettingError(f"no {kind}input {name!r}; the {kind}inputs are {', '.join(map(repr, known))}")
        if isinstance(values[name], InputSpec):
            raise SettingError(f"input {name!r} must be a value here; make another network to optimise it")
    made = inputs.changed(lambda name, leaf: _read(name, values[name], dtype) if name in values else leaf)
    if not made.specs:
        raise SettingError(f"one input must stay an fv.InputSpec to be optimised, got values for {', '.join(values)}")
    _check_counts(made)
    return made


def _read(name: str, leaf: Any, dtype: torch.dtype | None) -> Any:
    """Check one input.

    Raises:
        SettingError: It cannot be given.
    """
    if isinstance(leaf, InputSpec | GivenInput):
        return leaf
    if leaf is None or isinstance(leaf, bool | int | float | str):
        return GivenInput(leaf, "none")
    if isinstance(leaf, Given):
        rows: Rows = "own" if leaf.per_image else "none"
        return GivenInput(_of_dtype(name, leaf.value, dtype), rows)
    if not isinstance(leaf, Tensor | np.ndarray):
        raise SettingError(
            f"input {name!r} must be an fv.InputSpec, a tensor, an fv.Given(tensor), a number or text, got "
            f"{shown(leaf)}"
        )
    value = _of_dtype(name, dense_copy(f"input {name!r}", leaf), dtype)
    if value.ndim and len(value) != 1:
        raise SettingError(
            f"input {name!r} must have one row for all images, (1, ...), got {tuple(value.shape)}; give tensor[None] "
            "if it is that row, fv.Given(tensor, per_image=True) if it has a row per image, or fv.Given(tensor) to "
            "pass it as it is"
        )
    return GivenInput(value, "one" if value.ndim else "none")


def _of_dtype(name: str, value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Check that floating-point numbers have the type of the weights.

    Raises:
        SettingError: They have another one.
    """
    if value.is_floating_point() and dtype is not None and value.dtype != dtype:
        wanted, got = (str(each).removeprefix("torch.") for each in (dtype, value.dtype))
        raise SettingError(f"input {name!r} must be {wanted}, as the weights are, got {got}; give tensor.to({dtype})")
    return value


def _check_counts(inputs: Inputs) -> None:
    """Check that values per image are for the same number of images.

    Raises:
        SettingError: The inputs have different numbers of rows, or none.
    """
    counts = {name: len(each.value) for name, each in inputs.given.items() if each.rows == "own"}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise SettingError(f"inputs per image must have as many rows as there are images, got {listed}")
    if 0 in counts.values():
        raise SettingError(f"input {next(iter(counts))!r} must have a row per image, got none")


# ---------------------------------------------------------------------------------------------- signatures


def _is_one_mapping(module: nn.Module, tree: Any) -> bool:
    """Whether all inputs are one mapping: `forward` has one argument, and several inputs are given without its name."""
    parameters = parameters_of(module.forward)
    several = isinstance(tree, Mapping) and len(tree) > 1 and not tree.keys() & parameters.keys()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters.values() if each.default is each.empty and each.kind in kinds]
    return several and len(needed) == 1 and not any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _check_signature(module: nn.Module, tree: Any, label: str) -> None:
    """Check that a `forward` takes the inputs, and needs no others.

    Raises:
        SettingError: `forward` lacks one of the arguments, or needs another.
    """
    parameters = parameters_of(module.forward)
    fixed = {
        name: each for name, each in parameters.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }
    given = set(tree)
    if isinstance(tree, tuple):
        by_position = [name for name, each in fixed.items() if each.kind is not each.KEYWORD_ONLY]
        more = any(each.kind is each.VAR_POSITIONAL for each in parameters.values()) or not parameters
        if len(tree) > len(by_position) and not more:
            listed = ", ".join(by_position)
            raise SettingError(
                f"{label}.forward takes {pluralize(len(by_position), 'input')} by position ({listed}), got {len(tree)}"
            )
        given = set(by_position[: len(tree)])
    elif not any(each.kind is each.VAR_KEYWORD for each in parameters.values()) and parameters:
        unknown = next((name for name in tree if name not in fixed), None)
        if unknown is not None:
            raise SettingError(
                f"no input {unknown!r} of {label}.forward, which has {', '.join(fixed)}{nearest(str(unknown), fixed)}"
            )
    missing = [name for name, each in fixed.items() if each.default is each.empty and name not in given]
    if missing:
        raise SettingError(
            f"inputs must have every argument of {label}.forward without a default; missing: {', '.join(missing)}; "
            "give each as a tensor"
        )


def image_spec(size: Any, mean: Sequence[float] | None, std: Sequence[float] | None, *more: Any) -> InputSpec:
    """Return the input specification of a network that reads images.

    Args:
        size: As for `Network`, as are the others.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        more: Further fields of `InputSpec`, in order.

    Raises:
        SettingError: A value is missing, or out of its range.
    """
    missing = [name for name, value in {"size": size, "mean": mean, "std": std}.items() if value is None]
    if missing:
        raise SettingError(
            f"a network needs size, mean and std of its images, or tokens=fv.TokenSpec(...) if it reads text; "
            f"{', '.join(missing)} not given"
        )
    return InputSpec(size, mean, std, *more)  # type: ignore[arg-type]


def refuse_both(**of_images: Any) -> None:
    """Check that the specification of images is not given beside that of tokens.

    Args:
        of_images: Fields of the specification of images; `None` for those that are not given.

    Raises:
        SettingError: One is given.
    """
    given = [name for name, value in of_images.items() if value is not None]
    if given:
        raise SettingError(f"a network that reads text has tokens only; leave out {', '.join(given)}")


def refuse_beside_inputs(others: Mapping[str, bool]) -> None:
    """Check that what an `InputSpec` says is not given beside `inputs`.

    Args:
        others: Whether other arguments are given, by name.

    Raises:
        SettingError: One is.
    """
    given = [name for name, is_given in others.items() if is_given]
    if given:
        raise SettingError(f"inputs has the fv.InputSpec of the optimised input; leave out {', '.join(given)}")
