"""Files that grow while data are collected, and a state that says how much of them is valid."""

from __future__ import annotations

import json
import operator
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from featviz.io import write

STATE_FILE = "state.json"
CHUNK = 1 << 24
"""Number of bytes that are read at once."""


class GrowingFiles:
    """Files in a folder that only grow, with some counts.

    What was appended after the last `save` is cut off by `resume`. A damaged file, whose checksum is another, makes
    `resume` start from nothing.

    Args:
        folder: The folder, which must exist.
        names: Names of the files.
        counts: Names of the counts, such as the number of rows.
    """

    def __init__(self, folder: Path, names: Sequence[str], counts: Sequence[str]) -> None:
        self.folder = folder
        self.counts = dict.fromkeys(counts, 0)
        self._lengths, self._checksums = dict.fromkeys(names, 0), dict.fromkeys(names, 0)

    def resume(self) -> None:
        """Read the saved state, and cut off what was written after it was saved.

        Raises:
            OSError: The folder cannot be written to.
        """
        saved = self._read_state()
        if saved is not None and all(
            _checksum(self.folder / name, length) == checksum for name, (length, checksum) in saved[1].items()
        ):
            self.counts = saved[0]
            for name, (length, checksum) in saved[1].items():
                self._lengths[name], self._checksums[name] = length, checksum
        for name, length in self._lengths.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != length:  # complete files may be in use by another process
                with path.open("ab") as opened:
                    opened.truncate(length)

    def append(self, contents: Mapping[str, bytes]) -> None:
        """Append to the files.

        Args:
            contents: What to append, by the name of the file.

        Raises:
            OSError: A file cannot be written.
        """
        for name, content in contents.items():
            with (self.folder / name).open("ab") as opened:
                opened.write(content)
            self._lengths[name] += len(content)
            self._checksums[name] = zlib.crc32(content, self._checksums[name])

    def save(self) -> None:
        """Save the state: what has been appended so far is valid.

        Raises:
            OutputError: The folder cannot be written to.
        """
        files = {name: [length, self._checksums[name]] for name, length in self._lengths.items()}
        state = {"counts": self.counts, "files": files}
        write(self.folder / STATE_FILE, json.dumps(state | {"checksum": _state_checksum(state)}).encode())

    def _read_state(self) -> tuple[dict[str, int], dict[str, tuple[int, int]]] | None:
        """Return the saved counts, and the length and checksum of each file; `None` without a readable state."""
        try:
            state = json.loads((self.folder / STATE_FILE).read_text())
            if state.pop("checksum") != _state_checksum(state):
                return None
            counts = {name: operator.index(state["counts"][name]) for name in self.counts}
            files = {name: tuple(map(operator.index, state["files"][name])) for name in self._lengths}
            found = {name: (length, checksum) for name, (length, checksum) in files.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return counts, found


def _state_checksum(state: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(state, sort_keys=True).encode())


def _checksum(path: Path, length: int) -> int | None:
    """Return the checksum of the start of a file; `None` where the file is shorter, or missing."""
    found = 0
    try:
        with path.open("rb") as opened:
            while length > 0:
                chunk = opened.read(min(length, CHUNK))
                if not chunk:
                    return None
                found, length = zlib.crc32(chunk, found), length - len(chunk)
    except OSError:
        return None
    return found
