"""A running explorer and a watched browser page, for the tests of the explorer's page."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import torch
from motifs.draw import draw
from PIL import Image
from watched_pages import watched_page

import featviz as fv
from featviz.network.bundled import MOTIFS

TIMEOUT = 60_000
"""Milliseconds within which something must appear, also on a machine with other work."""
REFUSED = "Failed to load resource: the server responded with a status of 400"
CHANGED = "Failed to load resource: the server responded with a status of 409 .*/api/board"
"""Message of a change of the board after one by another page."""
QUICK = "steps=16&size=32"
"""Settings of quick pictures, for the fragment of the address."""


class Desk:
    """A page of the browser, and the address of the explorer.

    Args:
        page: The page.
        url: Address of the explorer.
    """

    def __init__(self, page, url):
        self.page, self.url = page, url
        self.page.set_default_timeout(TIMEOUT)

    def open(self, fragment=QUICK):
        """Open the page with a state, and wait for its first content."""
        self.page.goto("about:blank")  # otherwise only the fragment would change
        self.page.goto(f"{self.url}#{fragment}")
        self.page.wait_for_selector("body[data-ready]")
        return self.page


@contextlib.contextmanager
def desk_of(browser, url, *, expected=REFUSED, **options):
    """Give the desk of an explorer with a page that `watched_page` opens."""
    with watched_page(browser, re.match(r"http://[^/]+/", url)[0], expected=expected, **options) as page:
        yield Desk(page, url)


def until(check, seconds=90.0):
    """Wait until a check holds, without the evaluation in the page that its policy forbids."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return value


def drawn(page, count=1):
    """Wait until some tiles show a picture."""
    until(lambda: page.locator(".tile:is([data-state=draft], [data-state=sharp]) img[src]").count() >= count)


def settled(page):
    """Wait until all pictures in view are drawn."""
    until(
        lambda: (
            page.locator("#status").get_attribute("data-on") == "false"
            and page.locator("#status-text").inner_text() == "All rendered"
        ),
        120,
    )


def photograph(folder):
    """Save a drawing of two motifs, wider than high."""
    labels = torch.tensor([MOTIFS.index("star"), MOTIFS.index("fish")])
    image = torch.cat(list(draw(labels, (64, 64), torch.Generator().manual_seed(1))), 2)
    file = Path(folder) / "photograph.png"
    Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file)
    return file


def serve(network, output, **more):
    """Start an explorer in this process."""
    return fv.explore(network, output=output, open_browser=False, **more)


SCRIPT = """
import secrets, sys
secrets.token_urlsafe = lambda size: "always-the-same-token"
import torch
torch.set_num_threads(1)
import featviz as fv
explorer = fv.explore(fv.load("motifnet", device="cpu"), output=sys.argv[1], port=int(sys.argv[2]), open_browser=False)
print(explorer.url, flush=True)
explorer.wait()
"""


class Process:
    """An explorer in a process of its own, which can be killed and started again at the same address."""

    def __init__(self, output):
        self.output, self.process, self.url = Path(output), None, None

    def start(self):
        port = re.search(r":(\d+)/", self.url)[1] if self.url else "0"
        command = [sys.executable, "-c", SCRIPT, str(self.output), port]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert self.url
        return self.url

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
        self.process = None
