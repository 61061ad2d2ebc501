"""Why did the network say so? One image, one target, one method; or several of each beside one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.attribution import Attribution, Comparison, enlarged
from featviz.apps.explain.request import Found, Method, Question
from featviz.engine import fingerprint, parse_value
from featviz.interfaces import traits_of
from featviz.io import check_unit_range, read_image, read_photograph

SUITED = ("Gradient", "SmoothGrad", "GuidedBackprop", "IntegratedGradients", "GradCAM")
"""Methods that go with every network; shown where none was chosen."""
LONGEST = 4
"""Of a photograph that is longer than so many times its width, the middle is taken."""


def explain(
    network: fv.Network,
    image: str | Path | Float[Tensor, "*n c h w"],
    target: Any = None,
    method: str | Method = "gradcam",
    *,
    layer: str | None = None,
) -> Attribution:
    """Find where in an image a score comes from.

    Args:
        network: whose score it is.
        image: a file, which is brought to a size that suits the network; or one or several in [0, 1], taken as they
            are.
        target: an address or any objective; `None` means the class that the network finds likeliest in the first.
        method: one of `fv.methods`, or its name or call as text.
        layer: which the method looks at, where it looks at one; `None` means the last before the target.

    Raises:
        AddressError: the network has no such unit or layer.
        SettingError: the method cannot be applied to this network or target, or does not look at a layer.
        OutputError: the file cannot be read.
        RenderError: what the method finds is no number.
    """
    images = as_images(network, image)
    goal = _target(network, images, target)
    how = _method(method, layer)
    size = (images.shape[-2], images.shape[-1])
    question = Question(network, goal, size)
    with torch.no_grad():
        score = fv.score(network, [goal], images)[:, 0]
    found: Found = how.find(question, images.to(network.device).detach().clone())
    if not torch.isfinite(found.map).all():
        raise fv.RenderError(f"{how} of {goal} found what is no number; is the network in half precision?")
    labels = None if found.labels is None else F.interpolate(found.labels[:, None].float(), size)[:, 0].long().cpu()
    recipe = {
        "featviz": fv.__version__,
        "model": network.name,
        "weights": network.weights,
        "fingerprint": network.fingerprint,
        "target": repr(goal),
        "method": repr(how),
        "images": fingerprint(images),
        "input": asdict(network.input),
    }
    return Attribution(
        images,
        enlarged(found.map.detach().float().cpu(), size),
        score,
        str(goal),
        _called(method),
        recipe,
        channels=None if found.channels is None else found.channels.detach().cpu(),
        delta=None if found.delta is None else found.delta.detach().cpu(),
        labels=labels,
        names=found.names,
    )


def compare(
    network: fv.Network,
    image: str | Path | Float[Tensor, "c h w"],
    targets: Sequence[Any] = (),
    methods: Sequence[str | Method] = SUITED,
    *,
    layer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Explain an image for several targets by several methods, beside one another.

    Args:
        network: whose scores they are.
        image: as for `explain`.
        targets: addresses or objectives; none means the class that the network finds likeliest.
        methods: as for `explain`.
        layer: for the methods that look at one.
        progress: called after each map with those done and those in all, from the first that succeeds on.

    Raises:
        AddressError: the network has no such unit or layer.
        SettingError: none of the methods can be applied, or there are several images.
        OutputError: the file cannot be read.
    """
    if layer is not None and not any(_looks(_method(method, None)) for method in methods):
        raise fv.SettingError(f"none of the methods looks at one layer; leave layer {layer} out, or add gradcam")
    images = as_images(network, image)
    if len(images) > 1:
        raise fv.SettingError(f"{len(images)} images stand in no one sheet; compare one, or explain them all")
    goals = [_target(network, images, target) for target in targets or [None]]
    names = [_called(method) for method in methods]
    problems: dict[str, str] = {}
    rows: list[list[Attribution | None]] = []
    for goal in goals:
        row: list[Attribution | None] = []
        for name, method in zip(names, methods, strict=True):
            how = _method(method, None)
            looks = layer is not None and _looks(how)
            try:
                row.append(replace(explain(network, images, goal, how, layer=layer if looks else None), method=name))
            except (fv.SettingError, fv.AddressError) as error:
                problems[f"{name} of {goal}"] = str(error)
                row.append(None)
            if progress and any(map(any, [*rows, row])):  # nothing is drawn where nothing succeeds
                progress(len(rows) * len(names) + len(row), len(goals) * len(names))
        rows.append(row)
    if not any(any(row) for row in rows):
        raise fv.SettingError("; ".join(dict.fromkeys(problems.values())))
    scores = fv.score(network, goals, images)[0].tolist()
    return Comparison(images[0], rows, tuple(str(goal) for goal in goals), tuple(names), scores, problems)


