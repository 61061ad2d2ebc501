"""The record of attention, its rollouts restated by loops, and its page as a file."""

import json
import re
import zlib
from base64 import b64decode

import numpy as np
import pytest
import text_toys
import torch

import featviz as fv
from featviz.apps.explain.attention_flow import gradient_steps, rolled, rollout_steps
from featviz.apps.explain.attention_page import pack
from featviz.apps.explain.attention_record import AttentionRecord

WILD = ("</script><script>alert(1)</script>", '"quoted"', "שלום", "🙂", "it's", "", " ", "a\nb")


def matrices(layers=3, heads=2, count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(3 * torch.randn(heads, count, count, generator=generator)).softmax(-1) for _ in range(layers)]


def gradients(like):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(one.shape, generator=generator) for one in like]


def record(**changes):
    weights = matrices()
    given = {"gradients": gradients(weights), "target": "logit:<b>"} | changes
    return AttentionRecord("a <i>network</i>", WILD, tuple(f"layer {i}" for i in range(3)), weights, **given)


def slow_product(steps):
    """Return the product of matrices, one number after the other."""
    count = len(steps[0])
    product = [[float(i == j) for j in range(count)] for i in range(count)]
    for step in steps:
        product = [
            [sum(float(step[i, k]) * product[k][j] for k in range(count)) for j in range(count)] for i in range(count)
        ]
    return torch.tensor(product)


def test_rollouts_are_products_of_what_each_layer_mixes():
    weights = matrices()
    raising = gradients(weights)
    count, steps, by_gradient = len(WILD), [], []
    for attention, gradient in zip(weights, raising, strict=True):
        step, relevant = torch.zeros(count, count), torch.zeros(count, count)
        for i in range(count):
            for j in range(count):
                own = float(i == j)
                heads = [float(attention[h, i, j]) for h in range(2)]
                step[i, j] = 0.5 * sum(heads) / 2 + 0.5 * own
                relevant[i, j] = own + sum(max(0, heads[h] * float(gradient[h, i, j])) for h in range(2)) / 2
        steps.append(step)
        by_gradient.append(relevant)
    for found, expected in ((rollout_steps(weights), steps), (gradient_steps(weights, raising), by_gradient)):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(rolled(found), slow_product(expected))
    torch.testing.assert_close(record().rollout(), slow_product(steps))
    torch.testing.assert_close(record().gradient_rollout(), slow_product(by_gradient))


def test_attention_of_an_image_is_what_the_methods_show():
    network = fv.load("motifvit", device="cpu")
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = fv.attention(network, image)
    assert repr(found) == "<attention of motifvit: 4 layers x 4 heads, 65 tokens>" and len(found) == 65
    assert found.tokens[:3] == ("@cls", "@0,0", "@0,1") and found.tokens[-1] == "@7,7"
    assert found.layers == ("layer 0", "layer 1", "layer 2", "layer 3") and found.grid == (8, 8)
    assert torch.equal(found.image, image)
    size = {"size": (64, 64), "mode": "bilinear", "align_corners": False}
    for layer in range(4):
        expected = fv.explain(network, image, "logit:moon", fv.methods.Attention(layer, head=2)).map
        shown = found.weights[layer][2, 0, list(found.patches)].view(1, 1, 8, 8)
        torch.testing.assert_close(torch.nn.functional.interpolate(shown, **size)[:, 0], expected)
    rolled_out = found.rollout()[0, list(found.patches)].view(1, 1, 8, 8)
    expected = fv.explain(network, image, "logit:moon", "rollout").map
    torch.testing.assert_close(torch.nn.functional.interpolate(rolled_out, **size)[:, 0], expected)


def test_what_cannot_be_recorded_is_refused(motifnet, tmp_path):
    image = torch.rand(3, 64, 64)
    vit = fv.load("motifvit", device="cpu")
    with pytest.raises(fv.SettingError, match="^attention is recorded for one image, got 2; pass each on its own$"):
        fv.attention(vit, torch.stack([image, image]))
    with pytest.raises(fv.SettingError, match="^motifnet has no attention over the whole image; use e.g. GradCAM$"):
        fv.attention(motifnet, image)
    message = "gradient_rollout needs a target; record with fv.attention(network, image, target)"
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
        record(gradients=None).gradient_rollout()
    message = "weights must hold (heads, 2, 2) for each of 1 layers, got [(1, 3, 3)]"
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
        AttentionRecord("a", ("b", "c"), ("layer 0",), [torch.rand(1, 3, 3)])
    with pytest.raises(fv.OutputError, match=r"^cannot write a\.png: end it in \.html$"):
        record().save("a.png")
    with pytest.raises(fv.OutputError, match="^cannot write none/a.html: there is no folder none; make it first$"):
        record().save("none/a.html")
    message = f"cannot write {tmp_path}: it is a folder; name a file that ends in .html"
    with pytest.raises(fv.OutputError, match=f"^{re.escape(message)}$"):
        record().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def unpacked(text, count, *, companded):
    """Return the numbers as the script of the page reads them."""
    data = zlib.decompress(b64decode(text))
    largest = np.frombuffer(data, "<f4", count)
    level = np.frombuffer(data, np.uint8, offset=4 * count).reshape(count, count) / 255
    return torch.from_numpy(largest[:, None] * (level**2 if companded else level))


