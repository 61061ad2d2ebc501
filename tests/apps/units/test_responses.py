"""Responses of units to a folder of photographs: one pass, the cache, and sampling."""

import pytest
import torch
import toys
from torch import nn

import featviz as fv
from featviz.apps.units import responses
from featviz.apps.units.responses import read_responses
from featviz.io import read_photographs


def test_responses_are_the_largest_activations_and_features_the_means(motifnet, drawings):
    found = read_responses(motifnet, drawings, "stage2", top=3, rest=2)
    layers = ["stage2", "stage3", ""]
    for i, (file, image) in enumerate(read_photographs(drawings, size=64)):
        acts = motifnet.capture(image[None], layers)
        assert found.names[i] == file.relative_to(drawings).as_posix()
        assert torch.allclose(found.values[i], acts["stage2"][0].amax((1, 2)), atol=1e-4)
        assert found.predicted[i] == acts[""][0].argmax()
        if i == 0:
            own = acts["stage3"][0].mean((1, 2)) - found.features[0]
        assert torch.allclose(acts["stage3"][0].mean((1, 2)) - own, found.features[i], atol=1e-4)
    assert found.features.mean(0).abs().max() < 1e-4 and found.judged is found.features
    examples = fv.examples(motifnet, drawings, "stage2", top=3, rest=2, progress=None)
    for which in ("top", "middle", "bottom"):
        assert found.examples.places(5, which) == examples.places(5, which)


def test_a_judge_sees_the_photographs_at_its_own_size(motifnet, drawings):
    judge = toys.network(toys.Vit())
    found = read_responses(motifnet, drawings, "stage2", judge=judge)
    assert found.judged.shape[0] == len(found) == 72 and found.judged.shape[1] != found.features.shape[1]
    (_, image), *_ = read_photographs(drawings, size=judge.size)
    layer = responses._embedding_layer(judge)
    assert torch.isfinite(judge.capture(image[None], [layer])[layer]).all()


def test_a_folder_is_read_once(motifnet, drawings, monkeypatch):
    first = read_responses(motifnet, drawings, "stage2", top=2)
    monkeypatch.setattr(responses, "image_batches", None)
    again = read_responses(motifnet, drawings, "stage2", top=2)
    assert torch.equal(first.values, again.values) and torch.equal(first.features, again.features)
    assert (first.names, first.predicted, first.examples.key) == (again.names, again.predicted, again.examples.key)
    with pytest.raises(TypeError):
        read_responses(motifnet, drawings, "stage1", top=2)


def test_of_many_photographs_a_sample_is_kept(motifnet, drawings, monkeypatch):
    monkeypatch.setattr(responses, "MAX_SAMPLE", 20)
    found = read_responses(motifnet, drawings, "stage2", top=4)
    whole = fv.examples(motifnet, drawings, "stage2", top=4, progress=None)
    assert len(found) == len(found.values) == len(found.features) == len(found.predicted) == 20
    assert len({name.partition("/")[0] for name in found.names}) > 3
    assert found.examples.places(0) == whole.places(0)


def test_a_network_without_classes_predicts_none(drawings):
    net = toys.network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), size=32)
    found = read_responses(net, drawings, "1")
    assert found.predicted == () and found.layer == "1" and found.values.shape == (72, 4)


def test_codes_of_a_dictionary_do_not_embed_photographs(planted, drawings):
    found = read_responses(planted, drawings, "stage3~")
    assert found.layer == "stage3" and found.values.shape == (72, 1)


def test_activations_that_are_not_finite(drawings):
    net = toys.network(toys.plain().copy_module())
    with torch.no_grad():
        net.module.conv2.weight.fill_(float("nan"))
    with pytest.raises(fv.ModelError, match=r"^layer 'conv2' of .* outputs NaN or infinite numbers"):
        read_responses(net, drawings, "conv2")


def test_another_dictionary_has_other_responses(planted, drawings):
    own = planted.dictionaries["stage3"]
    turned = fv.Dictionary(kind="relu", encoder=own.encoder.flip(1), bias=[-2.0])
    other = fv.load("motifnet", device="cpu").with_dictionary("stage3", turned)
    first, second = (read_responses(one, drawings, "stage3~") for one in (planted, other))
    assert not torch.equal(first.values, second.values)
    scans = [fv.examples(one, drawings, "stage3~", progress=None) for one in (planted, other)]
    assert scans[0].key != scans[1].key