def as_images(network: fv.Network, image: str | Path | Tensor | np.ndarray) -> Float[Tensor, "n c h w"]:
    """Take images as they are, or read a file: whole, at about the network's size, or its middle where that is fixed.

    Raises:
        OutputError: the file cannot be read.
        SettingError: the images do not have the network's channels, or are not in [0, 1].
        ModelError: the network does not take their size.
    """
    if isinstance(image, Tensor | np.ndarray):
        images = torch.as_tensor(image).detach().cpu()
        check_unit_range(images, "the image")
        images = images.float()[None] if images.ndim == 3 else images.float()
    elif network.fixed_size:
        images = read_photograph(image, size=network.size, channels=network.channels)[None]
    else:
        read = torch.from_numpy(read_image(image, network.channels))
        share = max(network.size[0] / read.shape[1], network.size[1] / read.shape[2])
        size = [min(LONGEST * network.size[i], max(network.size[i], round(share * read.shape[1 + i]))) for i in (0, 1)]
        images = read_photograph(image, size=(size[0], size[1]), channels=network.channels)[None]
    network.check_images(images)
    network.check_size((images.shape[-2], images.shape[-1]))
    return images


def _target(network: fv.Network, images: Tensor, target: Any) -> Any:
    """Read what is to be explained.

    Raises:
        SettingError: it is about a batch as a whole.
    """
    if target is None:
        with torch.no_grad():
            index = int(network.capture(images[:1], [""]).logits().argmax())
        unique = network.classes and network.classes.count(network.classes[index]) == 1
        return fv.objectives.Logit(network.classes[index] if unique else index)
    goal = fv.objectives.parse(target) if isinstance(target, str) else target
    if traits_of(goal).compares_images:
        raise fv.SettingError(f"{goal} is about several pictures at once; explain what one picture scores")
    return goal


def _method(method: str | Method, layer: str | None) -> Method:
    """Find a method, and tell it its layer.

    Raises:
        SettingError: there is no such method, or it does not look at a layer.
    """
    how: Any = parse_value(method, fv.methods) if isinstance(method, str) else method
    how = how() if isinstance(how, type) else how
    if layer is None:
        return how  # type: ignore[no-any-return]
    if not _looks(how):
        raise fv.SettingError(f"{type(how).__name__} does not look at one layer; leave layer={layer!r} out")
    return replace(how, layer=layer)  # type: ignore[no-any-return]


def _called(method: str | Method) -> str:
    """Return what to call a method: its name, with its settings where they are not the usual."""
    if isinstance(method, str):
        return method
    if isinstance(method, type) or not is_dataclass(method):
        return getattr(method, "__name__", type(method).__name__)
    settings = [(field, getattr(method, field.name)) for field in fields(method)]
    told = ", ".join(f"{field.name}={value!r}" for field, value in settings if value != _usual(field))
    return f"{type(method).__name__}({told})" if told else type(method).__name__


def _usual(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _looks(how: Any) -> bool:
    """Whether a method looks at a layer that can be named."""
    return is_dataclass(how) and any(field.name == "layer" and "str" in str(field.type) for field in fields(how))
