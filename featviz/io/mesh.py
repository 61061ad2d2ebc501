"""Read and write triangle meshes with texture coordinates, and find the surface that a camera sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from featviz.errors import SettingError, first_line
from featviz.io.files import is_file

SHAPES = ("sphere", "torus", "capsule", "box")
"""Built-in meshes, by name."""
FORMATS = (".glb", ".obj", ".ply", ".stl", ".off")
"""Files that can be read."""
SECTIONS = 64
"""Number of faces around a built-in round mesh."""
FIELD_OF_VIEW = 30.0
"""Angle in degrees that a camera sees, along either side of the image."""
MAX_FACES = 200_000
"""Most triangles of a mesh. Finding texture coordinates for more takes minutes."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh whose texture coordinates tell which point of a texture each point of its surface shows.

    Args:
        vertices: Coordinates (x, y, z), y upwards, centred, within a sphere of radius 1.
        faces: Indices of the three vertices of each triangle.
        uv: Texture coordinates of each vertex, in [0, 1]: to the right and upwards in the texture.
    """

    vertices: Float[np.ndarray, "vertices 3"] = field(repr=False)
    faces: Int[np.ndarray, "faces 3"] = field(repr=False)
    uv: Float[np.ndarray, "vertices 2"] = field(repr=False)

    def surface(
        self, azimuth: float, elevation: float, side: int, zoom: float = 1.0
    ) -> tuple[Float[np.ndarray, "side side 2"], Float[np.ndarray, "side side"]]:
        """Find the texture coordinates of the surface that a camera sees at each pixel.

        The camera looks at the centre of the mesh, from where the sphere around the mesh just fits the image.

        Args:
            azimuth: Angle in degrees around the upward axis; 0 is in front of the mesh, 90 to its right.
            elevation: Angle in degrees above the horizon, in [-90, 90].
            side: Height and width of the image in px.
            zoom: Enlargement of the middle of the image, > 0.

        Returns:
            Texture coordinates, 0 where no surface is seen, and 1 where a surface is seen, 0 elsewhere.
        """
        origin, directions = _camera(azimuth, elevation, side, zoom)
        shape = _trimesh_of(self)
        seen, rays, triangles = shape.ray.intersects_location(
            np.broadcast_to(origin, directions.shape), directions, multiple_hits=False
        )
        weights = _barycentric(self.vertices[self.faces[triangles]], seen)
        uv, covered = np.zeros((side * side, 2), np.float32), np.zeros(side * side, np.float32)
        uv[rays] = (weights[..., None] * self.uv[self.faces[triangles]]).sum(1)
        covered[rays] = 1
        return uv.reshape(side, side, 2), covered.reshape(side, side)

    def encoded(self, texture: Float[Tensor, "3 h w"]) -> bytes:
        """Return the bytes of a .glb file of the mesh and a texture, which browsers and 3-D programs show.

        Args:
            texture: In [0, 1].
        """
        from PIL import Image

        trimesh = _trimesh()
        pixels = (texture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(pixels), metallicFactor=0.0, roughnessFactor=1.0
        )
        shape = _trimesh_of(self)
        shape.visual = trimesh.visual.TextureVisuals(uv=self.uv, material=material)
        found: bytes = shape.export(file_type="glb")
        return found


def read_mesh(source: Path | str) -> Mesh:
    """Read a mesh, and give it texture coordinates if it has none.

    Args:
        source: A file, or the name of a built-in mesh: `"sphere"`, `"torus"`, `"capsule"` or `"box"`.

    Raises:
        SettingError: There is no such mesh, it has no triangles or too many, or a package is missing.
    """
    parts = [_built_in(str(source))] if str(source) in SHAPES else _parts_of_file(Path(source))
    count = sum(len(each.faces) for each in parts)
    if not count:
        raise SettingError(f"{source} has no triangles; give a mesh with faces")
    if count > MAX_FACES:
        raise SettingError(f"{source} has {count} triangles, at most {MAX_FACES} are allowed; simplify the mesh")
    vertices = np.concatenate([np.asarray(each.vertices, np.float64) for each in parts])
    if not np.isfinite(vertices).all():
        raise SettingError(f"{source} has coordinates that are not finite")
    offsets = np.cumsum([0, *(len(each.vertices) for each in parts[:-1])])
    faces = np.concatenate([np.asarray(each.faces) + offset for each, offset in zip(parts, offsets, strict=True)])
    with np.errstate(over="ignore", invalid="ignore"):
        vertices = vertices - (vertices.min(0) + vertices.max(0)) / 2
        radius = float(np.linalg.norm(vertices, axis=1).max())
    if not radius > 0:
        raise SettingError(f"{source} has no extent: all of its vertices are the same point")
    if not radius < math.inf:
        raise SettingError(f"the coordinates of {source} are too large; scale the mesh to less than 1e150")
    vertices /= radius
    own = [uv for each in parts if (uv := _own_uv(each)) is not None]
    if len(own) == len(parts):
        return Mesh(vertices, faces, np.concatenate(own))
    # xatlas computes in single precision with absolute tolerances, so it gets vertices of a known size.
    shape = _trimesh().Trimesh(vertices, faces, process=False).unwrap()
    if not np.isfinite(shape.visual.uv).all():
        raise SettingError(f"{source} cannot be unwrapped: its triangles have no area; give texture coordinates")
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces), np.asarray(shape.visual.uv))


def _own_uv(shape: Any) -> Float[np.ndarray, "vertices 2"] | None:
    """Return the texture coordinates of a part of a mesh; `None` if it has none."""
    uv = getattr(shape.visual, "uv", None) if shape.visual.kind == "texture" else None
    return None if uv is None or not np.isfinite(uv).all() else np.asarray(uv)


def sampling_grid(uv: Float[np.ndarray, "... 2"]) -> Float[Tensor, "... 2"]:
    """Return texture coordinates as those of `torch.nn.functional.grid_sample`, in [-1, 1], downwards.

    A texture repeats outside of [0, 1], so that tiled and UDIM coordinates wrap. They must be interpolated before.
    """
    uv = np.where((uv >= 0) & (uv <= 1), uv, uv % 1)
    grid = torch.from_numpy(np.ascontiguousarray(uv, np.float32)) * 2 - 1
    return grid * torch.tensor([1.0, -1.0])


def _camera(azimuth: float, elevation: float, side: int, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of a camera, and the direction of each pixel, row by row."""
    around, above = math.radians(azimuth), math.radians(elevation)
    # The camera looks along -backward. At a distance of 1 / sin(half angle) the unit sphere fills the field of view.
    backward = np.array([math.sin(around) * math.cos(above), math.sin(above), math.cos(around) * math.cos(above)])
    right = np.array([math.cos(around), 0.0, -math.sin(around)])
    up = np.cross(backward, right)
    half = math.tan(math.radians(FIELD_OF_VIEW / 2)) / zoom
    steps = ((np.arange(side) + 0.5) / side * 2 - 1) * half
    directions = steps[None, :, None] * right - steps[:, None, None] * up - backward
    return backward / math.sin(math.radians(FIELD_OF_VIEW / 2)), directions.reshape(-1, 3)


