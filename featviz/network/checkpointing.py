"""Notice checkpointing, through which some gradients cannot be computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, NoReturn

import torch.utils.checkpoint

from featviz.errors import ModelError

_ORIGINAL: Any = torch.utils.checkpoint.CheckpointFunction
_noticing: list[list[object]] = []
"""What each open context has noticed. Contexts of several threads may end in any order; the last one restores."""
_noticing_lock = Lock()


class _Noticed:
    """Takes the place of PyTorch's function for re-entrant checkpointing while a context is open."""

    @staticmethod
    def apply(*args: Any) -> Any:
        """Note the call, and run the original."""
        for used in list(_noticing):
            used.append(args[0])
        return _ORIGINAL.apply(*args)


@contextmanager
def noticed_checkpointing() -> Iterator[list[object]]:
    """Notice re-entrant checkpointing while the context is open: the layers inside of it have no gradient.

    Yields:
        A list that holds something once a forward pass has used it.
    """
    used: list[object] = []
    with _noticing_lock:
        _noticing.append(used)
        torch.utils.checkpoint.CheckpointFunction = _Noticed  # type: ignore[assignment,misc]
    try:
        yield used
    finally:
        with _noticing_lock:
            _noticing[:] = [other for other in _noticing if other is not used]
            if not _noticing:
                torch.utils.checkpoint.CheckpointFunction = _ORIGINAL  # type: ignore[misc]


def refuse_gradients() -> NoReturn:
    """Refuse to compute gradients through re-entrant checkpointing, which has none for images alone.

    Raises:
        ModelError: Always.
    """
    raise ModelError(
        "the network uses re-entrant checkpointing, whose gradients cannot be computed for images alone; "
        "give use_reentrant=False to torch.utils.checkpoint.checkpoint, or turn checkpointing off"
    )


def raise_checkpoint_error(error: Exception) -> None:
    """Raise an error that says what to do where layers compute something else the second time they run.

    Args:
        error: What a backward pass raised.

    Raises:
        ModelError: It is about checkpointing.
    """
    if isinstance(error, torch.utils.checkpoint.CheckpointError):
        raise ModelError(
            "the network recomputes activations (torch.utils.checkpoint), and computes others the second time: changed "
            "gradients, as of smooth_pools and LRP, apply to the first pass only; turn checkpointing off"
        ) from error
