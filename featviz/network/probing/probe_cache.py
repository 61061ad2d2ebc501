"""Cache the layer table and receptive fields on disk, so that a network is probed once per machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from featviz.io import cache_folder, write_cached
from featviz.io.array import as_tuples
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.layers import LayerRow, Probed
from featviz.network.layout import Layout
from featviz.network.probing.receptive_fields import ReceptiveField

FORMAT = 10
"""Version of the file format. Increase it when the content or the meaning of a measurement changes."""
MEMORY_FORMATS = {str(each): each for each in (torch.channels_last, torch.contiguous_format)}

Fields = dict[str, ReceptiveField]


def cache_key(spec: InputSpec, code: str, fingerprint: str) -> str:
    """Return a hash of everything that the measurements depend on.

    Args:
        spec: What the network expects of its input.
        code: Hash of its code: with the same weights, another `forward` has other layers.
        fingerprint: Hash of its weights.
    """
    known = FORMAT, version("featviz"), torch.__version__, astuple(spec), code, fingerprint
    return hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def load(key: str) -> tuple[Probed, Fields | None] | None:
    """Return the cached layers, and the receptive fields if they were measured.

    Args:
        key: As `cache_key` returns it.

    Returns:
        Both; `None` if there is no readable file.
    """
    try:
        found = json.loads(_file(key).read_text())
        return _read_probed(found["probed"]), found["fields"] and {
            name: ReceptiveField(px, stride, tuple(sides)) for name, (px, stride, sides) in found["fields"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save(key: str, probed: Probed, fields: Fields | None) -> None:
    """Write the measurements to the cache. If it cannot be written, nothing is cached.

    Nor is a network with unregistered modules, which may be in another mode, or others, the next time.

    Args:
        key: As `cache_key` returns it.
        probed: The layers.
        fields: The receptive fields; `None` if they were not measured yet.
    """
    if probed.unregistered:
        return
    content = asdict(probed) | {"memory_format": str(probed.memory_format)}
    pairs = None if fields is None else {name: (field.px, field.stride, field.sides) for name, field in fields.items()}
    write_cached(_file(key), json.dumps({"probed": content, "fields": pairs}).encode())


def _file(key: str) -> Path:
    return cache_folder() / "layers" / f"{key}.json"


def _read_probed(content: dict[str, Any]) -> Probed:
    def layer(row: dict[str, Any]) -> LayerRow:
        return LayerRow(**as_tuples(row) | {"layout": Layout(**as_tuples(row["layout"]))})

    memory_format = MEMORY_FORMATS[content["memory_format"]]
    rows = {key: {name: layer(row) for name, row in content[key].items()} for key in ("table", "calls", "outputs")}
    # Networks with unregistered modules are not cached.
    return Probed(**content | rows | {"memory_format": memory_format, "unregistered": ()})