def _barycentric(corners: Float[np.ndarray, "n 3 3"], points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Return the weights of the corners of triangles whose weighted sums are points in their planes."""
    trimesh = _trimesh()
    found: np.ndarray = trimesh.triangles.points_to_barycentric(corners, points, method="cross")
    return np.nan_to_num(found, nan=1 / 3)


def _trimesh_of(mesh: Mesh) -> Any:
    return _trimesh().Trimesh(mesh.vertices, mesh.faces, process=False)


def _built_in(name: str) -> Any:
    """Return a built-in mesh. Round ones have texture coordinates without a seam inside of the texture."""
    if name == "box":
        return _trimesh().creation.box(extents=(1, 1, 1))
    angle = np.linspace(-math.pi / 2, math.pi / 2, SECTIONS // 2 + 1)
    if name == "torus":
        angle = np.linspace(-math.pi, math.pi, SECTIONS + 1)
        return _revolve(0.68 + 0.32 * np.cos(angle), 0.32 * np.sin(angle))
    rises = np.sin(angle) + np.where(angle < 0, -1.0, 1.0) * (1.0 if name == "capsule" else 0.0)
    return _revolve(np.cos(angle), rises)


def _revolve(radius: Float[np.ndarray, " n"], height: Float[np.ndarray, " n"]) -> Any:
    """Return the surface that a curve sweeps around the upward axis.

    The texture goes once around the axis from left to right, and along the curve, by its length, from bottom to top.
    """
    trimesh = _trimesh()
    around = np.linspace(0, 2 * math.pi, SECTIONS + 1)
    along = np.concatenate([[0.0], np.hypot(np.diff(radius), np.diff(height)).cumsum()])
    a, r = np.meshgrid(around, radius)
    vertices = np.stack([r * np.sin(a), np.broadcast_to(height[:, None], r.shape), r * np.cos(a)], -1).reshape(-1, 3)
    u, v = np.meshgrid(around / (2 * math.pi), along / along[-1])
    index = np.arange(len(vertices)).reshape(r.shape)
    corner, right, up, across = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate(
        [np.stack(each, -1).reshape(-1, 3) for each in ((corner, right, across), (corner, across, up))]
    )
    visual = trimesh.visual.TextureVisuals(uv=np.stack([u, v], -1).reshape(-1, 2))
    return trimesh.Trimesh(vertices, faces, visual=visual, process=False)


def _parts_of_file(path: Path) -> list[Any]:
    """Read the parts of a mesh file, one per material.

    They are not joined by trimesh, which would pack the texture coordinates of several materials into another texture.

    Raises:
        SettingError: The file is no mesh that can be read.
    """
    wanted = f"give a {', '.join(FORMATS)} file, or {', '.join(SHAPES)}"
    if not is_file(path):
        raise SettingError(f"there is no mesh {str(path)!r}; {wanted}")
    if path.suffix.lower() not in FORMATS:
        raise SettingError(f"{path} is no mesh that can be read; {wanted}")
    trimesh = _trimesh()
    try:
        parts = trimesh.load_scene(path, process=False).dump()
        return [each for each in parts if isinstance(each, trimesh.Trimesh)]
    except MemoryError:
        raise
    except Exception as error:  # readers of foreign files raise errors of any kind
        reason = first_line(error)
        raise SettingError(f"cannot read the mesh {path}: {reason}") from error


def _trimesh() -> Any:
    """Import the package that reads meshes.

    Raises:
        SettingError: trimesh is not installed.
    """
    if any(find_spec(package) is None for package in ("trimesh", "embreex", "xatlas")):
        raise SettingError("meshes need trimesh, embreex and xatlas; run: pip install 'featviz[mesh]'")
    import trimesh

    return trimesh
