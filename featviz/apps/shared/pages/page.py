"""Fill the HTML template of a page. Pages need only the files beside them and load nothing from a network."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import featviz as fv

APPS = Path(__file__).parents[2]
COMPRESSION = 6
"""Level of zlib for the data of a page. 9 takes three times as long and saves 1 %."""
MAX_SLUG = 200
"""Maximum length of a layer's name in a file name. File systems allow 255 bytes."""
CHARSET = '<meta charset="utf-8">'
"""The element of every page after which its policy is put: before anything to which the policy applies."""
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
"""Inline scripts and styles. The data of a page has a type and does not run."""


def render_template(template: str, data: Any, **names: Any) -> str:
    """Fill the template of a page, and forbid it to run any script but its own or to load anything but images.

    Args:
        template: Its file below `featviz/apps`, such as `"atlas/page.html"`. It extends `shared/pages/page.html`.
        data: What the script of the page reads, as JSON.
        names: Further variables of the template.

    Returns:
        The page. Everything but `data` is escaped as HTML text.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(APPS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(data=embed_json(data), version=fv.__version__, **names)
    return _with_policy(page)


def embed_json(data: Any) -> str:
    r"""Return data as JSON that can stand in a script element: only markup could end it, so no `<` is left.

    >>> embed_json("</script>")
    '"\\u003c/script>"'
    """
    return json.dumps(data).replace("<", "\\u003c")


def _with_policy(page: str) -> str:
    """Add a Content-Security-Policy that allows the scripts and styles that a page has now, by their hashes.

    Markup that gets into a page in spite of the escaping cannot run. Images may come from beside the page: browsers
    differ in whether `'self'` includes them on the disk, so `file:` is named too. `data:` allows images that the page
    itself holds.
    """
    found: dict[str, list[str]] = {"script": [], "style": []}
    for tag, text in INLINE.findall(page):
        found[tag].append(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'")
    allowed = "".join(f"; {tag}-src {' '.join(hashes)}" for tag, hashes in found.items())
    policy = f"default-src 'none'; img-src 'self' file: data:{allowed}; base-uri 'none'; form-action 'none'"
    return page.replace(CHARSET, f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">', 1)


def base64(data: bytes) -> str:
    """Return binary data as text in base 64."""
    return b64encode(data).decode()


def compress(data: bytes) -> str:
    """Return binary data, compressed by zlib, as text in base 64."""
    return base64(zlib.compress(data, COMPRESSION))
