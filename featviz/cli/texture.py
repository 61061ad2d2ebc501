"""`featviz texture`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import featviz as fv
from featviz.cli.command import app, examples_of
from featviz.cli.files import exit_if_stopped
from featviz.cli.options import NetworkOptions, Quiet, StepsOptions, expand_groups, progress


@app.command(epilog=examples_of("texture"))
@expand_groups
def texture(
    mesh: Annotated[
        str, typer.Argument(help="A .glb, .obj, .ply, .stl or .off file, or sphere, torus, capsule or box.")
    ],
    objective: Annotated[str, typer.Argument(help='Such as logit:spiral, stage2:5 or "stage2:5 - tv".')],
    *,
    size: Annotated[int, typer.Option(help="Height and width of the texture in px.")] = 512,
    view: Annotated[int, typer.Option(help="Height and width in px of an image of the mesh.")] = 224,
    views: Annotated[int, typer.Option(help="Number of directions from which the mesh is drawn.")] = 64,
    elevation: Annotated[float, typer.Option(help="Largest angle in degrees above or below the horizon.")] = 30.0,
    optimisation: StepsOptions,
    seed: Annotated[int, typer.Option(help="Seed of the start, the directions and the transforms.")] = 0,
    network: NetworkOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the page. Default: a name made from mesh and objective."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Render a texture of a mesh whose views maximise an objective.

    Writes the mesh as mesh.glb, the texture, and a page that turns the mesh.
    """
    from featviz.io import free_path, new_store, slug

    fv.objectives.parse(objective)
    folder = output or free_path(Path(slug(f"{Path(mesh).stem}-{objective}")))
    fv.transforms.MeshView(mesh, view, views, elevation)
    loaded = network.load()
    with new_store(folder):
        found = fv.texture(
            loaded,
            mesh,
            objective,
            size=size,
            view=view,
            views=views,
            elevation=elevation,
            progress=progress(quiet, "texture"),
            seed=seed,
            **optimisation.settings,
        )
    typer.echo(found.save(folder))
    exit_if_stopped(found.rendering)
