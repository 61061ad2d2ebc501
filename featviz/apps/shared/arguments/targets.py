"""Parse targets: an objective, its text, or the index of a class; one for all images or one for each."""

from __future__ import annotations

import numbers
from collections.abc import Sequence

from torch import Tensor

from featviz.errors import SettingError, shown
from featviz.interfaces import ObjectiveLike, traits_of
from featviz.objectives import Logit, ObjectiveSource, as_objective

Target = ObjectiveSource | int
"""An address, the text of an objective, an objective, or the index of a class."""


def as_target(target: Target) -> ObjectiveLike:
    """Return the objective of a target. A whole number stands for the logit of the class with this index.

    Args:
        target: The target.

    Raises:
        AddressError: The text cannot be parsed.
        SettingError: `target` is no target, or compares the images of a batch.
    """
    objective = as_objective(class_or_objective(target))
    if traits_of(objective).compares_images:
        raise SettingError(f"the target must score a single image, got {objective}, which compares several")
    return objective


def as_targets(targets: Target | Sequence[Target] | Tensor, count: int) -> list[ObjectiveLike]:
    """Return the objective for each image.

    Args:
        targets: One target for all images, or a sequence with one for each.
        count: Number of images.

    Raises:
        AddressError: A text cannot be parsed.
        SettingError: There is not one for each image, or one is no target or compares the images of a batch.
    """
    if isinstance(targets, Tensor):
        try:
            targets = targets.tolist()
        except RuntimeError as error:  # of the device meta, or sparse
            raise SettingError(f"the targets must be numbers, got {shown(targets)}") from error
    if not isinstance(targets, list | tuple):
        return [as_target(targets)] * count  # type: ignore[arg-type]
    if len(targets) != count:
        raise SettingError(f"give one target for all images or one for each of {count}, got {len(targets)}")
    return [as_target(each) for each in targets]


def class_or_objective(target: Target) -> ObjectiveSource:
    """Return the logit of a class for a whole number, and anything else as it is."""
    is_index = isinstance(target, numbers.Integral) and not isinstance(target, bool)
    return Logit(int(target)) if is_index else target  # type: ignore[arg-type, return-value]
