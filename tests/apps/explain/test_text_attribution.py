"""Attribution of a score to the tokens of a text, and how it shows."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from text_toys import MODULES, SPEC, TEXT, WORDS, module, network, state

import featviz as fv
from featviz import methods
from featviz.apps.explain import strips
from featviz.apps.explain.text import TextAttribution, TextComparison
from featviz.io import read_report

IDS = SPEC.read(TEXT)
TOKENS = ("[CLS]", "the", "film", "was", "not", "very", "good")


def by_hand(kind, target=1):
    """Return the embedding vectors of the text and the gradient of a logit in them, (length, d) each."""
    inner, vectors = module(kind), []
    inner.embedding.register_forward_hook(
        lambda _, given, out: vectors.append(out.detach().requires_grad_()) or vectors[0]
    )
    inner(torch.tensor([IDS]))[0, target].backward()
    return vectors[0].detach()[0], vectors[0].grad[0]


@pytest.mark.parametrize("kind", MODULES)
def test_gradients_are_those_of_a_loop(kind):
    vectors, gradient = by_hand(kind)
    expected = {
        methods.Gradient(): torch.stack([row.square().sum().sqrt() for row in gradient]),
        methods.Gradient(absolute=False): torch.stack([row.sum() for row in gradient]),
        methods.InputXGradient(): torch.stack(
            [sum(a * b for a, b in zip(one, other, strict=True)) for one, other in zip(vectors, gradient, strict=True)]
        ),
    }
    for method, relevance in expected.items():
        found = fv.explain(network(kind), TEXT, "logit:1", method)
        assert found.relevance.shape == (len(IDS),)
        assert torch.allclose(found.relevance, relevance, rtol=1e-4, atol=1e-7), method
        assert torch.allclose(found.per_channel[0, :, 0].T.abs(), (vectors * gradient).abs(), atol=1e-6) or (
            not isinstance(method, methods.InputXGradient)
        )


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("baseline", ["zero", "mean", "pad"])
def test_integrated_gradients_add_up_to_the_increase_of_the_score(kind, baseline):
    net = network(kind)
    found = fv.explain(net, TEXT, "logit:1", methods.IntegratedGradients(baseline, steps=300))
    start = net.embed([each if each in SPEC.special else 0 for each in IDS])
    start = start if baseline == "pad" else torch.zeros_like(start)
    with torch.no_grad():
        scores = [net.bind(IDS).capture(each, [""]).logits()[0, 1].item() for each in (net.embed(IDS), start)]
    assert found.relevance.sum().item() == pytest.approx(scores[0] - scores[1], abs=0.02 * abs(scores[0] - scores[1]))
    assert found.delta.abs().max() < 0.05
    if baseline == "pad":
        assert found.relevance[0].abs() < 1e-6  # the special token is the same in both


def test_integrated_gradients_without_a_padding_token():
    net = network(tokens=fv.TokenSpec(WORDS, 24, tokenizer=SPEC.tokenizer))
    with pytest.raises(fv.SettingError) as error:
        fv.explain(net, TEXT, method="IntegratedGradients('pad')")
    assert str(error.value) == "baseline 'pad' needs a padding token, and Recurrent has none; use 'zero'"


def test_noise_is_relative_to_the_spread_of_the_embeddings():
    class Seen:
        def __init__(self):
            self.images = []

        def attribute(self, request, images):
            self.images.append(images.clone())
            return methods.Gradient().attribute(request, images)

    net, spread = network(), []
    for scale in (1, 100):
        with torch.no_grad():
            net.embedding.weight.mul_(scale)
        seen = Seen()
        fv.explain(net, TEXT, "logit:1", methods.NoiseTunnel(seen, samples=50, noise=0.5))
        sequence = net.embed(IDS)
        noise = torch.stack(seen.images) - sequence
        spread.append((noise.std() / sequence.std()).item())
    assert spread == pytest.approx([0.5, 0.5], rel=0.1)


APPLY = {
    "lstm": ("Gradient", "InputXGradient", "IntegratedGradients", "NoiseTunnel", "GradCAM", "ClassAttention"),
    "transformer": (
        *("Gradient", "InputXGradient", "IntegratedGradients", "NoiseTunnel", "GradCAM", "ClassAttention"),
        *("DeconvNet", "GuidedBackprop", "GuidedGradCAM", "Attention", "Rollout"),
    ),
    "convolutions": ("Gradient", "GradCAM", "GuidedBackprop", "DeconvNet", "ClassAttention"),
}


@pytest.mark.parametrize("kind", APPLY)
def test_methods_give_one_number_per_token(kind):
    for name in APPLY[kind]:
        found = fv.explain(network(kind), TEXT, "logit:positive", name)
        assert isinstance(found, TextAttribution)
        assert found.tokens == TOKENS
        assert found.relevance.shape == (7,)
        assert found.relevance.isfinite().all()
        assert found.relevance.any() or name == "GradCAM", name  # which drops what lowers the score


def test_attention_is_that_of_the_token_that_the_output_reads():
    net = network("transformer")
    inner, weights = module("transformer"), []
    for layer in inner.encoder.layers:
        whole = layer.self_attn.forward
        layer.self_attn.forward = lambda q, k, v, whole=whole, **more: (
            weights.append(whole(q, k, v, **{**more, "need_weights": True})[1][0]) or whole(q, k, v, **more)
        )
    inner(torch.tensor([IDS]).requires_grad_(False))
    found = fv.explain(net, TEXT, "logit:positive", "attention")
    assert torch.allclose(found.relevance, weights[1][0].detach(), atol=1e-6)
    rolled = torch.eye(len(IDS))
    for one in weights:
        rolled = (0.5 * one.detach() + 0.5 * torch.eye(len(IDS))) @ rolled
    assert torch.allclose(fv.explain(net, TEXT, "logit:positive", "rollout").relevance, rolled[0], atol=1e-6)


def test_gradcam_at_a_layer_is_the_published_sum():
    net = network()
    sequence = net.embed(IDS).requires_grad_()
    for layer in ("lstm", "embedding"):
        acts = net.bind(IDS).capture(sequence, [layer, ""])
        (gradient,) = torch.autograd.grad(acts.logits()[0, 1], acts[layer])
        weighted = (acts[layer][0] * gradient[0].mean(0)).sum(1).detach()
        assert weighted.any()
        for sign, target in ((1, "logit:1"), (-1, "-logit:1")):
            found = fv.explain(net, TEXT, target, "gradcam", layer=layer)
            assert torch.allclose(found.relevance, (sign * weighted).relu(), rtol=1e-4, atol=1e-7)
    mean = fv.explain(net, TEXT, "logit:1", "gradcam", layer=["lstm", "embedding"])
    assert isinstance(mean, TextAttribution)
    assert mean.relevance.abs().max() <= 1


def test_the_target_may_be_a_token_of_a_layer():
    found = fv.explain(network(), TEXT, "lstm:2@0,3", "inputxgradient")
    forwards = network().table["lstm"].channels // 2
    assert forwards > 2  # a channel of the first direction, which has read nothing after the token
    assert found.relevance[4:].abs().max() == 0
    assert found.relevance[:4].abs().min() > 0
    with pytest.raises(fv.AddressError) as error:
        fv.explain(network(), TEXT, "lstm:2@0,7", "inputxgradient")
    assert str(error.value) == ("no position @0,7 in 'lstm'; at this size its map has rows 0 to 0 and columns 0 to 6")


def test_the_most_likely_class_is_the_default():
    net = network()
    with torch.no_grad():
        index = module()(torch.tensor([IDS]))[0].argmax().item()
    found = fv.explain(net, TEXT)
    assert found.target == f"logit:{net.classes[index]}"
    assert found.method == "integratedgradients"
    assert found.score.item() == pytest.approx(module()(torch.tensor([IDS]))[0, index].item(), abs=1e-6)


def test_token_ids_and_lists_of_texts():
    net = network()
    alone = fv.explain(net, TEXT, "logit:1", "gradient")
    ids = fv.explain(net, torch.tensor(IDS), "logit:1", "gradient")
    assert torch.equal(alone.relevance, ids.relevance)
    several = fv.explain(net, [TEXT, "the plot"], ["logit:1", 0], "gradient")
    assert [len(one) for one in several] == [7, 3]
    assert [one.target for one in several] == ["logit:1", "logit:0"]
    assert torch.equal(several[0].relevance, alone.relevance)
    assert len(fv.explain(net, [list(IDS), [1, 2]], None, "gradient")) == 2
    assert [len(each.tokens) for each in fv.compare(net, [TEXT, "the plot"], [], ["gradient"])] == [7, 3]


def test_nothing_changes_on_the_users_module():
    inner = module("transformer").train()
    net = fv.Network(inner, tokens=SPEC, classes=["negative", "positive"])
    before = state(inner)
    for name in APPLY["transformer"]:
        fv.explain(net, TEXT, None, name)
    fv.compare(net, TEXT)
    assert state(inner) == before


def test_nan_weights_are_reported():
    net = network()
    with torch.no_grad():
        net.embedding.weight[3, 0] = float("nan")
    with pytest.raises(fv.RenderError, match=r"of logit:positive is NaN or infinite; check the weights and the image"):
        fv.explain(net, TEXT, "logit:positive", "gradient")


# ------------------------------------------------------------------------------------------------------- how it shows


@pytest.fixture(scope="module")
def explained():
    return fv.explain(network(), TEXT, "logit:positive", "inputxgradient")


@pytest.fixture(scope="module")
def compared():
    return fv.compare(
        network(), TEXT, ["logit:positive", "logit:negative"], ["gradient", "inputxgradient", "attention"]
    )


def test_the_table_has_a_line_for_each_token(explained):
    lines = str(explained).splitlines()
    assert lines[0] == f"logit:positive = {explained.score.item():.3g}, by inputxgradient"
    assert [line.split()[0] for line in lines[1:]] == list(TOKENS)
    assert [float(line.split()[1]) for line in lines[1:]] == pytest.approx(explained.relevance.tolist(), rel=1e-2)
    assert repr(explained) == "<inputxgradient of logit:positive: 7 tokens>"
    assert repr(fv.explain(network(), TEXT, "logit:positive")).startswith(
        "<integratedgradients of logit:positive: 7 tokens, contributions miss the guaranteed sum by 0."
    )


def test_red_raises_and_blue_lowers_in_a_terminal(explained):
    cells = re.findall(r"\x1b\[48;2;(\d+);(\d+);(\d+)m\x1b\[38;2;0;0;0m (\S+) \x1b\[0m", explained.ansi())
    assert [cell[3] for cell in cells] == list(TOKENS)
    for (red, _, blue, _), value in zip(cells, explained.relevance.tolist(), strict=True):
        assert (int(red) > int(blue)) == (value > 0)
    strongest = explained.relevance.abs().argmax()
    assert min(int(part) for part in cells[strongest][:3]) == min(int(part) for one in cells for part in one[:3])


def test_html_is_escaped_and_coloured():
    words = ("<b>", "a&b", "\x1b[31m", "")
    strip = strips.Strip("logit:<i>", words, (1.0, -1.0, 0.5, 0.0), (2.0, -2.0, 1.0, 0.0))
    for page in (strips.html([strip]), strips.page([strip])):
        assert "<b>" not in page and "&lt;b&gt;" in page
        assert "a&amp;b" in page and "logit:&lt;i&gt;" in page
        assert "\x1b" not in page
    assert "\x1b[31m" not in strips.ansi(strip) and "·[31m" in strips.ansi(strip)
    assert "\x1b" not in strips.table(strip)
    notebook = strips.html([strip])
    assert "background:rgba(217,26,13,0.72)" in notebook and "background:rgba(13,64,217,0.72)" in notebook


def test_a_page_needs_no_other_file_and_runs_no_other_script(explained, tmp_path):
    path = explained.save(tmp_path / "text.html")
    page = path.read_text()
    assert "Content-Security-Policy" in page and "default-src 'none'" in page
    assert not re.search(r'(src|href)="', page)
    assert not re.search(r'style="', page)  # which the policy would forbid
    for token in TOKENS:
        assert f">{token}</span>" in page
    levels = dict(re.findall(r'<span class="([pn]\d+)" title="([^"]+)">', page))
    assert len(levels) > 2
    for level, value in levels.items():
        assert level.endswith("0") or (level[0] == "p") == (float(value) > 0)
        assert level.endswith("0") or f".{level} {{ background: rgba(" in page


def test_a_picture_shows_the_strongest_token_in_the_strongest_colour(explained, tmp_path):
    path = explained.save(tmp_path / "text.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert pixels.shape[1] == strips.WIDTH
    report = read_report(path)["explained"][0][0]
    assert report["ids"] == list(IDS)
    assert report["target"] == "Logit(name='positive', network='')"
    assert "input" not in report
    value = explained.relevance[explained.relevance.abs().argmax()].item()
    colored = pixels[np.abs(pixels - np.array(strips._over_white(1 if value > 0 else -1))).max(2) == 0]
    assert len(colored) > 300


def test_long_texts_are_wrapped():
    tokens = tuple(f"word{i}" for i in range(60))
    strip = strips.Strip("title", tokens, (0.5,) * 60, (1.0,) * 60)
    few = strips.Strip("title", tokens[:3], (0.5,) * 3, (1.0,) * 3)
    assert strips.draw([strip], legend=False).shape[0] > strips.draw([few], legend=False).shape[0] + 3 * strips.LINE
    huge = strips.Strip("title", ("x" * 500,), (1.0,), (1.0,))
    assert strips.draw([huge]).shape[1] == strips.WIDTH


def test_a_comparison_has_a_strip_for_each_target_and_method(compared, tmp_path):
    assert isinstance(compared, TextComparison)
    assert compared.problems == {
        f"attention of logit:{name}": "Recurrent has no attention over its tokens; use e.g. GradCAM"
        for name in ("positive", "negative")
    }
    shown = compared.strips()
    assert [one.title.partition(",")[2] for one in shown] == [" by gradient", " by inputxgradient"] * 2
    for k in (0, 1):  # one colour scale for both targets
        full = max(abs(value) for one in shown[k::2] for value in one.values)
        for one in shown[k::2]:
            assert one.strengths == pytest.approx([value / full for value in one.values], rel=1e-4)
    assert repr(compared) == "<gradient, inputxgradient, attention of logit:positive, logit:negative: 7 tokens>"
    assert str(compared).count("[CLS]") == compared.ansi().count("[CLS]") == 4
    for name in ("all.png", "all.html"):
        assert compared.save(tmp_path / name).is_file()
    report = read_report(tmp_path / "all.png")["explained"]
    assert [[one and one["method"] for one in row] for row in report] == [
        ["Gradient(absolute=True)", "InputXGradient()", None]
    ] * 2


def test_results_show_in_notebooks(explained, compared):
    assert explained._repr_html_().count("<span") == 7
    assert compared._repr_html_().count("<span") == 28


def test_a_text_has_no_overlay(explained):
    with pytest.raises(fv.SettingError) as error:
        explained.overlay()
    assert str(error.value) == "a text has no overlay; use sheet(), or save a .png or .html file"


# ---------------------------------------------------------------------------------------------------------- bad input


GIVE = "give a str, or the token ids of one"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.rand(3, 8, 8), f"Recurrent reads text, got an array of shape (3, 8, 8); {GIVE}"),
        (torch.rand(7), f"Recurrent reads text, got an array of shape (7,); {GIVE}"),
        (np.zeros((8, 8, 3), np.uint8), f"Recurrent reads text, got an array of shape (8, 8, 3); {GIVE}"),
        (Path("cat.png"), f"Recurrent reads text, got {Path('cat.png')!r}; {GIVE}"),
        ([], f"there is no text in the list; {GIVE}, or a list of texts"),
        ("", "the text is empty; give at least one word"),
        (3, "a text must be a str, or a sequence of token ids, got 3"),
        ([1, 40], "no token 40 in the vocabulary; it has 12, 0 to 11"),
        ("the " * 30, "the text has 31 tokens, and the network takes at most 24; shorten it"),
        (["the film", ""], "the text is empty; give at least one word"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(given, message):
    for call in (fv.explain, lambda net, given: fv.compare(net, given, [], ["gradient"])):
        with pytest.raises(fv.SettingError) as error:
            call(network(), given)
        assert str(error.value) == message


def test_images_where_text_is_wanted_and_the_reverse(tmp_path, motifnet):
    file = tmp_path / "cat.png"
    Image.new("RGB", (8, 8)).save(file)
    with pytest.raises(fv.SettingError) as error:
        fv.explain(network(), str(file))
    assert str(error.value) == f"Recurrent reads text, and {str(file)!r} is an image file; {GIVE}"
    for call in (fv.explain, fv.compare):
        with pytest.raises(fv.SettingError) as error:
            call(motifnet, TEXT)
        assert str(error.value) == (
            f"motifnet reads images, and {TEXT!r} is no file; a network that reads text is fv.Network(module, "
            "tokens=fv.TokenSpec(...))"
        )


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda net, folder: fv.render(net, "logit:0"), "render"),
        (lambda net, folder: fv.score(net, "logit:0", torch.rand(1, 6, 1, 4)), "score"),
        (lambda net, folder: fv.dream(net, torch.rand(3, 8, 8), "lstm"), "dream"),
        (lambda net, folder: fv.gallery(net, folder / "gallery"), "gallery"),
        (lambda net, folder: fv.sweep(net, "lstm", folder / "sweep"), "sweep"),
        (lambda net, folder: fv.examples(net, folder, "lstm"), "examples"),
        (lambda net, folder: fv.evidence(net, folder), "evidence"),
        (lambda net, folder: fv.atlas(net, folder, "lstm", folder / "atlas"), "atlas"),
        (lambda net, folder: fv.blocks(net, folder, "lstm", folder / "blocks"), "blocks"),
        (lambda net, folder: fv.doctor(net), "doctor"),
        (lambda net, folder: fv.judge(folder / "a.png", judge=net), "judge"),
    ],
)
def test_functions_of_images_say_so(call, name, tmp_path):
    with pytest.raises(fv.SettingError) as error:
        call(network(), tmp_path)
    assert (
        str(error.value)
        == f"Recurrent reads text, and {name} works on images; use explain, compare, attention or embeddings"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("CLEAR", "CLEAR colours images by class; explain a text for each class, by GradCAM"),
        ("IntegratedGradients('blur')", "baseline must be 'zero', 'mean' or 'pad' for text, got 'blur'"),
        ("Attention", "Recurrent has no attention over its tokens; use e.g. GradCAM"),
        ("GuidedBackprop", "Recurrent has no rectifier, such as ReLU, before logit:positive; use Gradient"),
        (
            "CAM",
            "CAM needs a network that ends in global average pooling and one linear layer, which Recurrent does not; "
            "use GradCAM",
        ),
    ],
)
def test_methods_that_make_no_sense_are_refused(method, message):
    with pytest.raises(fv.SettingError) as error:
        fv.explain(network(), TEXT, "logit:positive", method)
    assert str(error.value) == message


def test_the_padding_baseline_is_for_text(motifnet, photo):
    with pytest.raises(fv.SettingError) as error:
        fv.explain(motifnet, photo, "logit:0", "IntegratedGradients('pad')")
    assert str(error.value) == "baseline 'pad' is for text, and motifnet reads images; use 'mean'"


@pytest.mark.parametrize("name", ["text.gif", "nowhere/text.html", "text"])
def test_files_that_cannot_be_written(explained, tmp_path, name):
    with pytest.raises(fv.OutputError):
        explained.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