@pytest.mark.parametrize("companded", [False, True])
def test_packed_numbers_are_as_precise_as_8_bits_allow(companded):
    matrix = matrices(1, 1, 50)[0][0].double()
    found = unpacked(pack(matrix, companded=companded), 50, companded=companded)
    largest = matrix.amax(1, keepdim=True)
    bound = largest / 510 if not companded else largest * ((matrix / largest).sqrt() / 255 + 1 / 255**2)
    assert ((found - matrix).abs() <= bound + 1e-7).all() and (found - matrix).abs().max() > 0
    assert unpacked(pack(torch.zeros(3, 3)), 3, companded=False).abs().max() == 0


def test_the_page_holds_all_matrices_and_names_as_text(tmp_path):
    made = record()
    text = made.save(tmp_path / "a.html").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
    assert "alert(1)</script>" not in text and "<i>" not in text and "<b>" not in text
    assert "http" not in text.replace("http-equiv", "")
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text)[1])
    assert tuple(data["tokens"]) == WILD and data["heads"] == [2, 2, 2] and data["image"] is None
    found = dict(re.findall(r'<script id="([a-z0-9-]+)" type="application/json">"(.*?)"</script>', text))
    assert set(found) == {
        f"{name}-{i}{end}"
        for i in range(3)
        for name, ends in (("mean", [""]), ("class", [""]), ("head", ["-0", "-1"]))
        for end in ends
    }
    steps = gradient_steps(made.weights, made.gradients)
    for i, weights in enumerate(made.weights):
        for head in range(2):
            one = unpacked(found[f"head-{i}-{head}"], 8, companded=False)
            torch.testing.assert_close(one, weights[head].double(), atol=1 / 500, rtol=0)
        mean = unpacked(found[f"mean-{i}"], 8, companded=True)
        torch.testing.assert_close(mean, weights.mean(0).double(), atol=1 / 200, rtol=0)
        step = unpacked(found[f"class-{i}"], 8, companded=True)
        torch.testing.assert_close(step, (steps[i] - torch.eye(8)).double(), atol=1 / 50, rtol=0)
    without = record(gradients=None, target="").save(tmp_path / "b.html").read_text()
    assert 'value="class"' in text and 'value="class"' not in without and 'id="class-0"' not in without


def test_attention_of_a_text_is_what_its_layers_compute(tmp_path):
    network = text_toys.network("transformer")
    found = fv.attention(network, text_toys.TEXT)
    assert repr(found) == "<attention of Transformer: 2 layers x 2 heads, 7 tokens>"
    assert found.tokens == ("[CLS]", *text_toys.TEXT.split()) and found.image is None and found.grid is None
    module, ids = text_toys.module("transformer"), torch.tensor([text_toys.tokenize(text_toys.TEXT)])
    with torch.no_grad():
        x = module.embedding(ids) * 8**0.5 + module.place(torch.arange(7))
        for layer, weights in zip(module.encoder.layers, found.weights, strict=True):
            expected = layer.self_attn(x, x, x, need_weights=True, average_attn_weights=False)[1][0]
            torch.testing.assert_close(weights, expected)
            x = layer(x)
    by_ids = fv.attention(network, text_toys.tokenize(text_toys.TEXT))
    torch.testing.assert_close(by_ids.weights, found.weights)
    text = found.save(tmp_path / "a.html").read_text()
    assert '"tokens": ["[CLS]", "the", "film"' in text and 'id="head-1-1"' in text and 'id="picture"' not in text


REFUSED = {
    "two texts": ("transformer", ["good", "bad"], "attention is recorded for one text, got 2; pass each on its own"),
    "no attention": ("lstm", "good", "Recurrent has no attention over its tokens; use e.g. GradCAM"),
    "an image": ("transformer", torch.rand(3, 8, 8), "Transformer reads text, got an array of shape (3, 8, 8); give a str, or the token ids of one"),
    "empty": ("transformer", " ", "the text is empty; give at least one word"),
    "too long": ("transformer", "good " * 30, "the text has 31 tokens, and the network takes at most 24; shorten it"),
    "an unknown id": ("transformer", [99], "no token 99 in the vocabulary; it has 12, 0 to 11"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_texts_that_cannot_be_recorded_are_refused(name):
    kind, given, message = REFUSED[name]
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
        fv.attention(text_toys.network(kind), given)


def test_a_text_for_a_network_of_images_is_refused():
    with pytest.raises(fv.SettingError, match="^motifvit reads images, and 'some text' is no file; "):
        fv.attention(fv.load("motifvit", device="cpu"), "some text")


def test_the_class_specific_rollout_is_that_of_the_method(tmp_path):
    network = fv.load("motifvit", device="cpu")
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for target in ("logit:moon", 3):
        found = fv.attention(network, image, target)
        rolled_out = found.gradient_rollout()[0, list(found.patches)].view(1, 1, 8, 8)
        shown = torch.nn.functional.interpolate(rolled_out, (64, 64), mode="bilinear", align_corners=False)[:, 0]
        torch.testing.assert_close(shown, fv.explain(network, image, target, "GradientRollout").map)
    assert found.target == "logit:3" and "logit:3" in found.save(tmp_path / "a.html").read_text()
    text = text_toys.network("transformer")
    found = fv.attention(text, text_toys.TEXT, "logit:positive")
    expected = fv.explain(text, text_toys.TEXT, "logit:positive", "GradientRollout").relevance
    shares = found.gradient_rollout()[0]  # the network reads the first token
    shares[0] -= 1  # what it keeps of itself
    torch.testing.assert_close(shares, expected)
    with pytest.raises(fv.AddressError, match="^no class 'mooon'; nearest: 'moon'"):
        fv.attention(network, image, "logit:mooon")
