"""The cosine to a vector: its score, and the files from which the vector is read."""

import math
import re

import numpy as np
import pytest
import torch
import toys
from sample import ACTS, MAP, TOKENS, H, N, W, assert_scores

import featviz as fv
from featviz import objectives as obj

VECTOR = [0.5, -1.0, 2.0, 0.25]


def cosine(values, vector=VECTOR):
    dot = sum(value * weight for value, weight in zip(values, vector, strict=True))
    return dot / math.sqrt(sum(v * v for v in values)) / math.sqrt(sum(v * v for v in vector))


def test_cosine():
    expected = [sum(cosine(MAP[i, :, y, x].tolist()) for y in range(H) for x in range(W)) / (H * W) for i in range(N)]
    assert_scores(obj.Cosine("map", VECTOR)(ACTS), expected)
    assert_scores(
        obj.Cosine("tokens", VECTOR)(ACTS), [sum(cosine(t) for t in TOKENS[i].tolist()) / 7 for i in range(N)]
    )
    assert_scores(obj.Cosine("vector", VECTOR)(ACTS), [cosine(MAP[i, :, 0, 0].tolist()) for i in range(N)])


def files(folder):
    """Write the same vectors in each format; return the files and the vector of each feature."""
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    np.save(folder / "one.npy", rows[0].numpy())
    np.savez(folder / "probe.npz", coef_=rows.numpy())
    torch.save({"cav": rows}, folder / "probe.pt")
    atoms = fv.Dictionary(kind="relu", encoder=torch.ones(3, 8), decoder=rows)
    atoms.save(folder / "atoms.safetensors")
    return [("one.npy", 0), ("probe.npz", 2), ("probe.pt", 1), ("atoms.safetensors", 2)], rows


def test_a_file_gives_the_score_of_its_vector(tmp_path):
    net, images = toys.plain(), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found, rows = files(tmp_path)
    for name, feature in found:
        text = f"cosine(conv2, '{tmp_path / name}', {feature})"
        expected = fv.score(net, obj.Cosine("conv2", rows[feature]), images)
        assert torch.allclose(fv.score(net, text, images), expected, atol=1e-6), name


def test_the_recipe_holds_the_hash_of_the_file_or_the_numbers(tmp_path):
    net, file, image = toys.plain(), tmp_path / "one.npy", tmp_path / "image.png"
    files(tmp_path)
    rendering = fv.render(net, f"cosine(conv2, '{file}')", steps=2, seed=3)
    rendering.save(image)
    assert list(rendering.recipe.files) == [str(file)]
    assert torch.equal(fv.replay(image, network=net).images, rendering.images)
    held = fv.render(net, obj.Cosine("conv2", np.load(file)), steps=2, seed=3)
    assert torch.equal(held.images, rendering.images) and not held.recipe.files
    np.save(file, np.ones(8))
    with pytest.raises(fv.RecipeError, match=r"rendered with the file .*one\.npy, which is missing or has changed"):
        fv.replay(image, network=net)


BAD = [
    ("cosine(conv2, none.npy)", fv.WeightsError, "no file none.npy; cosine needs a vector as .npy, .npz, .pt, .safetensors, or a dictionary"),
    ("cosine(conv2, one.npy, 1)", fv.SettingError, "feature must be < 1, the number of those in one.npy, got 1"),
    ("cosine(conv1, one.npy)", fv.AddressError, "the vector must have 6 numbers to match 'conv1', got 8"),
    ("cosine(conv2, zero.npy)", fv.SettingError, "vector of Cosine must not be 0, which has no direction"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message"), BAD)
def test_bad_vectors(text, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path)
    np.save("zero.npy", np.zeros(8))
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        fv.score(toys.plain(), text, torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("conv2", [[1.0]]), "vector of Cosine must have one number per channel, got shape (1, 1)"),
        (("conv2", [0.0, 0.0]), "vector of Cosine must not be 0, which has no direction"),
        (("conv2", [1.0], -1), "feature of Cosine must be >= 0, got -1"),
        (("conv2", [1.0], 0.5), "feature of Cosine must be a whole number, got 0.5"),
        ((3, [1.0]), "layer of Cosine must be text, got 3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
        obj.Cosine(*arguments)


def test_a_file_is_read_before_it_scores():
    with pytest.raises(fv.SettingError, match="must be bound to a render"):
        obj.Cosine("map", "one.npy")(ACTS)
