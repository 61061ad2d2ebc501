"""Check the folders of an app before anything is computed."""

from __future__ import annotations

from pathlib import Path

import featviz as fv
from featviz.io import Store, check_outside, images_in
from featviz.io.files import is_folder


def local_store(output: str | Path, photographs: str | Path, what: str) -> Store:
    """Open the output folder of an app that needs it on this machine.

    Args:
        output: The folder.
        photographs: Folder of photographs, in which the output must not lie.
        what: Name of the result, for the message.

    Raises:
        SettingError: The folder is not on this machine.
        OutputError: There is no photograph, or the output lies among them.
    """
    next(images_in(photographs))
    check_outside(output, photographs)
    store = Store(output)
    if store.path is None:
        raise fv.SettingError(f"{what} needs a local output folder, got {store.url}; give a folder of this machine")
    return store


def check_sweep(sweep: str | Path | None) -> None:
    """Check that the folder of an earlier sweep exists, if one is given.

    Raises:
        OutputError: It does not.
    """
    if sweep is not None and not is_folder(sweep):
        raise fv.OutputError(f"no folder {sweep}; give the output folder of a sweep")
