"""Files of public git repositories, and a check that weights can be downloaded, before libraries try for a minute."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import getproxies

import torch

from featviz.errors import OutputError, WeightsError
from featviz.io.files import replace_durably, temporary_beside

CONNECTION_SECONDS = 5
"""Seconds to wait for the server of the weights."""


def check_reachable(model: str, url: str) -> None:
    """Check that the server of weights answers: the libraries would try for a minute, and print each try.

    Behind a proxy it is taken to answer.

    Args:
        model: Name of the model, for the message.
        url: Address of the weights, or of their server.

    Raises:
        WeightsError: Nothing answers.
    """
    if getproxies():
        return
    host = urlparse(url).hostname
    try:
        socket.create_connection((host, 443), timeout=CONNECTION_SECONDS).close()
    except OSError as error:
        reason = f"cannot download the weights of {model}: {host} cannot be reached"
        raise WeightsError(f"{reason}; give a file with --weights") from error


@dataclass(frozen=True)
class PublishedFile:
    """A file of a public git repository that is downloaded once, into the cache of `torch.hub`, and verified.

    Attributes:
        url: Address of the file at one commit.
        git_object: Name of its content in git, which is a checksum: `git ls-tree COMMIT FILE` prints it.
        content: What it contains, for messages.
        option: Command-line option that takes such a file instead.
    """

    url: str
    git_object: str
    content: str
    option: str

    @property
    def path(self) -> Path:
        """Path of the copy on this machine, which may be missing."""
        return Path(torch.hub.get_dir(), "checkpoints", self.url.rpartition("/")[2])

    def is_here(self) -> bool:
        """Return whether the copy exists and has the published content."""
        return self.path.is_file() and git_object(self.path) == self.git_object

    def fetch(self) -> Path:
        """Return the path of the copy, after downloading it if it is missing or damaged.

        Raises:
            WeightsError: The file cannot be downloaded, or has another content.
            OutputError: The file cannot be written to the cache.
        """
        if self.is_here():
            return self.path
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {self.path.parent} ({error})") from error
        with temporary_beside(self.path) as temporary:
            try:
                torch.hub.download_url_to_file(self.url, str(temporary), progress=False)
            except OSError as error:  # the base class of urllib's errors
                reason = f"cannot download {self.content} ({error})"
                raise WeightsError(f"{reason}; give a file with {self.option}") from error
            found = git_object(temporary)
            if found != self.git_object:
                reason = f"{self.content} at {self.url} must have the git object {self.git_object}, got {found}"
                raise WeightsError(f"{reason}; try again, or give a file with {self.option}")
            replace_durably(temporary, self.path)
        return self.path


def git_object(path: Path) -> str:
    """Return the name that git gives to the content of a file: the SHA-1 of its kind, its length and its bytes.

    Args:
        path: The file.

    Source: Chacon and Straub, Pro Git, section 10.2, "Object Storage".
    """
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
