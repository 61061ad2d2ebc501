"""`featviz embeddings`: nearest neighbours, analogies and maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import exit_if_stopped
from featviz.cli.options import NetworkOptions, Quiet, StepsOptions, expand_groups, first_given, progress

if TYPE_CHECKING:
    from featviz.apps.embeddings.embeddings import Embeddings


@app.command(epilog=examples_of("embeddings"))
@expand_groups
def embeddings(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE QUERY",
            help="SOURCE: a text file of word vectors, or a folder of images; leave it out for a --model that reads "
            'text. QUERY: names, or sums of them such as "king - man + woman"; also image files outside of the folder.',
        ),
    ] = None,
    *,
    layer: Annotated[
        str | None, typer.Option(help="Layer whose activations embed images. Default: the last one with positions.")
    ] = None,
    count: Annotated[int, typer.Option(help="Number of nearest neighbours of each query.")] = 10,
    limit: Annotated[int | None, typer.Option(help="Number of names to read. Default: all.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Projection of the map: umap, tsne or pca. Default: umap where it is installed, else pca."),
    ] = None,
    render: Annotated[
        Path | None, typer.Option(help="Image file in which the first query is rendered; for folders of images.")
    ] = None,
    optimisation: StepsOptions,
    network: NetworkOptions,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .html file for a map of all names. Default: no map.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Find similar words or images, and draw maps of them.

    Each query is answered by its nearest neighbours by cosine similarity.
    """
    from featviz.io import check_output, check_outside, is_file, is_folder

    given = words or []
    source = Path(given[0]) if given and (is_file(given[0]) or is_folder(given[0])) else None
    queries = given if source is None else given[1:]
    if output is not None:
        check_output(output, ".html")
    if render is not None:
        if source is None or not is_folder(source) or not queries:
            raise fv.SettingError("--render needs a folder of images and a query, such as a.png")
        check_outside(render, source)
        check_output(render)
    if method is not None and output is None:
        raise fv.SettingError("--method is about the map; give -o map.html as well")
    if optimisation != StepsOptions() and render is None:
        raise fv.SettingError(f"{first_given(optimisation)} is about the image of --render; give that as well")
    if not queries and output is None:
        raise fv.SettingError("there is nothing to do; give a name to look up, or -o map.html")
    settings = optimisation.settings
    found = _load(source, given, network, layer, limit, quiet)
    for file, reason in found.skipped.items():
        typer.echo(f"featviz: skipped {file}: {reason}", err=True)
    for query in queries:
        typer.echo(found.nearest(query, count))
    if output is not None:
        typer.echo(found.map(output, method=method, progress=progress(quiet, "map", "photograph")))
    if render is not None and found.network is not None:
        bar = progress(quiet, "render")
        rendering = fv.render(found.network, found.objective(queries[0]), progress=bar, **settings)
        typer.echo("\n".join(map(str, rendering.save(render))))
        exit_if_stopped(rendering)


def _load(
    source: Path | None, given: list[str], network: NetworkOptions, layer: str | None, limit: int | None, quiet: bool
) -> Embeddings:
    """Load the embeddings of a file, a folder or a network.

    Raises:
        SettingError: The options do not fit the source.
        OutputError: There is no such file or folder, and the network reads no text.
    """
    if source is not None and not source.is_dir():
        if layer is not None or network != NetworkOptions():
            raise fv.SettingError(f"{source} is no folder, and --layer and --model need a folder of images")
        return fv.embeddings(source, limit=limit, progress=progress(quiet, "embeddings", "byte"))
    loaded = network.load()
    if source is None and loaded.tokens is None:
        missing = f"no file or folder {given[0]}; " if given else ""
        raise fv.OutputError(
            f"{missing}give a text file of word vectors, a folder of images, or a --model that reads text"
        )
    bar = progress(quiet, "embeddings", "photograph")
    return fv.embeddings(loaded, photographs=source, layer=layer, limit=limit, progress=bar)
