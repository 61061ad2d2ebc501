"""Report the steps of a render, and give the images to a callback that wants them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from featviz.interfaces import ImageProgress, ProgressSource


class Reporter:
    """Calls the progress callback of a render after a step.

    Args:
        progress: The callback; `None` for none. `entry_point` has replaced names by callbacks.
        steps: Number of all steps.
        images: Computes the images as they are now.
    """

    def __init__(
        self, progress: ProgressSource | None, steps: int, images: Callable[[], Float[Tensor, "n c *size"]]
    ) -> None:
        self._progress = None if isinstance(progress, str) else progress
        self._shows = progress if isinstance(progress, ImageProgress) else None
        self._steps, self._images = steps, images

    def __call__(self, done: int) -> None:
        """Report a step.

        Args:
            done: Number of steps done.
        """
        if self._progress is None:
            return
        self._progress(done, self._steps)
        if self._shows is not None and self._shows.wants_images(done, self._steps):
            self._shows.show(done, self._steps, copy_images(self._images))


@torch.no_grad()
def copy_images(images: Callable[[], Float[Tensor, "n c *size"]]) -> Float[Tensor, "n c *size"]:
    """Return a copy of the images on the CPU.

    A param may return its leaf tensors as images. Without a copy, what a caller keeps would change in the next step,
    and what it writes would change the render.

    Args:
        images: Computes the images.
    """
    return images().detach().to("cpu", copy=True)
