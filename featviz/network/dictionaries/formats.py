"""Read dictionaries from files of featviz and other libraries, and write them. No file runs code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from featviz.errors import FeatvizError, WeightsError, first_line
from featviz.io import check_output, is_file, is_folder, read_arrays, write
from featviz.network.dictionaries.dictionary import Dictionary
from featviz.network.dictionaries.layouts import from_arrays, from_tensors
from featviz.network.loading.weights import read_weights

ENDING = ".safetensors"
OWN_FORMAT = "1"
"""Version of the files that `Dictionary.save` writes, in their metadata as `featviz_dictionary`."""
FOLDER_FILES = ("sae_weights.safetensors", "weights.safetensors", "sae.safetensors", "weights.pt")
"""Names of the weights in a folder of SAELens or ViT-Prisma."""
CONFIGURATIONS = ("cfg.json", "config.json")
"""Names of the configuration file beside the weights."""
ARRAYS = (".npz", ".npy")
MAX_HEADER = 1 << 20
"""Largest first line of a file of saev, in bytes."""


def write_own(dictionary: Dictionary, path: Path) -> Path:
    """Write a dictionary as a safetensors file. See `Dictionary.save`."""
    check_output(path, ENDING)
    about = {
        "featviz_dictionary": OWN_FORMAT,
        "kind": dictionary.kind,
        "k": json.dumps(dictionary.k),
        "layer": dictionary.layer,
        "facts": json.dumps(dict(dictionary.facts)),
    }
    write(path, save(dictionary.tensors, metadata=about))
    return path


def read(path: Path, kind: str | None = None, k: int | None = None) -> Dictionary:
    """Read a dictionary of any format. See `Dictionary.load`."""
    file = _in_folder(path) if is_folder(path) else path
    if not is_file(file):
        raise WeightsError(f"no dictionary file {file}; give a .safetensors, .pt, .npz or .npy file")
    try:
        found = _read(file, kind, k)
    except WeightsError:
        raise
    except (FeatvizError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise WeightsError(f"cannot read a dictionary from {file}: {reason}") from error
    object.__setattr__(found, "file", str(path))
    return found


def _in_folder(folder: Path) -> Path:
    found = next((folder / name for name in FOLDER_FILES if is_file(folder / name)), None)
    if found is None:
        raise WeightsError(f"the folder {folder} has no dictionary ({', '.join(FOLDER_FILES)}); name the file")
    return found


def _read(file: Path, kind: str | None, k: int | None) -> Dictionary:
    if file.suffix.lower() in ARRAYS:
        return from_arrays(read_arrays(file), kind, k)
    about = _metadata(file)
    if "featviz_dictionary" in about:
        return _read_own(file, about)
    header = _header_of_saev(file)
    tensors = read_weights(file, skip=header[1]) if header else read_weights(file)
    configuration = (header[0] if header else _configuration(file)) | ({"k": k} if k is not None else {})
    return from_tensors({name: each.float() for name, each in tensors.items()}, configuration, kind)


def _metadata(file: Path) -> Mapping[str, str]:
    """Return the metadata of a safetensors file; nothing for another file."""
    if file.suffix.lower() != ENDING:
        return {}
    try:
        with safe_open(file, "pt") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read a dictionary from {file}; was it copied completely?") from error


def _read_own(file: Path, about: Mapping[str, str]) -> Dictionary:
    if about["featviz_dictionary"] != OWN_FORMAT:
        version = about["featviz_dictionary"]
        raise WeightsError(f"{file} has format {version} of dictionaries, this featviz reads {OWN_FORMAT}")
    facts = {str(name): float(value) for name, value in json.loads(about["facts"]).items()}
    made: Any = {**read_weights(file), "k": json.loads(about["k"]), "facts": facts}
    return Dictionary(kind=about["kind"], layer=about["layer"], **made)


def _configuration(file: Path) -> dict[str, Any]:
    """Return the content of the JSON file beside the weights; empty if there is none."""
    for name in CONFIGURATIONS:
        if is_file(file.parent / name):
            try:
                found = json.loads((file.parent / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise WeightsError(f"cannot read {file.parent / name}, which describes {file.name}") from error
            return found if isinstance(found, dict) else {}
    return {}


def _header_of_saev(file: Path) -> tuple[dict[str, Any], int] | None:
    """Return the JSON in the first line of a file of saev and the length of the line; `None` for another file."""
    if file.suffix.lower() == ENDING:
        return None
    with file.open("rb") as opened:
        if opened.read(1) != b"{":
            return None
        opened.seek(0)
        line = opened.readline(MAX_HEADER)
    header = json.loads(line)
    inner = header.get("cfg", header)
    return ({**header, **inner} if isinstance(inner, dict) else header), len(line)
