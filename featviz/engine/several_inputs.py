"""Params and transforms of a network that optimises several inputs, from what the user gives for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from featviz.checks import check_axes
from featviz.engine.shorthand import as_param, as_transforms, transform_tuple
from featviz.errors import SettingError
from featviz.interfaces import (
    Geometric,
    Param,
    Size,
    Spatial,
    Transform,
    Transforms,
    transform_traits_of,
)
from featviz.network import InputSpec, Network
from featviz.param import Masked, sized
from featviz.param.inputs import InputParams
from featviz.transforms.inputs import InputTransforms
from featviz.transforms.presets import default_transforms

InputParamSource = Param | Spatial | str | Mapping[str, Param | Spatial | str | None] | None
"""A param for all inputs, or by name of the input."""
InputTransformSource = (
    Transforms | Transform | Geometric | str | Mapping[str, Transforms | Transform | Geometric | str] | None
)
"""Transforms for all inputs, or by name of the input."""


def params_of_inputs(
    network: Network, param: InputParamSource, size: int | Size | None, batch: int, *, starts: bool
) -> InputParams:
    """Return the param of all optimised inputs.

    Args:
        network: A network that optimises several inputs.
        param: One for all of them, or by name; the others get the default param of their specification.
        size: Must be `None`: each param has its own.
        batch: Number of images per objective; 1 for that of the params.
        starts: Whether start images are given, which is refused.

    Raises:
        SettingError: There is no such input, a value is no param, sizes or batches do not fit, or there is a `size` or
            a start image.
    """
    _refuse(network, size, starts)
    if isinstance(param, InputParams):
        _check_same(network, {name: (shape[0], len(shape) - 1) for name, _, shape in param.parts})
        if batch not in (1, param.batch):
            raise SettingError(f"batch must be that of the params, {param.batch}, got {batch}; leave it out")
        return param
    own, specs = _by_name(network, "param", param), network.inputs
    made = {name: as_param(own[name], spec=spec) for name, spec in specs.items()}
    masked = next((name for name, each in made.items() if isinstance(each, Masked)), None)
    if masked is not None:
        raise SettingError(
            f"param of the input {masked!r} needs a start image, and several inputs start from noise; choose another "
            "param, or give values for the other inputs with net.with_given(...)"
        )
    batches = {each.batch for each in made.values()} - {1} if batch == 1 else {batch}
    batch = max(batches, default=1)
    made = {name: sized(each, None, batch) if each.batch == 1 else each for name, each in made.items()}
    batches |= {each.batch for each in made.values()}
    if len(batches) > 1:
        raise SettingError(
            f"params of several inputs need the same batch, got {' and '.join(map(str, sorted(batches)))}; give each "
            "the same batch"
        )
    return InputParams(tuple((name, each, _shape(name, each, specs[name])) for name, each in made.items()), batch)


def _refuse(network: Network, size: int | Size | None, starts: bool) -> None:
    """Check that nothing is given that is for one input.

    Raises:
        SettingError: There is a size or a start image.
    """
    if starts:
        raise SettingError(
            f"{network.label} optimises {_list_inputs(network)}, which start from noise; leave out start, or give "
            "values for all but one with net.with_given(...)"
        )
    if size is not None:
        first = next(iter(network.inputs))
        raise SettingError(
            f"{network.label} optimises {_list_inputs(network)}, which each have a size; give it in the param of "
            f"each, as in param={{{first!r}: param.Image(size=...)}}"
        )


def transforms_of_inputs(
    network: Network, param: InputParams, transforms: InputTransformSource, *, aligned: bool
) -> Transforms:
    """Return the transforms of all optimised inputs, as one.

    Args:
        network: A network that optimises several inputs.
        param: Their param.
        transforms: Those for all inputs, or by name; the others get the default transforms of their specification.
        aligned: Whether the default is none, as an objective has the trait `aligned`.

    Raises:
        SettingError: There is no such input, a value is no transform, or views do not have one size.
    """
    if isinstance(transforms, Sequence) and transforms and isinstance(transforms[0], InputTransforms):
        _check_same(network, {name: (shape[0], len(size)) for name, _, shape, size in transforms[0].parts})
        return tuple(transforms)  # type: ignore[arg-type]
    own = _by_name(network, "transforms", transforms)
    parts = []
    for name, each, shape in param.parts:
        spec, given = network.inputs[name], as_transforms(own[name])
        if given is None:
            given = default_transforms(each, spec.axes, aligned=aligned)
        parts.append((name, _as_tuple(name, given), shape, spec.size))
    return (InputTransforms(tuple(parts)),)


def check_one(network: Network, what: str, given: Any) -> Any:
    """Return the value of an argument for the only input of a network.

    Raises:
        SettingError: `given` is a dict by name of the input.
    """
    if isinstance(given, Mapping):
        raise SettingError(
            f"a dict as {what} needs a network that optimises several inputs, and {network.label} optimises one; give "
            f"its {what} alone"
        )
    return given


def _by_name(network: Network, what: str, given: Any) -> dict[str, Any]:
    """Return the value of an argument for each input; `None` for the default.

    Raises:
        SettingError: There is no such input.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(network.inputs, given)
    own = {str(name): each for name, each in given.items()}
    unknown = next((name for name in own if name not in network.inputs), None)
    if unknown is not None:
        raise SettingError(f"no input {unknown!r} for {what}; {network.label} optimises {_list_inputs(network)}")
    return dict.fromkeys(network.inputs) | own


def _as_tuple(name: str, given: Any) -> Transforms:
    """Return transforms as a tuple.

    Raises:
        SettingError: One is none, or needs an alpha channel.
    """
    several = transform_tuple(given, f" for the input {name!r}")
    for each in several:
        if transform_traits_of(each).consumes_alpha:
            raise SettingError(f"{each} needs an alpha channel, and with several inputs none has one; leave it out")
    return tuple(several)


def _shape(name: str, param: Param, spec: InputSpec) -> tuple[int, ...]:
    """Return channels and length of each axis of the images of a param.

    Raises:
        SettingError: The param has another number of axes than the input.
    """
    size = param.size or spec.size
    check_axes(size, len(spec.size), f"the input {spec.size}", f"size of {name!r}")
    return (spec.channels, *size)


def _check_same(network: Network, kinds: Mapping[str, tuple[int, int]]) -> None:
    """Check that params or transforms of a recipe are for the inputs of a network.

    Raises:
        SettingError: They are for others.
    """
    own = [(name, (spec.channels, len(spec.size))) for name, spec in network.inputs.items()]
    if list(kinds.items()) != own:  # packed images depend on the order
        raise SettingError(
            f"params and transforms are for the inputs {', '.join(kinds)}, and {network.label} optimises "
            f"{_list_inputs(network)}, of other shapes, names or order; give them as a dict by name"
        )


def _list_inputs(network: Network) -> str:
    return " and ".join(network.inputs)
