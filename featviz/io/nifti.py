"""Volumes as NIfTI files, with the recipe in an extension of the header."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from jaxtyping import Float

from featviz.errors import OutputError
from featviz.io.files import ending_of, is_file, write
from featviz.io.images import unpack_texts

NIFTI = (".nii", ".nii.gz")
"""Endings of the files."""
COMMENT_CODE = 6
"""Code of an extension that holds text. Source: https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields,
"NIFTI_ECODE_COMMENT"."""
READ_ERRORS = (OSError, EOFError, ValueError, TypeError, KeyError)
"""What is raised for files that are broken or of another kind."""


def save_nifti(values: Float[np.ndarray, "n c d h w"], path: Path, texts: bytes = b"") -> Path:
    """Write volumes as single-precision numbers with voxels of 1 mm, atomically.

    The array of the file has the axes in the order of `values`, so that an array that nibabel reads can be given to a
    network as it was trained on such arrays. Several volumes are along the fourth axis of the file, channels along the
    fifth.

    Args:
        values: The volumes.
        path: The file; compressed if it ends in .gz.
        texts: Comment of the file, from `pack_texts`.

    Returns:
        The file.

    Raises:
        OutputError: nibabel is not installed, or the folder is missing, not writable or full.
    """
    check_nibabel(f"cannot write {path}")
    import nibabel

    voxels = values.transpose(2, 3, 4, 0, 1).astype(np.float32)
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    if texts:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(COMMENT_CODE, texts))
    data = image.to_bytes()
    # Without the time of writing, equal volumes give equal files.
    write(path, gzip.compress(data, mtime=0) if ending_of(path) == NIFTI[1] else data)
    return path


def read_nifti(path: Path) -> Float[np.ndarray, "*axes"]:
    """Read the numbers of a NIfTI file, scaled as its header says.

    Args:
        path: The file.

    Returns:
        The array with the axes in the order of the file, in single precision.

    Raises:
        OutputError: nibabel is not installed, or the file is missing, broken or no NIfTI file.
    """
    image = _open(path)
    try:
        return np.asarray(image.get_fdata(dtype=np.float32))
    except READ_ERRORS as error:
        raise OutputError(f"cannot read {path} as a volume; was it copied completely?") from error


def nifti_texts(path: Path) -> dict[str, str]:
    """Return the recipe and the report in the header of a NIfTI file; empty if it has none.

    Raises:
        OutputError: nibabel is not installed, or the file is missing or no NIfTI file.
    """
    for extension in _open(path).header.extensions:
        content = extension.get_content() if extension.get_code() == COMMENT_CODE else b""
        found = unpack_texts(content.encode() if isinstance(content, str) else content.rstrip(b"\0"))
        if found:
            return found
    return {}


def check_nibabel(what: str) -> None:
    """Check that nibabel is installed.

    Args:
        what: Start of the message.

    Raises:
        OutputError: nibabel is not installed.
    """
    if importlib.util.find_spec("nibabel") is None:
        raise OutputError(f"{what}: NIfTI files need nibabel; run: pip install 'featviz[volumes]'")


def _open(path: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202  # an image of nibabel, which may be missing
    if not is_file(path):
        raise OutputError(f"no file {path}; check the path")
    check_nibabel(f"cannot read {path}")
    import nibabel

    try:
        found = nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, *READ_ERRORS) as error:
        raise OutputError(f"cannot read {path} as a volume; give a NIfTI file") from error
    if not isinstance(found, nibabel.Nifti1Pair):
        raise OutputError(f"cannot read {path} as a volume; give a NIfTI file")
    return found
