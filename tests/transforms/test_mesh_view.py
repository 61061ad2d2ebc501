"""The image as the texture of a mesh."""

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import transforms as T
from featviz.io.mesh import read_mesh, sampling_grid
from featviz.random import Generators

for package in ("trimesh", "embreex", "xatlas"):
    pytest.importorskip(package)

VIEW = T.MeshView("box", size=32, views=6)


def test_views_show_the_texture_on_the_mesh():
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    draw = VIEW.draw(Generators([3, 4]), (3, 40, 40))
    found = VIEW.apply(images, draw)
    assert found.shape == (2, 3, 32, 32)
    for image, index, view in zip(images, draw[0].tolist(), found, strict=True):
        uv, covered = read_mesh("box").surface(*VIEW.directions()[index], 32)
        for row, column in ((16, 16), (12, 20), (20, 11)):
            assert covered[row, column] == 1
            grid = sampling_grid(uv[row, column])[None, None, None]
            expected = torch.nn.functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
            torch.testing.assert_close(view[:, row, column], expected[0, :, 0, 0], atol=2e-3, rtol=0)


def test_directions_surround_the_mesh_within_the_elevation():
    directions = T.MeshView("box", views=40, elevation=25).directions()
    assert len(directions) == 40
    assert max(abs(above) for _, above in directions) <= 25
    quarters = [sum(90 * i <= around < 90 * (i + 1) for around, _ in directions) for i in range(4)]
    assert min(quarters) >= 8


def test_every_part_of_a_texture_that_is_seen_gets_a_gradient():
    images = torch.full((1, 3, 24, 24), 0.5, requires_grad=True)
    total = 0
    for index in range(6):
        draw = VIEW.draw(Generators([0]), (3, 24, 24))
        total = total + VIEW.apply(images, (torch.tensor([index]), draw[1])).sum()
    total.backward()
    assert (images.grad != 0).float().mean() > 0.3


def test_the_recipe_remembers_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "box.glb").write_bytes(read_mesh("box").encoded(torch.zeros(3, 8, 8)))
    rendering = fv.render(toys.plain(), "conv2:1", size=32, transforms=T.MeshView("box.glb", 32, 2), steps=1)
    assert list(rendering.recipe.files) == ["box.glb"]
    rendering.save("texture.png")
    assert torch.equal(fv.replay("texture.png", network=toys.plain()).images, rendering.images)
    (tmp_path / "box.glb").write_bytes(read_mesh("capsule").encoded(torch.zeros(3, 8, 8)))
    with pytest.raises(fv.RecipeError, match=r"box\.glb, which is missing or has changed"):
        fv.replay("texture.png", network=toys.plain())


BAD = [
    (
        lambda: T.MeshView("box", size=4),
        "size of MeshView must be a whole number in [8, 1024], got 4 (px, default 224)",
    ),
    (lambda: T.MeshView("box", views=0), "views of MeshView must be a whole number in [1, 4096], got 0 (default 64)"),
    (lambda: T.MeshView("box", elevation=91), "elevation of MeshView must be in [0, 90], got 91 (degrees, default 30)"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_settings_are_named(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_textures_repeat_outside_of_the_unit_square(tmp_path):
    square = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
    for low, high in ((0, 1), (1, 2), (-1, 0), (0.5, 1.5)):
        texture = "".join(f"vt {u} {v}\n" for u, v in ((low, 0), (high, 0), (high, 1), (low, 1)))
        (tmp_path / "a.obj").write_text(square + texture + "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n")
        mesh = read_mesh(str(tmp_path / "a.obj"))
        assert np.allclose(sorted({*mesh.uv[:, 0].tolist()}), [low, high])
        inside = sampling_grid(np.array([[low + 0.25, 0.5]]))
        assert torch.allclose(inside, sampling_grid(np.array([[(low + 0.25) % 1, 0.5]])))
    assert sampling_grid(np.array([[1.0, 0.0]])).tolist() == [[1.0, 1.0]]
