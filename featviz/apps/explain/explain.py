"""Attribute a score to the pixels of an image or the tokens of a text: one target and method, or several of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.attribution import (
    Attribution,
    Comparison,
    join_attributions,
    mean_attribution,
)
from featviz.apps.explain.request import AttributionMap, AttributionRequest, Method, ReadsLayer, resize_map, scores_of
from featviz.apps.explain.text import TextAttribution, TextComparison, check_no_text, read_text, separate_texts
from featviz.apps.shared.arguments.classes import unique_name
from featviz.apps.shared.arguments.input_images import as_images
from featviz.apps.shared.arguments.inputs import separate_inputs
from featviz.apps.shared.arguments.targets import Target, as_targets
from featviz.engine import entry_point, fingerprint, parse_value
from featviz.errors import shown, warn
from featviz.interfaces import ObjectiveLike
from featviz.io import GivenImage, auto_bar
from featviz.network import OUTPUT, LayerLike, raise_checkpoint_error

DEFAULT_METHODS = ("Gradient", "SmoothGrad", "GuidedBackprop", "IntegratedGradients", "GradCAM")
"""Methods that `compare` shows by default; they apply to most networks."""
TEXT_METHODS = ("Gradient", "InputXGradient", "IntegratedGradients", "GradCAM")
"""Methods that `compare` shows by default for text."""
DEFAULT_METHOD, TEXT_METHOD = "gradcam", "integratedgradients"
"""Methods that `explain` uses by default, for images and for text."""
TOLERANCE = 0.05
"""Relative error of a guaranteed sum above which a warning is given."""


@entry_point(reads_text=True, any_axes=True)
def explain(
    network: fv.Network,
    image: GivenImage,
    target: Target | Sequence[Target] | None = None,
    method: str | Method | None = None,
    *,
    layer: LayerLike | Sequence[LayerLike] | None = None,
) -> Attribution | Any:
    """Compute how much each pixel of an image, or each token of a text, contributes to a score.

    Args:
        network: The network.
        image: A file, a folder, a Pillow image, an array or tensor (h, w), (h, w, c) or (c, h, w), a list of these, or
            a batch. Files and Pillow images are resized to about the network's input size. For signals and volumes a
            .npy, .wav or .nii.gz file in the range of the data, or numbers as `network.input.images(values)` returns
            them. For a network that reads text: a str, or its token ids; or a list of texts.
        target: Address, text of an objective, an objective, or the index of a class; a list with one of them for each
            image; `None` for the most likely class of each image.
        method: A method of `fv.methods`, or its name or call as text: `"gradcam"`, `"LRP('zplus')"`. `None` for
            Grad-CAM, or for text integrated gradients.
        layer: Layer, by name or as a module of the network, for the methods that read one, such as Grad-CAM; `None`
            for the last one before the target that suits the method. For a list of layers, return the mean of their
            maps, each divided by its largest absolute value.

    Returns:
        One map per image, at the size of the images: `(n, length)` for signals. For a text, a `TextAttribution` with
        one value per token; for a list of texts, a list of these.

    Raises:
        AddressError: The network has no such unit or layer, or the target cannot be parsed.
        SettingError: The method does not apply to this network or target, or does not read a layer; or the text is
            empty, too long, or not in the vocabulary.
        OutputError: The file cannot be read.
        RenderError: The map is NaN or infinite.
    """
    if network.tokens is not None:
        return _explain_text(network, image, target, method, layer)
    check_no_text(network, image)
    return _explain(network, as_images(network, image), target, DEFAULT_METHOD if method is None else method, layer)


def _explain_text(network: fv.Network, text: Any, target: Any, method: str | Method | None, layer: Any) -> Any:
    """Explain one text, or each of a list of texts."""
    several = separate_texts(network, text)
    if several is not None:
        one_each = isinstance(target, list | tuple)
        targets = as_targets(target, len(several)) if one_each else [target] * len(several)
        return [_explain_text(network, each, own, method, layer) for each, own in zip(several, targets, strict=True)]
    bound, sequence = read_text(network, text)
    found = _explain(bound, sequence, target, TEXT_METHOD if method is None else method, layer)
    assert bound.tokens is not None
    return TextAttribution(**vars(found), tokens=bound.tokens.words(bound.ids))


def _explain(network: fv.Network, images: Tensor, target: Any, method: str | Method, layer: Any) -> Attribution:
    """Explain a batch of images of one size, or the embedding sequence of a text."""
    targets = _targets(network, images, target)
    layers: list[Any] = list(layer) if isinstance(layer, list | tuple) else [layer]
    methods = [_method(method, network.name_of(each)) for each in layers] or [_method(method, None)]
    parts = []
    for objective in dict.fromkeys(targets):  # images of the same target together
        rows = [i for i, own in enumerate(targets) if own == objective]
        found = [_attribution(network, images[rows], objective, each, _label(method)) for each in methods]
        parts.append((rows, found[0] if len(found) == 1 else mean_attribution(found)))
    return parts[0][1] if len(parts) == 1 else join_attributions(parts, fingerprint(images))


def _attribution(
    network: fv.Network, images: Float[Tensor, "n c *size"], objective: ObjectiveLike, attributor: Method, label: str
) -> Attribution:
    """Explain images by one method for one target."""
    size = tuple(images.shape[2:])
    score = scores_of(network, [objective], images)[:, 0]
    request = AttributionRequest(network, objective, size)
    try:
        found = attributor.attribute(request, images.to(network.device).detach().clone())
    except Exception as error:
        raise_checkpoint_error(error)
        raise
    if not torch.isfinite(found.map).all():
        is_half = network.dtype in (torch.float16, torch.bfloat16)
        hint = "convert the network with network.module.float()" if is_half else "check the weights and the image"
        raise fv.RenderError(f"{attributor} of {objective} is NaN or infinite; {hint}")
    _warn_unless_complete(found, f"{label} of {objective}")
    labels = None if found.labels is None else F.interpolate(found.labels[:, None].float(), size)[:, 0].long().cpu()
    return Attribution(
        images,
        resize_map(found.map.detach().float().cpu(), size),
        score,
        str(objective),
        label,
        _recipe(network, objective, attributor, images),
        per_channel=None if found.per_channel is None else found.per_channel.detach().cpu(),
        delta=None if found.delta is None else found.delta.detach().cpu(),
        labels=labels,
        class_names=found.class_names,
        axes=network.input.axes,
    )


@entry_point(reads_text=True, any_axes=True)
def compare(
    network: fv.Network,
    image: GivenImage,
    targets: Target | Sequence[Target] = (),
    methods: str | Method | Sequence[str | Method] | None = None,
    *,
    layer: LayerLike | None = None,
    progress: Callable[[int, int], None] | None = auto_bar,
) -> Comparison | TextComparison | Any:
    """Explain an image or a text for several targets by several methods, side by side.

    A method that does not apply to a target has the reason in its cell and in `problems`.

    Args:
        network: The network.
        image: As for `explain`; each of several images is compared on its own.
        targets: Addresses, text of objectives, objectives or indices of classes; empty for the most likely class.
        methods: Methods of `fv.methods`, or their names or calls as text; `None` for some that apply to most networks.
        layer: Layer for the methods that read one, by name or as a module; `None` for the last one before the target
            that suits the method.
        progress: Called after each map, from the first success on, with the number of maps done and their total.

    Returns:
        One attribution per target and method. For a folder, a batch or a list, a list with one comparison per image.

    Raises:
        AddressError: The network has no such unit, or a target cannot be parsed.
        SettingError: No method applies to any target, or no method reads the layer.
        OutputError: The file cannot be read.
    """
    reads_text = network.tokens is not None
    if not reads_text:
        check_no_text(network, image)
    several = separate_texts(network, image) if reads_text else separate_inputs(network, image)
    if several is not None:
        return [compare(network, each, targets, methods, layer=layer, progress=progress) for each in several]
    layer = network.name_of(layer)
    methods = (TEXT_METHODS if reads_text else DEFAULT_METHODS) if methods is None else methods
    methods = list(methods) if isinstance(methods, list | tuple) else [methods]  # type: ignore[list-item]
    if not methods:
        raise fv.SettingError("methods is empty; give at least one, or None for those that apply to most networks")
    if layer is not None and not any(isinstance(_method(method, None), ReadsLayer) for method in methods):
        raise fv.SettingError(f"none of the methods reads a single layer; leave out layer {layer!r}, or add gradcam")
    network, images = read_text(network, image) if reads_text else (network, as_images(network, image))
    listed = list(targets) if isinstance(targets, list | tuple) else [targets]
    objectives = [_targets(network, images, target)[0] for target in listed or (None,)]
    scores = scores_of(network, objectives, images)[0].tolist()  # also warms up what is timed below
    given = image if reads_text else images
    attributors = [_at_layer(method, layer) for method in methods]
    own_layers = [layer if isinstance(each, ReadsLayer) else None for each in attributors]
    rows, milliseconds, problems = _attributions(network, given, objectives, methods, own_layers, progress)
    if not any(any(row) for row in rows):
        raise fv.SettingError("; ".join(dict.fromkeys(problems.values())))
    shared: Any = {
        "rows": rows,
        "targets": tuple(map(str, objectives)),
        "methods": tuple(map(_label, methods)),
        "scores": scores,
        "problems": problems,
        "layers": [tuple(objective.layers) for objective in objectives],
        "attributors": attributors,
        "objectives": objectives,
        "milliseconds": milliseconds,
        "network": network,
    }
    if network.tokens is not None:
        return TextComparison(tokens=network.tokens.words(network.ids), **shared)
    return Comparison(image=images[0], **shared)


def _attributions(
    network: fv.Network,
    image: GivenImage,
    objectives: Sequence[ObjectiveLike],
    methods: Sequence[str | Method],
    layers: Sequence[str | None],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[list[Attribution | None]], list[list[float | None]], dict[str, str]]:
    """Explain an image for several targets by several methods.

    Returns:
        A row per target with an attribution per method, the milliseconds that each took, and why methods do not apply,
        by `"method of target"`.
    """
    rows: list[list[Attribution | None]] = []
    times: list[list[float | None]] = []
    problems: dict[str, str] = {}
    for objective in objectives:
        rows.append([])
        times.append([])
        for method, layer in zip(methods, layers, strict=True):
            run = partial(explain, network, image, objective, method, layer=layer)
            try:
                found, milliseconds = _time(run)
            except (fv.SettingError, fv.AddressError) as error:
                problems[f"{_label(method)} of {objective}"] = str(error)
                found = milliseconds = None
            rows[-1].append(found)
            times[-1].append(milliseconds)
            if progress and any(map(any, rows)):  # if nothing succeeds, an error replaces the progress bar
                progress(sum(map(len, rows)), len(objectives) * len(methods))
    return rows, times, problems


def _time(run: Callable[[], Any]) -> tuple[Any, float]:
    """Call a function; return its result and its time in ms, without the import of packages."""
    for _ in range(2):
        imported, started = len(sys.modules), time.perf_counter()
        found = run()
        milliseconds = 1000 * (time.perf_counter() - started)
        if len(sys.modules) == imported:
            break
    return found, milliseconds


def _at_layer(method: str | Method, layer: str | None) -> Method:
    """Return a method, with the layer set if it reads one."""
    found = _method(method, None)
    return _method(found, layer) if isinstance(found, ReadsLayer) else found


def _warn_unless_complete(found: AttributionMap, name: str) -> None:
    """Warn if contributions miss the sum that their method guarantees."""
    if found.delta is None or found.remedy is None:
        return
    worst = found.delta.abs().max().item()
    if worst > TOLERANCE:
        missed = f"{name}: contributions miss the guaranteed sum by {worst:.2%}, more than {TOLERANCE:.0%}"
        warn(f"{missed}; {found.remedy}")


def _targets(network: fv.Network, images: Tensor, target: Any) -> list[ObjectiveLike]:
    """Return the objective to explain for each image; `None` stands for the most likely class of the image.

    Raises:
        AddressError: A target cannot be parsed.
        SettingError: A target compares the images of a batch, or there is not one for each image.
    """
    if target is None:
        with torch.no_grad():
            indices = network.capture(images, [OUTPUT]).logits().argmax(1).tolist()
        return [fv.objectives.Logit(unique_name(network, index)) for index in indices]
    return as_targets(target, len(images))


def _method(method: str | Method, layer: str | None) -> Method:
    """Return a method from its name, call or class, and set its layer.

    Raises:
        SettingError: There is no such method, or it does not read a layer.
    """
    found: Any = parse_value(method.replace("++", "pp"), fv.methods) if isinstance(method, str) else method
    found = found() if isinstance(found, type) and hasattr(found, "attribute") else found
    if not isinstance(found, Method):
        raise fv.SettingError(
            f"a method needs `attribute`, got {shown(found)}; use one of fv.methods, such as 'gradcam'"
        )
    if layer is None:
        return found
    if not isinstance(found, ReadsLayer):
        raise fv.SettingError(f"{type(found).__name__} does not read a single layer; leave out layer={layer!r}")
    return found.with_layer(layer)


def _label(method: str | Method) -> str:
    """Return the name of a method, with the settings that differ from their defaults."""
    if isinstance(method, str):
        return method
    if isinstance(method, type):
        return method.__name__
    name = type(method).__name__
    if not is_dataclass(method):
        return name
    settings = [(field, getattr(method, field.name)) for field in fields(method)]
    changed = ", ".join(f"{field.name}={value!r}" for field, value in settings if value != _default(field))
    return f"{name}({changed})" if changed else name


def _default(field: Field[Any]) -> Any:
    """Return the default of a field of a dataclass; `MISSING` where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _recipe(network: fv.Network, objective: ObjectiveLike, method: Method, images: Tensor) -> dict[str, Any]:
    """Return what determines a map, for the report in its file."""
    return {
        "featviz": fv.__version__,
        "model": network.name,
        "weights": network.weights,
        "fingerprint": network.fingerprint,
        "target": repr(objective),
        "method": repr(method),
        **(
            {"images": fingerprint(images), "input": network.input.content}
            if network.tokens is None
            else _text(network)
        ),
    }


def _text(network: fv.Network) -> dict[str, Any]:
    """Return what determines the text that a network was bound to."""
    assert network.tokens is not None
    return {"ids": list(network.ids), "vocabulary": network.tokens.size, "length": network.tokens.length}
