"""A folder of results, here or wherever fsspec reaches: each file is there whole or not at all."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from featviz.errors import OutputError
from featviz.io.files import write


class Store:
    """A folder of results.

    Args:
        url: a path, or a URL such as `s3://bucket/folder` or `memory://folder`.

    Raises:
        OutputError: there is no such kind of URL, what reaches it is not installed, or the folder cannot be made.
    """

    def __init__(self, url: str | Path) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.url = str(url)
        try:
            files, self.root = url_to_fs(self.url)
            self._files: Any = files
            self._is_local = isinstance(files, LocalFileSystem)
            files.makedirs(self.root, exist_ok=True)
        except (ImportError, ValueError) as error:
            raise OutputError(
                f"cannot write to {self.url}: {error}; give a folder, or install what it needs"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.url}: {error.strerror or error}") from error

    def __repr__(self) -> str:
        """Write the call."""
        return f"Store({self.url!r})"

    @cached_property
    def path(self) -> Path | None:
        """The folder on this machine; `None` where it is elsewhere."""
        return Path(self.root) if self._is_local else None

    def names(self, folder: str) -> set[str]:
        """List the files right in one of its folders, which may not be there yet."""
        self._files.invalidate_cache()  # others may have written since
        try:
            found = self._files.ls(f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return set()
        return {str(name).rpartition("/")[2] for name in found if not str(name).endswith(".part")}

    def read(self, name: str) -> bytes:
        """Read a file.

        Raises:
            OutputError: it is not there.
        """
        try:
            return bytes(self._files.cat_file(f"{self.root}/{name}"))
        except OSError as error:
            raise OutputError(f"no file {name} in {self.url}") from error

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file, and the folders that it lies in; another of that name is replaced.

        Raises:
            OutputError: the folder is not writable or full.
        """
        data = data.encode("utf-8", "replace") if isinstance(data, str) else data
        whole = f"{self.root}/{name}"
        try:
            self._files.makedirs(whole.rpartition("/")[0], exist_ok=True)
            if self._is_local:
                write(Path(whole), data)
            else:
                self._files.pipe_file(whole, data)  # object stores show an object only once it is whole
        except OSError as error:
            raise OutputError(f"cannot write {name} to {self.url}: {error.strerror or error}") from error
