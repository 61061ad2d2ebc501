"""Load a network from the text of options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import featviz as fv
from featviz.cli.parsing import read_class_names, read_numbers, read_range, read_size


def load_network(
    model: str,
    *,
    weights: str,
    device: str,
    input_size: str | None,
    mean: str | None,
    std: str | None,
    channel_order: str | None,
    layout: str | None,
    head: str | None = None,
    outputs: str | None = None,
    class_names: str | None = None,
    axes: str | None = None,
    value_range: str | None = None,
    dictionary: Sequence[str] | None = None,
    smooth_pools: bool = False,
    accept_any_size: bool = False,
) -> fv.Network:
    """Load a network from the text of its options.

    Args:
        model: As for `fv.load`.
        weights: As for `fv.load`.
        device: As for `fv.load`.
        input_size: As for `read_size`; `None` for the model's own.
        mean: As for `read_numbers`; `None` for the model's own.
        std: As for `read_numbers`; `None` for the model's own.
        channel_order: `RGB` or `BGR`; `None` for the model's own.
        layout: `NCHW`, `NHWC` or `NTCHW`; `None` for the model's own.
        head: As for `fv.load`.
        outputs: As for `fv.load`.
        class_names: File of class names; `None` for the model's own.
        axes: As for `fv.load`.
        value_range: As for `read_range`; `None` for the model's own.
        dictionary: Files of dictionaries, each followed by `@` and a layer where the file does not name it.
        smooth_pools: As for `fv.load`.
        accept_any_size: Do not check that the network runs at its input size.

    Returns:
        The network.

    Raises:
        ModelError: There is no such model, or it does not run at `input_size`.
        WeightsError: The weights cannot be read, downloaded or loaded into the model.
        SettingError: An option is out of its range.
    """
    from featviz.checks import check_axes, check_size
    from featviz.interfaces import as_size
    from featviz.network import is_user_model

    given, is_own = read_size(input_size), is_user_model(model)  # a module of the user may have no size of its own
    network = fv.load(
        model,
        weights=weights,
        device=device,
        input_size=given if is_own else None,
        mean=read_numbers(mean),
        std=read_numbers(std),
        channel_order=channel_order and channel_order.upper(),
        layout=layout and layout.upper(),
        axes=axes,
        value_range=read_range(value_range),
        head=head,
        outputs=outputs,
        classes=None if class_names is None else read_class_names(Path(class_names)),
        smooth_pools=smooth_pools,
    )
    size = network.size if given is None else as_size(given, len(network.size))
    if size != network.size:
        check_size("input_size", size)
        check_axes(size, len(network.size), f"the input {network.size} of {model}", "input_size")
        if not accept_any_size:
            network.check_size(size)
        network = network.with_input(size=size)
    for text in dictionary or ():
        network = attach_dictionary(network, text)
    return network


def attach_dictionary(network: fv.Network, text: str) -> fv.Network:
    """Attach the dictionary of a file to a layer.

    Args:
        network: The network.
        text: `FILE`, or `FILE@LAYER`.

    Returns:
        The network with the dictionary.

    Raises:
        WeightsError: The file cannot be read.
        AddressError: There is no such layer, or it has another number of channels.
        SettingError: Neither the text nor the file names the layer.
    """
    from featviz.io import is_file, is_folder

    file, at, layer = (text, "", "") if is_file(text) or is_folder(text) else text.rpartition("@")
    loaded = fv.Dictionary.load(file if at else text)
    if not (layer or loaded.layer):
        raise fv.SettingError(f"{text} does not name its layer; give --dictionary {text}@LAYER")
    return network.with_dictionary(layer or loaded.layer, loaded)
