"""Write the pages of the command-line reference: one page per command, from the command line itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

INTRODUCTION = """# Command line

Written from the commands' own help, which `featviz COMMAND --help` prints. Bad input gives one line and exit status 2;
Ctrl-C keeps what there is and gives 130. Image commands accept `.png`, `.jpg` and `.webp`.

| command | what it does |
|---|---|
{rows}

```{{toctree}}
:hidden:

{pages}
```
"""


def write_pages(folder: Path) -> list[str]:
    """Write a page per command into a folder, and a list of them.

    Args:
        folder: Where; it is created.

    Returns:
        The names of the commands.
    """
    import typer

    from featviz.cli import app

    folder.mkdir(parents=True, exist_ok=True)
    group: Any = typer.main.get_command(app)
    context = typer.Context(group, info_name="featviz")
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    first = {name: (command.help or "").partition("\n\n")[0] for name, command in commands.items()}
    rows = "\n".join(f"| [`featviz {name}`]({name}.md) | {_escaped(text)} |" for name, text in first.items())
    pages = {name: _page(name, command, context) for name, command in commands.items()}
    pages["index"] = INTRODUCTION.format(rows=rows, pages="\n".join(commands))
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)
    return list(commands)


def _page(name: str, command: Any, context: Any) -> str:
    """Return the page of one command."""
    from featviz.cli import EXAMPLES

    own = type(context)(command, info_name=name, parent=context)
    usage = command.get_usage(own).removeprefix("Usage: ")
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    parts = [f"# featviz {name}", _escaped(command.help or ""), f"```text\n{usage}\n```"]
    lines = [line.strip() for line in EXAMPLES.splitlines() if line.startswith(f"  featviz {name} ")]
    if lines:
        shown = "\n".join("  # ".join(re.split(r"\s{3,}", line, maxsplit=1)) for line in lines)
        parts += ["## Examples", f"```sh\n{shown}\n```"]
    if arguments:
        parts += ["## Arguments", *("`{}`\n: {}".format(*_record(each, own)) for each in arguments)]
    parts += ["## Options", f"```{{program}} featviz {name}\n```"]
    parts += [":::{{option}} {}\n{}\n:::".format(*_record(each, own)) for each in options]
    return "\n\n".join(parts) + "\n"


def _record(parameter: Any, context: Any) -> tuple[str, str]:
    """Return the names and kind of a parameter, and its help with its default, as Markdown."""
    names, about = parameter.get_help_record(context)
    text, _, default = about.removesuffix("]").partition("  [")
    default = default.strip()
    if default.startswith("default: "):
        default = f"Default: `{default.removeprefix('default: ')}`."
    elif default:
        default = f"{default[0].upper()}{default[1:]}."
    return names, " ".join(filter(None, [_escaped(text), default])) or "\\"


def _escaped(text: str) -> str:
    """Return plain text as Markdown."""
    return re.sub(r"([\\`*_<>|\[\]#])", r"\\\1", text)
