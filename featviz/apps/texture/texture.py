"""Render the texture of a mesh, so that the mesh shows an objective from every side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.shared.pages.input_pictures import encode_webp
from featviz.apps.shared.pages.page import base64, render_template
from featviz.checks import check_number
from featviz.engine import entry_point
from featviz.interfaces import ProgressSource, Transforms
from featviz.io import Store, auto_bar
from featviz.io.mesh import Mesh, sampling_grid
from featviz.objectives import ObjectiveSource
from featviz.transforms import ColorShift, LogUniform, MeshView, Resize, Rotate, Scale, Shift

CLOSE: Transforms = (Shift(0.15), Rotate(15), Scale(LogUniform(1, 3)), Resize(0.57, min_side=112), ColorShift(0.3))
"""The default transforms with a larger scale, since a mesh does not fill the view."""
TURN_FRAMES, TURN_TILT = 36, 15.0
"""Number of frames of a turn, and the elevation of its camera in degrees."""
FRAME_SIDE, FRAME_COLUMNS = 256, 6
"""Side of a frame in px, and frames per row of the sheet that the page holds."""
SMOOTHING = 2
"""Samples per px along each axis, which are averaged against aliasing."""


@dataclass(frozen=True, eq=False)
class Textured:
    """A mesh and the texture that was rendered for it.

    Args:
        mesh: The mesh.
        rendering: The texture as its image, with its recipe.
    """

    mesh: Mesh
    rendering: fv.Rendering

    @property
    def texture(self) -> Float[Tensor, "c h w"]:
        """The texture, in [0, 1]."""
        return self.rendering.images[0]

    def view(
        self,
        azimuth: float = 0.0,
        elevation: float = 0.0,
        side: int = FRAME_SIDE,
        *,
        zoom: float = 1.0,
        background: float = 0.5,
    ) -> Float[Tensor, "c side side"]:
        """Show the mesh from a direction.

        Args:
            azimuth: Angle in degrees around the upward axis; 0 is in front of the mesh, 90 to its right.
            elevation: Angle in degrees above the horizon, in [-90, 90].
            side: Height and width of the image in px, in [8, 2048].
            zoom: Enlargement of the middle of the image, > 0.
            background: Grey value around the mesh, in [0, 1].

        Returns:
            The image, in [0, 1].

        Raises:
            SettingError: A value is out of its range.
        """
        check_number("azimuth", azimuth, note="(degrees)")
        check_number("elevation", elevation, at_least=-90, at_most=90, note="(degrees)")
        check_number("side", side, at_least=8, at_most=2048, whole=True, note="(px)")
        check_number("zoom", zoom, above=0)
        check_number("background", background, at_least=0, at_most=1)
        uv, covered = self.mesh.surface(azimuth, elevation, SMOOTHING * side, zoom)
        shown = F.grid_sample(
            self.texture[None].float(), sampling_grid(uv)[None], padding_mode="border", align_corners=False
        )
        picture = torch.lerp(torch.full_like(shown, background), shown, torch.from_numpy(covered)[None, None])
        return F.avg_pool2d(picture, SMOOTHING)[0].clamp(0, 1)

    def save(self, folder: str | Path) -> Path:
        """Write the mesh, its texture and a page that turns it.

        Args:
            folder: Gets `mesh.glb`, `texture.png` with the recipe, and `index.html`, which needs no other file.

        Returns:
            The page.

        Raises:
            OutputError: A file cannot be written.
        """
        store = Store(folder)
        store.write("texture.png", self.rendering.encoded())
        store.write("mesh.glb", self.mesh.encoded(self.texture.expand(3, -1, -1)))
        store.write("index.html", self._page())
        return Path(folder) / "index.html"

    def _page(self) -> str:
        """Return the page that turns the mesh."""
        turn = [self.view(360 * i / TURN_FRAMES, TURN_TILT) for i in range(TURN_FRAMES)]
        rows = [torch.cat(turn[i : i + FRAME_COLUMNS], 2) for i in range(0, TURN_FRAMES, FRAME_COLUMNS)]
        sheet = f"data:image/webp;base64,{base64(encode_webp(torch.cat(rows, 1)))}"
        recipe = self.rendering.recipe
        data = {"sheet": sheet, "frames": TURN_FRAMES, "columns": FRAME_COLUMNS}
        about = f"{recipe.model or 'a network'}, {recipe.steps} steps"
        return render_template("texture/page.html", data, title=f"{self.rendering.names[0]} on a mesh", about=about)


@entry_point
def texture(
    network: fv.Network,
    mesh: str | Path,
    objective: ObjectiveSource,
    *,
    size: int = 512,
    view: int = 224,
    views: int = 64,
    elevation: float = 30.0,
    quality: str = "usual",
    steps: int | None = None,
    seed: int = 0,
    execution: fv.Execution = fv.Execution(),
    progress: ProgressSource | None = auto_bar,
) -> Textured:
    """Render the texture of a mesh, so that the mesh shows an objective from every side.

    In each step the mesh is drawn from a random direction and distance, in changing colours.

    Args:
        network: From `fv.load`, or `fv.Network(module, ...)` around your own module.
        mesh: A `.glb`, `.obj`, `.ply`, `.stl` or `.off` file, or `"sphere"`, `"torus"`, `"capsule"` or `"box"`.
        objective: As for `fv.render`: text such as `"logit:spiral"`, or an objective.
        size: Height and width of the texture in px, >= 16.
        view: Height and width in px of an image of the mesh, before the other transforms, in [8, 1024].
        views: Number of directions, in [1, 4096].
        elevation: Largest angle in degrees of a camera above or below the horizon, in [0, 90].
        quality: `"draft"`, `"usual"` or `"best"`, as for `fv.render`.
        steps: Number of steps, >= 0; `None` for those of `quality`.
        seed: Seed of the start, the directions and the transforms.
        execution: How the network is run.
        progress: As for `fv.render`.

    Returns:
        The mesh and its texture.

    Raises:
        SettingError: An argument is out of its range, the mesh cannot be read, a package is missing, or the network
            expects neither 1 nor 3 channels.
        AddressError: The network has no such layer, channel, position or class.
        RenderError: No image receives a gradient, every score became NaN, or memory ran out.

    Source: Mordvintsev et al. 2018, https://doi.org/10.23915/distill.00012.
    """
    check_number("size", size, at_least=16, whole=True, note="(px, default 512)")
    if network.channels not in (1, 3):
        raise fv.SettingError(
            f"a texture has 1 or 3 channels, and {network.label} expects {network.channels}; give a network that reads "
            "grey images or colours"
        )
    seen = MeshView(str(mesh), view, views, elevation)
    rendering = fv.render(
        network, objective, size=size, transforms=(seen, *CLOSE), quality=quality, steps=steps, seed=seed,
        robustness_views=0, execution=execution, progress=progress,
    )  # fmt: skip
    return Textured(seen.geometry, rendering)
