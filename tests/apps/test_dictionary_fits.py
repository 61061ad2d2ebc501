"""Fitting dictionaries: on activations whose features are known, and on folders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.apps.dictionaries import train as training
from featviz.apps.dictionaries.activations import collect_activations
from featviz.apps.dictionaries.factorise import k_means, nonnegative_factors, principal_components
from featviz.apps.dictionaries.measure import measured, stability
from featviz.apps.dictionaries.train import Autoencoder, Training
from featviz.cli import main


class Data:
    """Rows in memory in place of those of a folder."""

    def __init__(self, rows):
        self.values, self.rows = rows, len(rows)

    def take(self, indices):
        return self.values[indices]

    def some(self, most, seed):
        return self.values[:most]


def sparse_rows(count=4000, atoms=10, channels=8, seed=0):
    """Return rows that are sums of one or two of some atoms of unit length, with positive weights, and the atoms."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randn(atoms, channels, generator=generator)
    true = true / true.norm(dim=1, keepdim=True)
    codes = torch.rand(count, atoms, generator=generator) + 0.5
    kept = torch.rand(count, atoms, generator=generator).topk(2, dim=1).indices
    return torch.zeros_like(codes).scatter(1, kept, codes.gather(1, kept)) @ true, true


@pytest.fixture
def photos(tmp_path):
    """A folder of 12 images with smooth and noisy parts."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        ramp = np.linspace(0, 200, 40)[:, None, None] * rng.random(3) + rng.random((40, 40, 3)) * 50
        Image.fromarray(ramp.astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


QUIET = {"progress": None, "scan_progress": None}

# ---------------------------------------------------------------------------------------------- formulas


def test_the_loss_is_the_error_less_the_mean_of_features_that_are_off():
    rows, _ = sparse_rows(16)
    model = Autoencoder(Training(6, 2, 1, 0, archetypal=False), rows[:6], None)
    with torch.no_grad():
        model.parameters["bias"][3] = -50.0  # off everywhere
    for each in model.parameters.values():
        each.requires_grad_(False)
    x, atoms = rows[:5], model.atoms()
    error, revival = 0.0, 0.0
    for row in x:
        pre = [float(row @ model.parameters["encoder"][j] + model.parameters["bias"][j]) for j in range(6)]
        kept = sorted(range(6), key=lambda j: -pre[j])[:2]
        found = sum(max(0.0, pre[j]) * atoms[j] for j in kept)
        error += float((found - row).square().sum()) / (5 * 8)
    codes = [[float(row @ model.parameters["encoder"][j] + model.parameters["bias"][j]) for j in range(6)] for row in x]
    on = {j for row in codes for j in sorted(range(6), key=lambda j: -row[j])[:2] if row[j] > 0}
    revival = sum(row[j] for row in codes for j in range(6) if j not in on) / (5 * 6)
    assert 3 not in on
    assert math.isclose(model.loss(x).item(), error - 1e-3 * revival, rel_tol=1e-4)


def test_atoms_of_an_autoencoder_keep_unit_length_and_archetypal_ones_stay_near_the_hull():
    rows, _ = sparse_rows(64)
    free = Autoencoder(Training(6, 2, 1, 0, archetypal=False), rows[:6], None)
    near = Autoencoder(Training(6, 2, 1, 0, archetypal=True), rows[:6], rows[:12])
    for model in (free, near):
        with torch.no_grad():
            for each in model.parameters.values():
                each += torch.randn(each.shape, generator=torch.Generator().manual_seed(1))
        model.constrain()
    assert torch.allclose(free.atoms().norm(dim=1), torch.ones(6))
    mixture, relaxation = near.parameters["mixture"].detach(), near.parameters["relaxation"].detach()
    assert bool((mixture >= 0).all()) and torch.allclose(mixture.sum(1), torch.ones(6), atol=1e-5)
    assert relaxation.norm(dim=1).max() <= 1 + 1e-5
    expected = [sum(float(w) * c for w, c in zip(row, rows[:12], strict=True)) for row in mixture]
    scale = near.parameters["multiplier"].exp()
    assert torch.allclose(near.atoms(), (torch.stack(expected) + relaxation) * scale, atol=1e-5)


def test_archetypal_atoms_start_at_the_scale_of_the_encoder():
    rows, _ = sparse_rows(64)
    for scale in (0.01, 1.0, 50.0):
        model = Autoencoder(Training(6, 2, 1, 0, archetypal=True), scale * rows[:6], scale * rows[:6])
        assert abs(model.atoms().norm(dim=1).mean().item() - 1) < 1e-5
        assert torch.allclose(model.parameters["encoder"].norm(dim=1), torch.ones(6))


@pytest.mark.parametrize("archetypal", [False, True])
def test_the_dictionary_computes_what_the_autoencoder_does_with_standardised_rows(archetypal):
    rows, _ = sparse_rows(64)
    mean, scale = rows.mean(0), 0.3
    standard = (rows - mean) / scale
    centres = standard[:12] if archetypal else None
    model = Autoencoder(Training(6, 2, 1, 0, archetypal), standard[:6], centres)
    with torch.no_grad():
        model.parameters["bias"] += torch.randn(6, generator=torch.Generator().manual_seed(1)) * 0.1
        model.parameters["offset"] += 0.1
    made = model.dictionary(mean, scale)
    pre = (standard - 0.1) @ model.parameters["encoder"].T + model.parameters["bias"]
    top = pre.topk(2, dim=1)
    codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    expected = (codes @ model.atoms() + 0.1) * scale + mean
    assert torch.allclose(made.encode(rows), scale * codes, atol=1e-4)
    assert torch.allclose(made.decode(made.encode(rows)), expected, atol=1e-4)


def test_measures_are_those_of_the_plain_formulas():
    rows, true = sparse_rows(300)
    made = fv.Dictionary(
        kind="topk", encoder=torch.cat([true, -10 * true[:1]]), decoder=torch.cat([true, true[:1]]), k=2
    )
    made = fv.Dictionary(**{**vars(made), "bias": torch.tensor([0.0] * 10 + [-1000.0])})
    facts = measured(made, Data(rows), 200)
    held_out = rows[200:]
    codes = made.encode(held_out)
    error = sum(float(v) ** 2 for v in (made.decode(codes) - held_out).flatten())
    variance = sum(float(v) ** 2 for v in (held_out - held_out.mean(0)).flatten())
    assert math.isclose(facts["explained_variance"], 1 - error / variance, rel_tol=1e-4)
    assert math.isclose(facts["l0"], float((codes != 0).sum()) / 100, rel_tol=1e-6)
    assert math.isclose(facts["dead"], 1 / 11, rel_tol=1e-5)


def test_stability_is_the_cosine_of_the_best_pairs():
    atoms = torch.eye(4)
    one = fv.Dictionary(kind="probe", encoder=atoms, decoder=atoms)
    turned = torch.stack([atoms[2], 0.6 * atoms[0] + 0.8 * atoms[1], atoms[3], atoms[0]])
    other = fv.Dictionary(kind="probe", encoder=turned, decoder=3 * turned)
    best = max(
        sum(float(atoms[i] @ turned[j]) for i, j in enumerate(order)) / 4 for order in itertools.permutations(range(4))
    )
    assert math.isclose(stability(one, other), best, rel_tol=1e-6)


# ---------------------------------------------------------------------------------------------- factorisations


def test_principal_components_are_those_of_the_singular_value_decomposition():
    rows, _ = sparse_rows(500)
    made = principal_components(rows, 3)
    _, values, vectors = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    assert torch.allclose((made.encoder @ vectors[:3].T).abs(), torch.eye(3), atol=1e-3)
    assert torch.allclose(made.encode(rows).std(0, correction=0), values[:3] / 500**0.5, rtol=1e-3)


def test_k_means_finds_clusters_that_are_far_apart():
    generator = torch.Generator().manual_seed(0)
    true = 10 * torch.randn(5, 8, generator=generator)
    rows = true.repeat(50, 1) + 0.1 * torch.randn(250, 8, generator=generator)
    centres = k_means(rows, 5, seed=0)
    assert torch.cdist(true, centres).min(1).values.max() < 0.1
    assert torch.equal(k_means(rows, 5, seed=0), centres)
    assert len(k_means(torch.zeros(20, 3), 4, seed=0)) == 4  # all rows are equal


def test_nonnegative_factors_rebuild_rows_of_low_rank():
    generator = torch.Generator().manual_seed(0)
    rows = torch.rand(200, 3, generator=generator) @ torch.rand(3, 8, generator=generator)
    made = nonnegative_factors(rows, 3, seed=0)
    assert bool((made.decoder >= 0).all()) and torch.allclose(made.decoder.norm(dim=1), torch.ones(3), atol=1e-5)
    error = (made.decode(made.encode(rows)) - rows).square().sum() / (rows - rows.mean(0)).square().sum()
    assert error < 0.02


@pytest.mark.parametrize("archetypal", [False, True])
def test_an_autoencoder_finds_the_atoms_of_which_rows_are_made(archetypal, tmp_path):
    rows, true = sparse_rows()
    made = training.train(
        Data(rows), Training(10, 2, 600, 0, archetypal), torch.device("cpu"), tmp_path / "state.safetensors", None
    )
    facts = measured(made, Data(rows), 3600)
    unit = made.decoder / made.decoder.norm(dim=1, keepdim=True)
    assert facts["explained_variance"] > 0.7 and facts["dead"] == 0
    random = torch.randn(10, 8, generator=torch.Generator().manual_seed(5))
    chance = (random / random.norm(dim=1, keepdim=True) @ true.T).max(1).values.mean()
    assert (unit @ true.T).max(1).values.mean() > chance + 0.1


def test_an_interrupted_training_continues_with_the_same_result(tmp_path, monkeypatch):
    rows, _ = sparse_rows(500)
    settings, cpu = Training(10, 2, 30, 0, archetypal=False), torch.device("cpu")
    monkeypatch.setattr(training, "SAVE_INTERVAL", 10)
    whole = training.train(Data(rows), settings, cpu, tmp_path / "a.safetensors", None)

    def stop(done, total):
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(Data(rows), settings, cpu, tmp_path / "b.safetensors", stop)
    steps = []
    again = training.train(
        Data(rows), settings, cpu, tmp_path / "b.safetensors", lambda done, total: steps.append(done)
    )
    assert again == whole and steps[0] == 21
    (tmp_path / "b.safetensors").write_bytes(b"damaged")
    assert training.train(Data(rows), settings, cpu, tmp_path / "b.safetensors", None) == whole


# ---------------------------------------------------------------------------------------------- folders


def test_rows_are_the_activations_at_every_position(net, photos):
    data = collect_activations(net, photos, "conv2", 10**6, 0, None)
    assert (data.rows, data.photographs, data.channels) == (12 * 16 * 16, 12, 8)
    from featviz.io import read_photograph

    image = read_photograph(photos / "03.png", size=(32, 32), channels=3)[None]
    expected = net.capture(image, ["conv2"])["conv2"][0].flatten(1).T
    assert torch.allclose(data.take(torch.arange(3 * 256, 4 * 256)), expected, atol=1e-2)
    few = collect_activations(net, photos, "conv2", 5, 0, None)
    assert few.rows == 60


def test_tokens_and_vectors_have_rows(net, photos):
    vit = toys.network(toys.Vit())
    assert collect_activations(vit, photos, "block", 100, 0, None).rows == 12 * 17
    assert collect_activations(net, photos, "head", 100, 0, None).rows == 12


@pytest.mark.parametrize("scale", [1e6, 1e-9])
def test_the_scale_of_a_layer_does_not_matter(photos, scale):
    """Activations are stored in half precision."""
    found = []
    for factor in (1.0, scale):
        net = toys.plain()
        with torch.no_grad():
            net.module.conv2.weight.mul_(factor)
            net.module.conv2.bias.mul_(factor)
        made = fv.fit_dictionary(net, photos, "conv2", features=3, kind="pca", **QUIET)
        data = collect_activations(net, photos, "conv2", 7, 3, None)
        rows = data.take(torch.arange(data.rows))
        found.append((made.facts["explained_variance"], rows / factor))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-3)
    assert torch.allclose(found[0][1], found[1][1], rtol=2e-3, atol=1e-3)


def test_an_interrupted_collection_continues(net, photos, monkeypatch):
    from featviz.apps.dictionaries import activations

    whole = np.array(collect_activations(net, photos, "conv2", 7, 3, None).stored)
    monkeypatch.setattr(activations, "BATCH", 4)
    monkeypatch.setattr(activations, "STATE_INTERVAL", 1)

    def stop(done, total):
        if done == 8:
            raise KeyboardInterrupt

    again = photos.rename(photos.parent / "again")
    with pytest.raises(KeyboardInterrupt):
        collect_activations(net, again, "conv2", 7, 3, stop)
    seen = []
    data = collect_activations(net, again, "conv2", 7, 3, lambda done, total: seen.append(done))
    assert np.allclose(data.stored, whole, atol=1e-2) and seen[0] == 12
    assert len(data.stored) == 84


@pytest.mark.parametrize("kind", ["topk", "archetypal", "nmf", "pca", "kmeans"])
def test_every_kind_can_be_fitted_attached_and_rendered(net, photos, kind):
    layer = "relu" if kind == "nmf" else "conv2"
    more = {"k": 2} if kind in ("topk", "archetypal") else {}
    made = fv.fit_dictionary(net, photos, layer, features=6, kind=kind, steps=20, **more, **QUIET)
    assert (made.features, made.layer) == (6, layer)
    assert {"explained_variance", "l0", "dead"} <= made.facts.keys()
    assert ("stability" in made.facts) == (kind != "pca")
    assert made == fv.fit_dictionary(net, photos, layer, features=6, kind=kind, steps=20, **more, **QUIET)
    attached = net.with_dictionary(layer, made)
    assert fv.score(attached, f"{layer}~3", torch.rand(1, 3, 32, 32)).shape == (1, 1)


def test_progress_counts_up_to_the_end(net, photos):
    steps, seen = [], []
    fv.fit_dictionary(
        net, photos, "conv2", features=6, steps=5, progress=lambda done, total: steps.append((done, total)),
        scan_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert steps == [(i, 10) for i in range(1, 11)] and seen[-1] == (12, 12)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "sae"}, "kind must be topk, archetypal, nmf, pca, kmeans, got 'sae'"),
        ({"kind": "tpk"}, "kind must be topk, archetypal, nmf, pca, kmeans, got 'tpk'; nearest: 'topk'"),
        ({"features": 1}, "features must be >= 2, got 1"),
        ({"features": 9, "kind": "pca"}, "pca has at most as many features as the layer has channels, 8, got 9"),
        ({"k": 7, "features": 6}, "k must be in [1, 6], the number of features, got 7"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"per_image": 0}, "per_image must be >= 1, got 0"),
        ({"features": 5000}, "a dictionary of 5000 features needs as many activations, and 12 photographs give 691; give more photographs, or features=345 or fewer"),
        ({"layer": "conv9"}, "no layer 'conv9' in Plain; nearest: 'conv2', 'conv1' (list all: net.layers())"),
        ({"photographs": "nowhere"}, "no folder nowhere; give a folder of images"),
    ],
)  # fmt: skip
def test_bad_input(net, photos, given, message):
    with pytest.raises(fv.FeatvizError) as caught:
        fv.fit_dictionary(**{"network": net, "photographs": photos, "layer": "conv2", **QUIET} | given)
    assert str(caught.value) == message


def test_nmf_needs_activations_that_are_not_negative(net, photos):
    with pytest.raises(
        fv.SettingError, match=r"nmf needs activations >= 0, and layer 'conv2' has -.*; choose a layer after"
    ):
        fv.fit_dictionary(net, photos, "conv2", features=4, kind="nmf", **QUIET)


def test_a_layer_that_puts_out_nan(photos):
    net = toys.plain()
    with torch.no_grad():
        net.module.conv2.bias[0] = torch.nan
    with pytest.raises(fv.ModelError, match="layer 'conv2' of Plain outputs NaN or infinite numbers"):
        fv.fit_dictionary(net, photos, "conv2", features=4, **QUIET)


def test_a_folder_without_readable_images(net, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no image")
    with pytest.raises(fv.OutputError, match="none of the 1 images in .*bad can be read"):
        fv.fit_dictionary(net, tmp_path / "bad", "conv2", features=4, **QUIET)


# ---------------------------------------------------------------------------------------------- command line


def test_the_command_writes_a_dictionary_that_others_use(photos, capsys):
    words = ["--layer", "stage1", "--features", "8", "--k", "2", "--steps", "3", "--quiet"]
    assert main(["dictionary", str(photos), *words, "-o", "f.safetensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("8 features; explains ") and lines[-1] == "f.safetensors"
    assert lines[1].startswith("cosine to the features of seed 1: ")
    quick = ["--steps", "1", "--quiet", "--dictionary", "f.safetensors"]
    assert main(["sweep", "--layer", "stage1~", "--channels", "0-1", "--size", "16", "-o", "sweep", *quick]) == 0
    for default in ("photos-stage1.safetensors", "photos-stage1-2.safetensors"):  # nothing is overwritten
        assert main(["dictionary", str(photos), *words]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == default
    assert main(["dictionary", str(photos), *words, "-o", "f.pt"]) == 2
    assert main(["dictionary", str(photos), *words, "--kind", "sae"]) == 2
    assert (
        capsys.readouterr().err.splitlines()[-1]
        == "featviz: kind must be topk, archetypal, nmf, pca, kmeans, got 'sae'"
    )


@pytest.mark.parametrize("kind", ["pca", "nmf", "kmeans"])
def test_a_number_of_active_features_is_for_trained_kinds(kind, net, photos):
    with pytest.raises(fv.SettingError) as caught:
        fv.fit_dictionary(net, photos, "conv2", kind=kind, features=3, k=2)
    assert str(caught.value) == f"k is the number of active features of topk and archetypal, and {kind} has none"
