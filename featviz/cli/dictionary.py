"""`featviz dictionary`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.options import NetworkOptions, Photographs, Quiet, expand_groups, progress


@app.command(epilog=examples_of("dictionary"))
@expand_groups
def dictionary(
    photographs: Photographs,
    *,
    layer: Annotated[str, typer.Option(help="Layer whose activations are explained.")],
    features: Annotated[int, typer.Option(help="Number of features.")] = 256,
    kind: Annotated[
        str,
        typer.Option(
            help="topk (sparse autoencoder), archetypal (features differ less between seeds), nmf, pca or kmeans."
        ),
    ] = "topk",
    k: Annotated[
        int | None,
        typer.Option(
            help="Number of active features at a position, of topk and archetypal. Default: one sixteenth of all, at "
            "least 8."
        ),
    ] = None,
    per_image: Annotated[int, typer.Option(help="Random positions of each image whose activations are used.")] = 64,
    steps: Annotated[
        int, typer.Option(help="Training steps of topk and archetypal, with 1024 activations each.")
    ] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the positions, the first features and the batches.")] = 0,
    compare_seeds: Annotated[
        bool, typer.Option(help="Fit a second time with the next seed, and measure how alike the features are.")
    ] = True,
    network: NetworkOptions,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write; ends in .safetensors. Default: PHOTOGRAPHS-LAYER, never overwritten."
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fit a dictionary of features to the activations of a layer.

    Use the file with --dictionary FILE: its features are LAYER~0, LAYER~1 and so on. Run the same command again to
    continue after Ctrl-C.
    """
    from featviz.io import check_output, free_path, slug

    path = output or free_path(Path(f"{slug(photographs.resolve().name)}-{slug(layer)}.safetensors"))
    check_output(path, ".safetensors")
    made = fv.fit_dictionary(
        network.load(),
        photographs,
        layer,
        features=features,
        kind=kind,
        k=k,
        per_image=per_image,
        steps=steps,
        seed=seed,
        compare_seeds=compare_seeds,
        scan_progress=progress(quiet, "photographs", "photograph"),
        progress=progress(quiet, "dictionary", "step"),
    )
    facts = made.facts
    text = f"explains {100 * facts['explained_variance']:.0f} % of the variance with {facts['l0']:.1f} active features"
    typer.echo(f"{made.features} features; {text} at a position; {100 * facts['dead']:.0f} % are never active")
    if "stability" in facts:
        typer.echo(f"cosine to the features of seed {seed + 1}: {facts['stability']:.2f} (1 is the same)")
    typer.echo(made.save(path))
