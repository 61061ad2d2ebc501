"""Labels of photographs: the folders that they are in, a file of labels, and the classes that a network predicts."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
from jaxtyping import Bool
from torch import Tensor

import featviz as fv
from featviz.apps.shared.arguments.classes import class_title

MIN_PHOTOGRAPHS = 2
"""Smallest number of photographs with a label, and without it."""
MAX_LABELS = 2000
"""Largest number of labels; the most frequent ones are kept."""
HEADER = "file"
"""First cell of a line that names the columns of a file of labels."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of photographs.

    Args:
        names: The labels.
        members: Which photographs have each label.
        source: Where the labels are from: `"folders"`, `"file"`, `"predicted"`, or two of them; empty for none.
    """

    names: tuple[str, ...]
    members: Bool[Tensor, "labels n"]
    source: str


def find_labels(
    network: fv.Network, names: Sequence[str], predicted: Sequence[int], given: Mapping[str, Sequence[str]] | None
) -> Labels:
    """Return the labels of photographs: those of their folders and of a file, or else the predicted classes.

    Args:
        network: The network, which has the class names.
        names: Path of each photograph, relative to the folder.
        predicted: Index of the predicted class of each photograph; empty for a network without classes.
        given: Labels of a file, by photograph; `None` for no file.

    Returns:
        Labels that some photographs have and some have not.
    """
    folders = {name: list(PurePath(name).parts[:-1]) for name in names}
    sources = ["folders"] * any(folders.values()) + ["file"] * (given is not None)
    if sources:
        of_each = [[*folders[name], *(given or {}).get(name, ())] for name in names]
    elif len(predicted):
        sources, of_each = ["predicted"], [[class_title(network, index)] for index in predicted]
    else:
        return Labels((), torch.zeros(0, len(names), dtype=torch.bool), "")
    return _labels(of_each, " and ".join(sources))


def _labels(of_each: Sequence[Sequence[str]], source: str) -> Labels:
    """Return labels that neither almost all nor almost no photographs have, sorted by name."""
    counts = Counter(label for labels in of_each for label in set(labels))
    most = len(of_each) - MIN_PHOTOGRAPHS
    usable = [label for label, count in counts.most_common() if MIN_PHOTOGRAPHS <= count <= most][:MAX_LABELS]
    index = {label: i for i, label in enumerate(sorted(usable))}
    members = torch.zeros(len(index), len(of_each), dtype=torch.bool)
    for photograph, labels in enumerate(of_each):
        for label in labels:
            if label in index:
                members[index[label], photograph] = True
    return Labels(tuple(index), members, source)


def read_labels(file: str | Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Read a file of labels: lines of a photograph and one or more labels, separated by commas.

    A photograph is named by its path relative to the folder, or by its file name where only one photograph has it. A
    first line that starts with `file` names the columns. Photographs that are not in the folder are left out.

    Args:
        file: The .csv file, in UTF-8.
        names: Path of each photograph, relative to the folder.

    Returns:
        The labels of each photograph that is named.

    Raises:
        SettingError: The file cannot be read, a line has no label, or no line names a photograph of the folder.
    """
    known, found = _by_name(names), dict[str, list[str]]()
    first = ""
    for number, row in enumerate(read_rows(file), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[0].lower() == HEADER):
            continue
        labels = [cell for cell in cells[1:] if cell]
        if not labels:
            raise fv.SettingError(
                f"each line of {file} must be a photograph and its labels, separated by commas; line {number} has "
                "no label"
            )
        first = first or cells[0]
        if name := known.get(cells[0].removeprefix("./")):
            found.setdefault(name, []).extend(labels)
    if not found:
        shown = f"; the first line names {first[:80]!r}" if first else ", and is empty"
        raise fv.SettingError(f"{file} must name photographs of the folder, as {names[0]!r}{shown}")
    return found


def _by_name(names: Sequence[str]) -> dict[str, str]:
    """Return photographs by their path, and by their file name where it is unique."""
    counts = Counter(PurePath(name).name for name in names)
    by_file = {PurePath(name).name: name for name in names if counts[PurePath(name).name] == 1}
    return by_file | {name: name for name in names}


def read_rows(file: str | Path) -> list[list[str]]:
    """Return the cells of each line of a file of labels.

    Args:
        file: The .csv file, in UTF-8.

    Raises:
        SettingError: The file cannot be read.
    """
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as opened:
            return list(csv.reader(opened))
    except OSError as error:
        raise fv.SettingError(f"cannot read the labels in {file}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise fv.SettingError(f"cannot read the labels in {file}; it must be a .csv file in UTF-8: {error}") from error
