"""A folder of results, on this machine or wherever fsspec reaches. Files appear completely written or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from featviz.errors import OutputError
from featviz.io.files import TEMPORARY, is_folder, remove_stale, write
from featviz.io.images import open_image


class Store:
    """A folder into which galleries and sweeps write. It is created if it is missing.

    Args:
        url: A path, or a URL such as `s3://bucket/folder` or `memory://folder`.

    Raises:
        OutputError: The kind of URL is unknown or needs a package that is not installed, or the folder cannot be made.
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
            if self._is_local:
                for folder in (Path(self.root), *filter(Path.is_dir, Path(self.root).iterdir())):
                    remove_stale(folder)
        except (ImportError, ValueError) as error:
            raise OutputError(
                f"cannot write to {self.url}: {error}; give a folder, or install the package for this kind of URL"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.url}: {error.strerror or error}") from error

    def __repr__(self) -> str:
        """Return the call."""
        return f"Store({self.url!r})"

    @cached_property
    def path(self) -> Path | None:
        """The folder on this machine; `None` for a store elsewhere."""
        return Path(self.root) if self._is_local else None

    def names(self, folder: str) -> set[str]:
        """List the files of a subfolder, without those that are being written.

        Args:
            folder: Path of the subfolder within the store. It may be missing.

        Returns:
            The names of the files and folders directly in it.
        """
        self._files.invalidate_cache()  # another process may have written since
        try:
            found = self._files.ls(f"{self.root}/{folder}", detail=False)
        except FileNotFoundError:
            return set()
        return {str(path).rpartition("/")[2] for path in found if not str(path).endswith(TEMPORARY)}

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Args:
            name: Path of the file within the store.

        Raises:
            OutputError: The file is missing.
        """
        try:
            return bytes(self._files.cat_file(f"{self.root}/{name}"))
        except OSError as error:
            raise OutputError(f"no file {name} in {self.url}") from error

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file; `None` if it is missing or damaged, so that it is made again.

        Args:
            name: Path of the file within the store.
        """
        try:
            return json.loads(self.read(name))
        except (OutputError, ValueError):
            return None

    def intact_images(self, names: Iterable[str]) -> set[str]:
        """Return which of some image files are there and can be read, so that the others are made again.

        Files of a store elsewhere are taken to be intact: they appear there when they are complete.

        Args:
            names: Paths of files within the store.
        """
        wanted = set(names)
        if self._is_local:
            return {name for name in wanted if _is_intact(Path(f"{self.root}/{name}"))}
        folders = {name.rpartition("/")[0] for name in wanted}
        return wanted & {f"{folder}/{file}" for folder in folders for file in self.names(folder)}

    def remove(self, name: str) -> None:
        """Delete a file, if it is there.

        Args:
            name: Path of the file within the store.
        """
        with suppress(OSError):
            self._files.rm_file(f"{self.root}/{name}")

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file atomically, and make the folders that it needs. An existing file is replaced.

        Args:
            name: Path of the file within the store.
            data: Its content; text is encoded as UTF-8.

        Raises:
            OutputError: The folder is not writable or full.
        """
        data = data.encode("utf-8", "replace") if isinstance(data, str) else data
        path = f"{self.root}/{name}"
        try:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._is_local:
                write(Path(path), data)
            else:
                self._files.pipe_file(path, data)  # object stores show an object only when it is complete
        except OSError as error:
            raise OutputError(f"cannot write {name} to {self.url}: {error.strerror or error}") from error


def _is_intact(file: Path) -> bool:
    """Return whether an image file can be read completely."""
    try:
        with open_image(file):
            return True
    except OutputError:
        return False


@contextmanager
def new_store(url: str | Path) -> Iterator[Store]:
    """Open a store for a with statement. On an error, delete the folders that were made for it and are still empty.

    Args:
        url: As for `Store`.

    Raises:
        OutputError: As for `Store`.
    """
    path = Path(url).absolute()
    made = [] if "://" in str(url) else [folder for folder in (path, *path.parents) if not is_folder(folder)]
    store = Store(url)
    try:
        yield store
    except BaseException:
        with suppress(OSError):  # the first folder that is not empty
            for folder in made:
                folder.rmdir()
        raise
