"""Check that weights can be downloaded, before libraries try for a minute."""

from __future__ import annotations

import socket
from urllib.parse import urlparse
from urllib.request import getproxies

from featviz.errors import WeightsError

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
