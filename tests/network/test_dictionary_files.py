"""Files of dictionaries: our own, and those of other libraries, whose formulas are restated."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sample_dictionaries import KINDS, dictionary, numbers

import featviz as fv

CHANNELS, FEATURES = 8, 12


def weights(**more):
    """Return the state_dict of an autoencoder of SAELens; its encoder is (channels, features)."""
    return {
        "W_enc": numbers(CHANNELS, FEATURES),
        "b_enc": numbers(FEATURES, seed=2, scale=0.3),
        "W_dec": numbers(FEATURES, CHANNELS, seed=1),
        "b_dec": numbers(CHANNELS, seed=3, scale=0.3),
        **more,
    }


X = numbers(20, CHANNELS, seed=9)


@pytest.mark.parametrize("kind", KINDS)
def test_own_files_give_the_same_dictionary(kind, tmp_path):
    made = dictionary(kind) if kind != "probe" else fv.Dictionary(kind="probe", encoder=numbers(12, 8))
    made = fv.Dictionary(**{**vars(made), "layer": "conv2", "facts": {"l0": 3.5}})
    path = made.save(tmp_path / "a.safetensors")
    loaded = fv.Dictionary.load(path)
    assert loaded == made
    assert (loaded.layer, loaded.facts, loaded.file) == ("conv2", {"l0": 3.5}, str(path))
    assert torch.equal(loaded.encode(X), made.encode(X))


def test_standard_autoencoders_of_saelens(tmp_path):
    given = weights()
    save_file(given, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard", "normalize_activations": "none"}))
    expected = torch.relu((X - given["b_dec"]) @ given["W_enc"] + given["b_enc"])
    for path in (tmp_path, tmp_path / "sae_weights.safetensors"):
        loaded = fv.Dictionary.load(path)
        assert loaded.kind == "relu"
        assert torch.allclose(loaded.encode(X), expected, atol=1e-5)
        assert torch.allclose(loaded.decode(expected), expected @ given["W_dec"] + given["b_dec"], atol=1e-5)


def test_an_offset_that_is_not_subtracted_from_the_input(tmp_path):
    given = weights()
    save_file(given, tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "standard", "apply_b_dec_to_input": False}))
    expected = torch.relu(X @ given["W_enc"] + given["b_enc"])
    assert torch.allclose(fv.Dictionary.load(tmp_path).encode(X), expected, atol=1e-5)


def test_topk_of_saelens_that_compares_codes_times_the_norms_of_the_decoder(tmp_path):
    given = weights()
    save_file(given, tmp_path / "sae_weights.safetensors")
    settings = {"architecture": "topk", "k": 3, "rescale_acts_by_decoder_norm": True}
    (tmp_path / "cfg.json").write_text(json.dumps(settings))
    norms = given["W_dec"].norm(dim=1)
    pre = torch.relu(((X - given["b_dec"]) @ given["W_enc"] + given["b_enc"]) * norms)
    top = pre.topk(3)
    expected = torch.zeros_like(pre).scatter(1, top.indices, top.values)
    loaded = fv.Dictionary.load(tmp_path)
    assert (loaded.kind, loaded.k) == ("topk", 3)
    assert torch.allclose(loaded.encode(X), expected, atol=1e-5)
    assert torch.allclose(loaded.decode(expected), expected / norms @ given["W_dec"] + given["b_dec"], atol=1e-5)


@pytest.mark.parametrize("name", ["threshold", "log_threshold"])
def test_jumprelu_of_saelens(name, tmp_path):
    threshold = numbers(FEATURES, seed=4).abs()
    save_file(weights(**{name: threshold if name == "threshold" else threshold.log()}), tmp_path / "a.safetensors")
    loaded, given = fv.Dictionary.load(tmp_path / "a.safetensors"), weights()
    pre = (X - given["b_dec"]) @ given["W_enc"] + given["b_enc"]
    assert loaded.kind == "jumprelu"
    assert torch.allclose(loaded.encode(X), torch.where(pre > threshold, pre.relu(), 0.0), atol=1e-5)


def test_gated_autoencoders_of_saelens(tmp_path):
    more = {name: numbers(FEATURES, seed=i) for i, name in enumerate(("b_gate", "r_mag", "b_mag"), 5)}
    given = weights(**more)
    del given["b_enc"]
    save_file(given, tmp_path / "a.safetensors")
    product = (X - given["b_dec"]) @ given["W_enc"]
    gate = product + given["b_gate"] > 0
    expected = gate * torch.relu(product * given["r_mag"].exp() + given["b_mag"])
    loaded = fv.Dictionary.load(tmp_path / "a.safetensors")
    assert loaded.kind == "gated"
    assert torch.allclose(loaded.encode(X), expected, atol=1e-4)


def test_topk_of_vit_prisma(tmp_path):
    torch.save({"state_dict": weights()}, tmp_path / "weights.pt")
    settings = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 2}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    loaded = fv.Dictionary.load(tmp_path)
    assert (loaded.kind, loaded.k) == ("topk", 2)
    assert bool(((loaded.encode(X) > 0).sum(1) <= 2).all())


def test_files_of_saev_begin_with_a_line_of_json(tmp_path):
    content = io.BytesIO()
    torch.save(weights(), content)
    header = {"schema": 3, "cfg": {"d_model": 8, "activation": {"cls": "TopK", "params": {"top_k": 4}}}}
    (tmp_path / "sae.pt").write_bytes(json.dumps(header).encode() + b"\n" + content.getvalue())
    loaded = fv.Dictionary.load(tmp_path / "sae.pt")
    assert (loaded.kind, loaded.k, loaded.features) == ("topk", 4, FEATURES)
    header["cfg"]["activation"] = {"cls": "Relu"}
    (tmp_path / "sae.pt").write_bytes(json.dumps(header).encode() + b"\n" + content.getvalue())
    given = weights()
    expected = torch.relu((X - given["b_dec"]) @ given["W_enc"] + given["b_enc"])
    assert torch.allclose(fv.Dictionary.load(tmp_path / "sae.pt").encode(X), expected, atol=1e-5)


def test_overcomplete_has_a_batch_normalisation_in_its_encoder(tmp_path):
    given = {
        "encoder.final_block.0.weight": numbers(FEATURES, CHANNELS),
        "encoder.final_block.0.bias": numbers(FEATURES, seed=1),
        "encoder.final_block.1.weight": numbers(FEATURES, seed=2).abs(),
        "encoder.final_block.1.bias": numbers(FEATURES, seed=3),
        "encoder.final_block.1.running_mean": numbers(FEATURES, seed=4),
        "encoder.final_block.1.running_var": numbers(FEATURES, seed=5).abs() + 0.1,
        "encoder.final_block.1.num_batches_tracked": torch.tensor(3),
        "dictionary._weights": numbers(FEATURES, CHANNELS, seed=6),
    }
    torch.save(given, tmp_path / "a.pt")
    linear, norm = torch.nn.Linear(CHANNELS, FEATURES), torch.nn.BatchNorm1d(FEATURES).eval()
    linear.load_state_dict(
        {name[22:]: each for name, each in given.items() if name.startswith("encoder.final_block.0")}
    )
    norm.load_state_dict({name[22:]: each for name, each in given.items() if name.startswith("encoder.final_block.1")})
    pre = norm(linear(X)).detach()
    assert torch.allclose(fv.Dictionary.load(tmp_path / "a.pt").encode(X), pre.relu(), atol=1e-4)
    top = pre.topk(3)
    expected = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    assert torch.allclose(fv.Dictionary.load(tmp_path / "a.pt", k=3).encode(X), expected, atol=1e-4)


def test_archetypal_atoms_of_overcomplete_are_mixtures_and_a_relaxation(tmp_path):
    given = {
        "encoder.final_block.0.weight": numbers(FEATURES, CHANNELS),
        "dictionary.W": numbers(FEATURES, 20, seed=1).softmax(1),
        "dictionary.C": numbers(20, CHANNELS, seed=2),
        "dictionary.Relax": numbers(FEATURES, CHANNELS, seed=3, scale=0.1),
        "dictionary.multiplier": torch.tensor(0.5),
    }
    torch.save(given, tmp_path / "a.pt")
    loaded = fv.Dictionary.load(tmp_path / "a.pt", kind="topk", k=3)
    atoms = (given["dictionary.W"] @ given["dictionary.C"] + given["dictionary.Relax"]) * np.exp(0.5)
    assert torch.allclose(loaded.decode(torch.eye(FEATURES)), atoms, atol=1e-5)


def test_factorisations_of_scikit_learn(tmp_path):
    decomposition, cluster = pytest.importorskip("sklearn.decomposition"), pytest.importorskip("sklearn.cluster")
    sources = torch.rand(200, 4, generator=torch.Generator().manual_seed(7)) ** 3
    data = (sources @ numbers(4, CHANNELS).abs() + 0.01 * numbers(200, CHANNELS, seed=1).abs()).numpy()
    found = {
        "pca": decomposition.PCA(4).fit(data),
        "ica": decomposition.FastICA(4, random_state=0, max_iter=2000, tol=1e-3).fit(data),
        "nmf": decomposition.NMF(4, random_state=0, max_iter=2000).fit(data).set_params(tol=1e-7),
        "kmeans": cluster.KMeans(4, random_state=0, n_init=1).fit(data),
    }
    for kind, model in found.items():
        names = ("components_", "mean_", "mixing_", "cluster_centers_")
        np.savez(tmp_path / f"{kind}.npz", **{name: getattr(model, name) for name in names if hasattr(model, name)})
        loaded, x = fv.Dictionary.load(tmp_path / f"{kind}.npz"), torch.from_numpy(data[:20])
        assert loaded.kind == kind
        if kind == "kmeans":
            assert (loaded.encode(x) > 0).int().argmax(1).tolist() == model.predict(data[:20]).tolist()
            continue
        expected = torch.from_numpy(model.transform(data[:20])).float()
        assert torch.allclose(loaded.encode(x), expected, atol=1e-4), kind
        again = torch.from_numpy(model.inverse_transform(model.transform(data[:20]))).float()
        assert torch.allclose(loaded.decode(loaded.encode(x)), again, atol=1e-4), kind


def test_other_factorisations_need_a_kind(tmp_path):
    components, x = numbers(4, CHANNELS), numbers(5, CHANNELS, seed=1)
    np.savez(tmp_path / "svd.npz", components_=components.numpy())
    np.savez(tmp_path / "sparse.npz", components_=components.numpy(), mean_=np.zeros(CHANNELS))
    for name, kind, told in (("svd", "NMF", "below 0"), ("sparse", "PCA", "not orthonormal")):
        with pytest.raises(fv.WeightsError, match=f"{name}.npz: components_ .* as those of {kind}.* these are {told}"):
            fv.Dictionary.load(tmp_path / f"{name}.npz")
        given = fv.Dictionary.load(tmp_path / f"{name}.npz", kind="pca")
        assert torch.allclose(given.encode(x), x @ components.T, atol=1e-5)


def test_unknown_architectures_are_refused(tmp_path):
    save_file(weights(), tmp_path / "sae_weights.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"architecture": "abstopk", "k": 3}))
    with pytest.raises(fv.WeightsError, match="names the architecture or activation 'abstopk', which is not read"):
        fv.Dictionary.load(tmp_path)
    assert fv.Dictionary.load(tmp_path, kind="relu").kind == "relu"


def test_vectors_of_probes(tmp_path):
    vectors = numbers(3, CHANNELS).numpy()
    np.save(tmp_path / "cav.npy", vectors[0])
    np.savez(tmp_path / "probe.npz", coef_=vectors, intercept_=np.array([1.0, 2.0, 3.0]))
    one, several = fv.Dictionary.load(tmp_path / "cav.npy"), fv.Dictionary.load(tmp_path / "probe.npz")
    assert (one.kind, one.features, several.features) == ("probe", 1, 3)
    assert torch.allclose(several.encode(X), X @ torch.from_numpy(vectors).T + torch.tensor([1.0, 2.0, 3.0]), atol=1e-5)


def test_vectors_of_another_kind(tmp_path):
    np.save(tmp_path / "atoms.npy", numbers(3, CHANNELS).numpy())
    found = fv.Dictionary.load(tmp_path / "atoms.npy", kind="topk", k=2)
    assert (found.kind, found.k) == ("topk", 2) and ((found.encode(X) != 0).sum(1) <= 2).all()


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_no_file_runs_code_and_damaged_files_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "pickled.pt").write_bytes(pickle.dumps({"W_enc": Evil()}))
    torch.save({"W_enc": Evil()}, tmp_path / "evil.pt")
    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "text.npz", components_=np.array([["a", "b"]]))
    whole = dictionary().save(tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-40])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "noise.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    (tmp_path / "saev.pt").write_bytes(b'{"cfg": {}}\nno tensors')
    (tmp_path / "json.pt").write_bytes(b'{"cfg": ')
    save_file({"other": torch.ones(3)}, tmp_path / "other.safetensors")
    save_file(weights(W_dec=torch.full((FEATURES, CHANNELS), torch.nan)), tmp_path / "nan.safetensors")
    save_file(weights(W_dec=torch.ones(5, 5)), tmp_path / "shape.safetensors")
    save_file(weights(b_enc=torch.ones(3)), tmp_path / "bias.safetensors")
    save_file({**weights(), "W_enc": torch.ones(4)}, tmp_path / "flat.safetensors")
    (tmp_path / "folder").mkdir()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 16
    for file in files:
        if file.name == "whole.safetensors":
            continue
        with pytest.raises(fv.FeatvizError) as caught:
            fv.Dictionary.load(file)
        assert "\n" not in str(caught.value) and file.name in str(caught.value), file.name
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other", "other.safetensors: no dictionary in the file: it must hold W_enc and W_dec (SAELens, ViT-Prisma, saev), encoder.final_block.0.weight (overcomplete), components_ or cluster_centers_ (scikit-learn), or coef_, cav or vectors (probes); it holds other"),
        ("nan", "nan.safetensors: the dictionary is damaged: W_dec has NaN or infinite numbers"),
        ("scaled", "scaled.safetensors: the dictionary scales its input by layer_norm, which is not read; fold the scale into its weights (SAELens: fold_activation_norm_scaling_factor) and save it again"),
        ("count", "count.safetensors: the file does not contain k, the number of codes above 0; give k=32 to fv.Dictionary.load"),
    ],
)  # fmt: skip
def test_messages(name, message, tmp_path):
    file = tmp_path / f"{name}.safetensors"
    content = {"other": {"other": torch.ones(3)}, "nan": weights(W_dec=torch.full((FEATURES, CHANNELS), torch.nan))}
    save_file(content.get(name, weights()), file)
    settings = {"scaled": {"normalize_activations": "layer_norm"}, "count": {"architecture": "topk"}}
    if name in settings:
        (tmp_path / "cfg.json").write_text(json.dumps(settings[name]))
    with pytest.raises(fv.WeightsError) as caught:
        fv.Dictionary.load(file)
    assert str(caught.value) == f"cannot read a dictionary from {tmp_path}/{message}"


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(fv.OutputError, match=r"end it in \.safetensors"):
        dictionary().save(tmp_path / "a.pt")
    with pytest.raises(fv.OutputError, match="there is no folder"):
        dictionary().save(tmp_path / "no" / "a.safetensors")
    with pytest.raises(fv.SettingError, match="kind of a dictionary must be"):
        fv.Dictionary.load(tmp_path / "a.pt", kind="sae")
