"""Meshes: reading, texture coordinates, and what a camera sees."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

import featviz as fv
from featviz.io.mesh import FIELD_OF_VIEW, SHAPES, Mesh, read_mesh, sampling_grid

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")
pytest.importorskip("xatlas")

SQUARE = Mesh(
    np.array([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]]),
    np.array([[0, 1, 2], [0, 2, 3]]),
    np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]),
)
"""A square in front of the camera that shows a whole texture."""


@pytest.mark.parametrize("name", SHAPES)
def test_built_in_meshes_fit_a_sphere_and_have_texture_coordinates(name):
    mesh = read_mesh(name)
    assert np.linalg.norm(mesh.vertices, axis=1).max() == pytest.approx(1)
    assert mesh.uv.shape == (len(mesh.vertices), 2)
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    first, second, third = (mesh.uv[mesh.faces[:, i]] for i in range(3))
    (ax, ay), (bx, by) = (second - first).T, (third - first).T
    area = np.abs(ax * by - ay * bx).sum() / 2
    assert 0.3 < area <= 1  # most of the texture is used, and no part twice


def test_the_camera_sees_each_point_where_geometry_puts_it():
    side = 33
    uv, covered = SQUARE.surface(0, 0, side)
    distance, half = 1 / math.sin(math.radians(FIELD_OF_VIEW / 2)), math.tan(math.radians(FIELD_OF_VIEW / 2))
    for row in range(side):
        for column in range(side):
            x = ((column + 0.5) / side * 2 - 1) * half * distance
            y = -((row + 0.5) / side * 2 - 1) * half * distance
            inside = abs(x) < 0.5 and abs(y) < 0.5
            assert covered[row, column] == inside
            if inside:
                np.testing.assert_allclose(uv[row, column], (x + 0.5, y + 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "axis"), [(90, 0, (1, 0, 0)), (0, 90, (0, 1, 0)), (180, 0, (0, 0, -1))]
)
def test_cameras_stand_where_their_angles_say(azimuth, elevation, axis):
    """A small triangle that faces an axis is seen from there, and a ball behind it is hidden in the middle."""
    normal = np.array(axis, float)
    side = np.array([normal[1] + normal[2], normal[0], 0.0])
    other = np.cross(normal, side)
    corners = 0.5 * normal + 0.1 * np.array([side, other, -side - other])
    far = -0.5 * normal + 0.1 * np.array([side, other, -side - other])
    vertices, faces = np.concatenate([corners, far]), np.array([[0, 1, 2], [3, 4, 5]])
    mesh = Mesh(vertices, faces, np.repeat([[0.2, 0.2], [0.8, 0.8]], 3, axis=0))
    uv, covered = mesh.surface(azimuth, elevation, 41)
    assert covered[20, 20] == 1
    np.testing.assert_allclose(uv[20, 20], (0.2, 0.2), atol=1e-5)


def test_the_top_of_a_texture_is_shown_at_the_top():
    texture = torch.zeros(1, 3, 8, 8)
    texture[:, 0, :4] = 1  # the upper half is red
    uv, covered = SQUARE.surface(0, 0, 32)
    shown = torch.nn.functional.grid_sample(texture, sampling_grid(uv)[None], align_corners=False)[0, 0]
    rows = torch.from_numpy(covered).bool().any(1).nonzero()[:, 0]
    assert shown[rows[0] + 1, 16] == 1
    assert shown[rows[-1] - 1, 16] == 0


@pytest.mark.parametrize("ending", [".glb", ".obj"])
def test_a_saved_mesh_is_read_with_its_texture_coordinates(ending, tmp_path):
    mesh = read_mesh("box")
    file = tmp_path / f"box{ending}"
    if ending == ".glb":
        file.write_bytes(mesh.encoded(torch.rand(3, 16, 16)))
    else:
        shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        shape.visual = trimesh.visual.TextureVisuals(uv=mesh.uv)
        shape.export(file)
    again = read_mesh(file)
    for azimuth in (20, 200):
        (uv, covered), (uv_again, covered_again) = mesh.surface(azimuth, 10, 48), again.surface(azimuth, 10, 48)
        both = (covered * covered_again) > 0
        assert both.mean() > 0.95 * covered.mean()
        assert np.median(np.abs(uv - uv_again)[both]) < 1e-4


WANTED = "give a .glb, .obj, .ply, .stl, .off file, or sphere, torus, capsule, box"
BAD = {
    "missing.glb": f"there is no mesh 'missing.glb'; {WANTED}",
    "note.txt": f"note.txt is no mesh that can be read; {WANTED}",
    "empty.obj": "empty.obj has no triangles; give a mesh with faces",
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_no_meshes_are_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / "empty.obj").write_text("v 0 0 0\nv 1 0 0\n")
    with pytest.raises(fv.SettingError) as caught:
        read_mesh(name)
    assert str(caught.value) == BAD[name]


@pytest.mark.parametrize("name", ["x.glb", "x.obj", "x.ply", "x.stl", "x.off"])
def test_damaged_files_are_refused(name, tmp_path):
    for content in (b"", b"\x00\xff" * 50, b"ply\nformat ascii 1.0\nelement vertex 3\n", b"f 1 2 3\n", b"OFF\n9 9 9\n"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(fv.SettingError, match=name):
            read_mesh(tmp_path / name)


TWO_MATERIALS = """mtllib two.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 2 0 0
v 3 0 0
v 3 1 0
v 2 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl a
f 1/1 2/2 3/3 4/4
usemtl b
{second}
"""


@pytest.mark.parametrize("texture", ["", "map_Kd small.png"], ids=["colours", "textures"])
def test_parts_of_other_materials_keep_their_texture_coordinates(texture, tmp_path):
    (tmp_path / "two.obj").write_text(TWO_MATERIALS.format(second="f 5/1 6/2 7/3 8/4"))
    (tmp_path / "two.mtl").write_text(f"newmtl a\nKd 1 0 0\n{texture}\nnewmtl b\nKd 0 0 1\n{texture}\n")
    Image.new("RGB", (8, 16)).save(tmp_path / "small.png")
    mesh = read_mesh(tmp_path / "two.obj")
    assert len(mesh.faces) == 4
    for face in mesh.faces:
        assert texture_area(mesh.uv[face]) == pytest.approx(0.5)


def test_a_mesh_with_texture_coordinates_in_some_parts_only_is_unwrapped_whole(tmp_path):
    (tmp_path / "two.obj").write_text(TWO_MATERIALS.format(second="f 5 6 7 8"))
    (tmp_path / "two.mtl").write_text("newmtl a\nKd 1 0 0\nnewmtl b\nKd 0 0 1\n")
    mesh = read_mesh(tmp_path / "two.obj")
    assert min(texture_area(mesh.uv[face]) for face in mesh.faces) > 0.1


@pytest.mark.parametrize(("scale", "offset"), [(1e-4, 0.0), (1.0, 1e5), (1e11, 0.0)])
def test_meshes_of_any_size_and_place_are_unwrapped(scale, offset, tmp_path):
    shape = trimesh.creation.icosphere(subdivisions=1)
    shape.apply_scale(scale)
    shape.apply_translation([offset] * 3)
    (tmp_path / "ball.obj").write_text(trimesh.exchange.obj.export_obj(shape, include_normals=False, digits=12))
    mesh = read_mesh(tmp_path / "ball.obj")
    assert min(texture_area(mesh.uv[face]) for face in mesh.faces) > 1e-4


def texture_area(corners):
    """Return the area of a triangle in the texture."""
    (a, b), (c, d) = corners[1] - corners[0], corners[2] - corners[0]
    return abs(a * d - b * c) / 2


def test_coordinates_that_are_too_large_are_refused_in_one_line(tmp_path):
    (tmp_path / "large.obj").write_text("v 0 0 0\nv 1e308 0 0\nv 0 1e308 0\nf 1 2 3\n")
    with pytest.raises(fv.SettingError, match="large.obj are too large; scale the mesh to less than 1e150"):
        read_mesh(tmp_path / "large.obj")


def test_triangles_without_area_cannot_be_unwrapped(tmp_path):
    (tmp_path / "line.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    with pytest.raises(fv.SettingError) as caught:
        read_mesh(tmp_path / "line.obj")
    assert str(caught.value) == (
        f"{tmp_path / 'line.obj'} cannot be unwrapped: its triangles have no area; give texture coordinates"
    )
