"""Read word vectors from text files as word2vec, GloVe and fastText write them: a word and its numbers on each line."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float

from featviz.errors import OutputError, pluralize
from featviz.io import is_file, is_folder

CHUNK_BYTES = 1 << 23
"""Number of bytes that are read and converted at once."""
MAX_LINE_BYTES = 1 << 20
"""Largest number of bytes of a line. Files of word vectors have a few thousand."""
SAMPLED_LINES = 200
"""Number of lines that tell how many numbers a line has, in a file whose first line does not."""
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf)", re.IGNORECASE)
EXCERPT = 60
"""Number of characters of a wrong line that the message shows."""
GZIP_MAGIC = b"\x1f\x8b"
"""First bytes of a file that gzip compressed."""
BOM = b"\xef\xbb\xbf"
"""Byte order mark, with which some editors begin UTF-8."""
SPACE = b" "


def read_vectors(
    file: Path, limit: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[list[str], Float[np.ndarray, "words numbers"]]:
    """Read a text file of word vectors, with or without a first line with their number and length.

    Memory is needed for the vectors and for `CHUNK_BYTES` of text. Words may hold spaces. Of equal words the first is
    kept, since files list frequent words first. Bytes that are not UTF-8 are escaped.

    Args:
        file: The file, possibly compressed by gzip.
        limit: Number of words to read, >= 1; `None` for all.
        progress: Called with the number of bytes read and the size of the file.

    Returns:
        The words, and the vector of each.

    Raises:
        OutputError: The file is missing, binary or empty, or a line is not a word and numbers. The message has its
            number.
    """
    reader = _Reader(file, limit)
    size = file.stat().st_size if is_file(file) else 0
    for text, position in _chunks(file):
        reader.add(text)
        if progress:
            progress(min(position, size), size)
        if reader.is_full:
            break
    if progress and size:
        progress(size, size)
    return reader.finish()


class _Reader:
    """Collects the words and vectors of a file, chunk by chunk.

    Args:
        file: The file, for messages.
        limit: Number of words to keep; `None` for all.
    """

    def __init__(self, file: Path, limit: int | None) -> None:
        self.file, self.limit = file, limit
        self.rows: dict[str, int] = {}
        self.numbers, self.line, self.started = 0, 0, False
        self.vectors = np.empty((0, 0), np.float32)

    @property
    def is_full(self) -> bool:
        """Whether there are as many words as are wanted."""
        return self.limit is not None and len(self.rows) >= self.limit

    def add(self, text: bytes) -> None:
        """Add the words of whole lines."""
        lines = text.replace(b"\r\n", b"\n").split(b"\n")
        lines = lines[:-1] if not lines[-1].strip() else lines
        if not self.started:
            lines = self._start(lines)
        start = 0
        while start < len(lines) and not self.is_full:
            end = len(lines) if self.limit is None else start + self.limit - len(self.rows)  # a line has one word
            self._add(lines[start:end])
            start = end

    def _add(self, lines: list[bytes]) -> None:
        """Add the words of whole lines after the header."""
        first, self.line = self.line, self.line + len(lines)
        words, values = self._split(lines, first)
        kept = []
        for row, word in enumerate(words):
            if word not in self.rows and not self.is_full:
                self.rows[word] = len(self.rows)
                kept.append(row)
        filled = len(self.rows) - len(kept)
        # `resize` moves large arrays by changing the page table, so no second copy of them is ever needed.
        self.vectors.resize((len(self.rows), self.numbers), refcheck=False)
        self.vectors[filled:] = values if len(kept) == len(words) else values[kept]

    def finish(self) -> tuple[list[str], np.ndarray]:
        """Return the words and their vectors.

        Raises:
            OutputError: The file holds no word vectors.
        """
        if not self.rows:
            raise OutputError(f"no word vectors in {self.file}; each line must hold a word and its numbers")
        return list(self.rows), self.vectors

    def _start(self, lines: list[bytes]) -> list[bytes]:
        """Find how many numbers a line has, and return the lines without the header, if there is one."""
        self.started = True
        lines = [lines[0].removeprefix(BOM), *lines[1:]]
        header = lines[0].split()
        if len(header) == 2 and all(part.isdigit() and len(part) <= 12 for part in header):
            following = len(lines[1].split()) if len(lines) > 1 else 0
            if following != 2 or int(header[1]) == 1:  # else a word that is a number, with a vector of one
                self.numbers, self.line = int(header[1]), 1
                lines = lines[1:]
        if not self.numbers:
            counts = Counter(_trailing_numbers(line) for line in lines[:SAMPLED_LINES] if line.strip())
            self.numbers = max(1, max(counts, key=lambda count: (counts[count], count), default=1))
        self.vectors = np.empty((0, self.numbers), np.float32)
        return lines

    def _split(self, lines: list[bytes], first: int) -> tuple[list[str], np.ndarray]:
        """Return the words of lines and their numbers, in one conversion if all lines are as they should be."""
        words, texts, count = [], [], self.numbers
        for line in lines:
            stripped = line.rstrip()
            if stripped.count(SPACE) != count or b"  " in stripped:
                return self._split_each(lines, first)
            word, _, text = stripped.partition(SPACE)
            words.append(word)
            texts.append(text)
        values = _to_numbers(SPACE.join(texts), len(lines) * count)
        if values is None or not all(words):
            return self._split_each(lines, first)
        return [word.decode(errors="backslashreplace") for word in words], values.reshape(len(lines), count)

    def _split_each(self, lines: list[bytes], first: int) -> tuple[list[str], np.ndarray]:
        """Do the same line by line: words may hold spaces, and the message about a wrong line has its number.

        Raises:
            OutputError: A line is not a word and numbers.
        """
        words, rows = [], []
        for number, line in enumerate(lines, first + 1):
            parts = line.strip(b" \t\r").rsplit(None, self.numbers)
            if not line.strip():
                continue
            values = _to_numbers(SPACE.join(parts[1:]), self.numbers) if len(parts) == self.numbers + 1 else None
            if values is None:
                raise OutputError(
                    f"line {number} of {self.file} must be a word and "
                    f"{pluralize(self.numbers, 'finite number')}, got {_excerpt(line)}"
                )
            words.append(parts[0].decode(errors="backslashreplace"))
            rows.append(values)
        return words, np.stack(rows) if rows else np.empty((0, self.numbers), np.float32)


def _to_numbers(text: bytes, count: int) -> Float[np.ndarray, " count"] | None:
    """Return numbers that are separated by spaces; `None` if there are not as many, or some are not finite."""
    if not text:  # of which NumPy would warn
        return None
    try:
        values = np.loadtxt([text.decode("ascii")], np.float32, comments=None, delimiter=" ", ndmin=1)
    except ValueError:  # also a `UnicodeDecodeError`
        return None
    return values if values.size == count and np.isfinite(values).all() else None


def _trailing_numbers(line: bytes) -> int:
    """Return how many numbers a line ends in, without its first field, which is a word."""
    parts = line.split()[1:]
    return next((i for i, part in enumerate(reversed(parts)) if not NUMBER.fullmatch(part)), len(parts))


def _excerpt(line: bytes) -> str:
    """Return the start of a line, for a message."""
    text = line.strip().decode(errors="backslashreplace")
    return repr(text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…")


def _chunks(file: Path) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines of a file, about `CHUNK_BYTES` at once, and the position in the file.

    Raises:
        OutputError: The file is missing, damaged, or holds no text.
    """
    with _open(file) as (stream, raw):
        while text := stream.read(CHUNK_BYTES):
            if not text.endswith(b"\n"):
                text += stream.readline(MAX_LINE_BYTES)
            if b"\0" in text:
                raise OutputError(
                    f"{file} is binary, and only the text format of word vectors is read; save the vectors as text "
                    "(of word2vec: with -binary 0)"
                )
            if len(text) >= MAX_LINE_BYTES and not text.endswith(b"\n") and stream.read(1):
                raise OutputError(f"a line of {file} has more than {MAX_LINE_BYTES} bytes; is it a file of vectors?")
            yield text, raw.tell()


@contextmanager
def _open(file: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open a file, decompressed if it is compressed; yields that and the raw file.

    Raises:
        OutputError: The file is missing or cannot be read, now or later.
    """
    if not is_file(file) and os.path.exists(file):  # noqa: PTH110  # a pipe would be waited for
        raise OutputError(f"{file} is {'a folder' if is_folder(file) else 'no regular file'}; give a file of vectors")
    try:
        with file.open("rb") as raw:
            compressed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                yield raw, raw
                return
            with gzip.GzipFile(fileobj=raw) as unpacked:
                yield unpacked, raw  # type: ignore[misc]  # reads as a binary file does
    except FileNotFoundError as error:
        raise OutputError(f"no file {file}; check the path") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OutputError(f"{file} is compressed and damaged; was it copied completely?") from error
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
