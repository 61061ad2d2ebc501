"""Fill the HTML template of a page. Pages need only the files beside them and load nothing from a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import featviz as fv

APPS = Path(__file__).parents[1]
MAX_SLUG = 200
"""Maximum length of a layer's name in a file name. File systems allow 255 bytes."""


def render_template(template: str, data: Any, **names: Any) -> str:
    """Fill the template of a page.

    Args:
        template: Its file below `featviz/apps`, such as `"atlas/page.html"`. It extends `shared/page.html`.
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
    # Inside of a script element only markup could end the data, so no "<" is left in it.
    safe = json.dumps(data).replace("<", "\\u003c")
    return environment.get_template(template).render(data=safe, version=fv.__version__, **names)


def counted(count: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    >>> counted(2, "layer")
    '2 layers'
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
