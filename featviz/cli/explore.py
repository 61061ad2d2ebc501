"""`featviz explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import FullSize, NetworkOptions, expand_groups
from featviz.cli.parsing import read_size


@app.command(epilog=examples_of("explore"))
@expand_groups
def explore(
    *,
    photographs: Annotated[
        Path | None, typer.Option(help="Folder of images; those that activate a unit most are shown beside it.")
    ] = None,
    size: FullSize = None,
    port: Annotated[int, typer.Option(help="Port of the local server. Default: any free one.")] = 0,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only, and do not open it in the browser.")
    ] = False,
    network: NetworkOptions,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the images; may be that of a sweep. Default: a folder in the cache of featviz.",
        ),
    ] = None,
) -> None:
    """Explore a network in the browser, on a local page.

    Units are rendered as they come into view. Runs until Ctrl-C. Images are kept, so the next start shows them at
    once. The page can be opened on this machine only, by the address that is printed.
    """
    running = fv.explore(
        network.load(),
        photographs=photographs,
        output=output,
        size=read_size(size),
        port=port,
        open_browser=not no_browser,
    )
    typer.echo(running.url)
    try:
        running.wait()
    except KeyboardInterrupt:
        pass  # the usual way to end it
    finally:
        running.stop()
