"""Configuration of Sphinx. `make site` runs `docs/build_site.py`, which collects the pages and builds the site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import featviz as fv

project = "featviz"
copyright = "the featviz authors. MIT licence"  # noqa: A001  (Sphinx's name)
version = release = fv.__version__
root_doc = "docs/index"
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["docs/catalogue", "**/.ipynb_checkpoints"]

# Markdown and notebooks. Notebooks are run before the build, and no widget library is loaded from a server.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"

# Docstrings.
default_role = "py:obj"  # text between single backticks: a link where it is a public name, else code
add_module_names = False
autosummary_generate = False  # docs/build_site.py writes the pages
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 60
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Source", "Differs"]

# Pages. Everything is in the built folder: no fonts, scripts or styles from elsewhere.
html_theme = "furo"
pygments_style, pygments_dark_style = "friendly", "github-dark"
html_title = "featviz"
html_static_path = [str(Path(__file__).parent / "_static")]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_copy_source = False
html_show_sphinx = False
html_extra_path = [path for path in (os.environ.get("FEATVIZ_SITE_EXTRA", ""),) if path]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#7a3e9d", "color-brand-content": "#7a3e9d"},
    "dark_css_variables": {"color-brand-primary": "#d3a4ef", "color-brand-content": "#d3a4ef"},
}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = ">>> "

SECTION = re.compile(r"^(\s*)(Source|Differs|Returns|Raises): (\S.*)$")


def split_sections(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:  # noqa: ARG001
    """Put the text after `Source:` and `Differs:` on a line of its own, as napoleon needs it."""
    whole: list[str] = []
    for line in lines:
        found = SECTION.match(line)
        if found and found[2] in ("Source", "Differs"):
            if whole and whole[-1].strip():
                whole.append("")
            whole += [f"{found[1]}{found[2]}:", f"{found[1]}    {found[3]}"]
        else:
            whole.append(line)
    lines[:] = whole


def link_short_names(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Link `fv.render` in a docstring, as users write it, to `featviz.render`."""
    short = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not short.startswith("fv."):
        return None
    name = "featviz." + short.removeprefix("fv.").partition("(")[0]
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)


def collapse_navigation(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:  # noqa: ARG001
    """List the pages above and beside the current one in its sidebar, not all of the site, which takes 70 kB a page."""
    if "toctree" in context:
        whole = context["toctree"]
        context["toctree"] = lambda **options: whole(**options | {"collapse": True})


def setup(app: Any) -> None:
    """Connect the handlers."""
    app.connect("autodoc-process-docstring", split_sections, priority=100)  # before napoleon
    app.connect("missing-reference", link_short_names)
    app.connect("html-page-context", collapse_navigation, priority=400)  # before furo, which renders the sidebar
