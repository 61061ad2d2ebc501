"""Signals as .wav files, with the recipe in the comment of the file."""

from __future__ import annotations

import importlib.util
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from featviz.errors import OutputError
from featviz.io.files import is_file, write
from featviz.io.images import unpack_texts

WAV = ".wav"
"""Ending of the files."""
SAMPLE_RATE = 16_000
"""Samples per second where none are given, as in most networks of speech."""
MAX_RATE = 2**31 - 1
"""Largest sample rate that the format can store."""
MAX_WAV_CHANNELS = 1024
"""Largest number of channels that libsndfile writes."""
INFO, COMMENT = b"INFO", b"ICMT"
"""Kind of the RIFF chunk of texts about a file, and the name of the comment in it.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft 1991), section 2, "INFO list".
"""


def save_wav(values: Float[np.ndarray, "c length"], path: Path, rate: int, texts: bytes = b"") -> Path:
    """Write a signal as samples of 32-bit floats, atomically.

    Args:
        values: Amplitudes in [-1, 1], one channel after the other.
        path: The file.
        rate: Samples per second.
        texts: Comment of the file, from `pack_texts`.

    Returns:
        The file.

    Raises:
        OutputError: soundfile is not installed, there are too many channels, or the folder is missing, not writable or
            full.
    """
    check_soundfile(f"cannot write {path}")
    import soundfile

    if len(values) > MAX_WAV_CHANNELS:
        raise OutputError(
            f"cannot write {path}: a .wav file has at most {MAX_WAV_CHANNELS} channels, and the signal has "
            f"{len(values)}; end the name in .npy"
        )
    data = io.BytesIO()
    soundfile.write(data, values.T.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    content = _without_time(data.getvalue())
    write(path, with_comment(content, texts) if texts else content)
    return path


def read_wav(path: Path) -> tuple[Float[np.ndarray, "c length"], int]:
    """Read an audio file, in any format that libsndfile knows by content.

    Args:
        path: The file.

    Returns:
        The amplitudes, in [-1, 1] for samples of integers, and the number of samples per second.

    Raises:
        OutputError: soundfile is not installed, or the file is missing, broken or no audio.
    """
    if not is_file(path):
        raise OutputError(f"no file {path}; check the path")
    check_soundfile(f"cannot read {path}")
    import soundfile

    try:
        is_complete = _is_complete(path)
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OSError) as error:
        raise OutputError(f"cannot read {path} as a sound; give a WAV file") from error
    if not is_complete:
        raise OutputError(f"{path} is truncated; was it copied completely?")
    return np.ascontiguousarray(samples.T), int(rate)


def _is_complete(path: Path) -> bool:
    """Return whether a RIFF file has the length that its header says; 0 and the largest one stand for any length."""
    with path.open("rb") as file:
        header = file.read(8)
    length = int.from_bytes(header[4:], "little")  # of what follows; some writers count the header of 8 bytes, too
    return header[:4] != b"RIFF" or length in (0, 2**32 - 1) or path.stat().st_size >= length


def check_soundfile(what: str) -> None:
    """Check that soundfile is installed.

    Args:
        what: Start of the message.

    Raises:
        OutputError: soundfile is not installed.
    """
    if importlib.util.find_spec("soundfile") is None:
        raise OutputError(f"{what}: sounds need soundfile; run: pip install 'featviz[signals]'")


def with_comment(data: bytes, comment: bytes) -> bytes:
    """Add a comment at the end of the bytes of a .wav file.

    libsndfile drops comments of more than 2 kB when it reads them, and recipes are longer. Programs skip the chunks of
    a RIFF file that they do not know.

    Args:
        data: The file: `RIFF`, the number of bytes after it, `WAVE`, and chunks.
        comment: ASCII without a null byte.
    """
    text = _chunk(COMMENT, comment + b"\0")
    grown = data + _chunk(b"LIST", INFO + text)
    return grown[:4] + struct.pack("<I", len(grown) - 8) + grown[8:]


def wav_texts(path: Path) -> dict[str, str]:
    """Return the recipe and the report in the comment of a .wav file; empty if it has none.

    Raises:
        OutputError: The file is missing or no RIFF file.
    """
    if not is_file(path):
        raise OutputError(f"no file {path}; check the path")
    data = path.read_bytes()
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise OutputError(f"cannot read {path} as a sound; give a WAV file")
    for name, content in _chunks(data[12:]):
        if name == b"LIST" and content[:4] == INFO:
            for inner, text in _chunks(content[4:]):
                found = unpack_texts(text.rstrip(b"\0")) if inner == COMMENT else {}
                if found:
                    return found
    return {}


def _without_time(data: bytes) -> bytes:
    """Return the bytes of a .wav file without the time of writing, so that equal signals give equal files.

    libsndfile stores it in the chunk `PEAK` of samples of floats, after a version of 4 bytes.
    """
    at = data.find(b"PEAK", 0, data.find(b"data"))
    return data if at < 0 else data[: at + 12] + bytes(4) + data[at + 16 :]


def _chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a RIFF file: its name, its length, its content, and a byte where the length is odd."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the names and contents of the chunks in a part of a RIFF file."""
    at = 0
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        yield data[at : at + 4], data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
