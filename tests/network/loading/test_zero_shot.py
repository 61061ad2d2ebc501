"""Networks whose classes are texts: with a small model of colours, and with open_clip where it is installed."""

import re
import sys

import pytest
import torch
import torch.nn.functional as F
from clip_toys import Colours, network, tokenize
from torch import nn

import featviz as fv
from featviz.cli import main
from featviz.network import is_on_this_machine
from featviz.network.loading.zero_shot import ZeroShot

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def cosine(a, b):
    return float(a @ b) / (float(a @ a) * float(b @ b)) ** 0.5


def embeddings():
    """The embedding of each image, restated."""
    return [((image - 0.5) / 0.5).mean((1, 2)).double() for image in IMAGES]


COLOURS = dict(zip(("red", "green", "blue"), torch.eye(3).double() - 0.25, strict=True))


def test_logits_are_the_scaled_cosines_to_the_texts():
    logits = fv.score(network(), ["logit:red", "logit:green", "logit:blue"], IMAGES)
    expected = [[10 * cosine(image, text) for text in COLOURS.values()] for image in embeddings()]
    assert torch.allclose(logits.double(), torch.tensor(expected).double(), atol=1e-4)
    probabilities = fv.score(network(), ["prob:red", "prob:green", "prob:blue"], IMAGES)
    assert torch.allclose(probabilities, logits.softmax(1), atol=1e-5)


def test_the_scale_is_that_of_the_model_or_a_hundred_or_the_given_one():
    logits = fv.score(network(), "logit:red", IMAGES)
    spec = {"size": 16, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for scale, given in ((100, None), (3, 3.0)):
        other = fv.zero_shot(Colours(scale=None), ["red", "green"], tokenize, scale=given, **spec)
        assert torch.allclose(fv.score(other, "logit:red", IMAGES), logits * scale / 10, rtol=1e-4)


def test_the_bias_of_the_model_is_added():
    model = Colours()
    model.logit_bias = nn.Parameter(torch.tensor(-7.0))
    biased = fv.zero_shot(model, ["red"], tokenize, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    plain = fv.score(network(), "logit:red", IMAGES)
    assert torch.allclose(fv.score(biased, "logit:red", IMAGES), plain - 7, atol=1e-4)


@pytest.mark.parametrize("texts", [("red", "green", "blue"), ()])
def test_a_text_is_an_objective_whatever_the_classes_are(texts):
    scores = fv.score(network(texts), ["text(blue)", 'text("a red and a green ball")'], IMAGES)
    mixed = COLOURS["red"] + COLOURS["green"]
    expected = [[cosine(image, COLOURS["blue"]), cosine(image, mixed)] for image in embeddings()]
    assert torch.allclose(scores.double(), torch.tensor(expected).double(), atol=5e-3)
    assert (network(texts).texts, network(texts).classes) == (texts, texts)


def test_without_texts_the_output_is_the_embedding():
    found = network(()).capture(IMAGES, ["embedding", ""])
    assert torch.equal(found["embedding"], found[""]) and found[""].shape == (5, 3)


def test_images_of_a_text_show_it():
    rendering = fv.render(network(), ['text("red")', "logit:green"], param=fv.param.Image(16), steps=32, seed=0)
    means = rendering.images.mean((2, 3))
    assert means.argmax(1).tolist() == [0, 1]
    assert fv.score(network(), ["text(red)", "text(green)"], rendering.images).diagonal().min() > 0.3


def test_an_image_is_replayed_with_its_texts(tmp_path):
    for name, objective in (("text", 'text("a red ball")'), ("class", "logit:green")):
        rendering = fv.render(network(), objective, param=fv.param.Image(16), steps=2)
        rendering.save(tmp_path / f"{name}.png")
        recipe = fv.Recipe.of(tmp_path / f"{name}.png")
        assert recipe.texts == ("red", "green", "blue") and recipe == fv.Recipe.from_json(recipe.to_json())
        assert torch.equal(fv.replay(tmp_path / f"{name}.png", network=network()).images, rendering.images)
        with pytest.raises(fv.RecipeError, match="rendered with weights"):
            fv.replay(tmp_path / f"{name}.png", network=network(("red", "green")))


def test_the_fingerprint_depends_on_the_texts_and_not_on_the_bits_of_their_embeddings():
    one, other = network(), network()
    with torch.no_grad():
        other.module.text_embeddings += 1e-6
    assert one.fingerprint == other.fingerprint != network(("red", "green", "yellow")).fingerprint
    assert "text_embeddings" not in one.module.state_dict()


def test_the_fingerprint_depends_on_a_given_scale():
    prints = [network().fingerprint, *(network(scale=scale).fingerprint for scale in (1, 50))]
    assert len(set(prints)) == 3


def test_texts_of_combined_networks():
    both = fv.combine(first=network(), second=network(()))
    one, two = (fv.score(net, "text(blue)", IMAGES) for net in (network(), network(())))
    found = fv.score(both, ["text(blue, first.embedding)", "text(blue, second.embedding)"], IMAGES)
    assert torch.allclose(found, torch.cat([one, two], 1), atol=1e-5)
    expected = 'layer \'embedding\' of _Combined has no texts; write text("...", first.embedding) or text("...", second.embedding)'
    with pytest.raises(fv.SettingError, match=f"^{re.escape(expected)}$"):
        fv.score(both, "text(blue)", IMAGES)


def test_explanations_judges_and_galleries_use_texts(tmp_path):
    net, squares = network(), torch.full((3, 16, 16), 0.5)
    squares[0, 4:8, 4:8] = 1
    squares[2, 12:, 12:] = 1
    found = fv.explain(net, squares, "logit:red", method=fv.methods.Occlusion(window=4, stride=4)).map
    assert found.view(4, 4, 4, 4).mean((1, 3)).argmax() == 5 and found.view(4, 4, 4, 4).mean((1, 3)).argmin() == 15
    rendering = fv.render(net, "logit:red", param=fv.param.Image(16), steps=32)
    judge = fv.zero_shot(Colours(length=2), net.texts, tokenize, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert "red" in str(fv.judge(rendering, judge=judge, network=net))
    fv.gallery(net, tmp_path, steps=2, size=16, progress=None)
    assert "green" in (tmp_path / "index.html").read_text()


def test_the_module_of_the_user_is_not_changed():
    model = Colours().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    net = fv.zero_shot(model, ["red"], tokenize, size=16)
    fv.render(net, "text(blue) + logit:red", steps=1, param=fv.param.Image(16))
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_copies_share_the_tokenizer():
    net = network()
    assert net.copy_module().shared.tokenizer is net.module.shared.tokenizer


# ---------------------------------------------------------------------------------------------- bad input


class Blind(Colours):
    """Embeds texts as NaN."""

    def encode_text(self, text):
        return super().encode_text(text) / 0


USE = "use e.g. open_clip.create_model('ViT-B-32', pretrained='laion2b_s34b_b79k')"
BAD = [
    (lambda: fv.zero_shot(nn.ReLU(), ["red"], tokenize, size=16), fv.ModelError, f"model must be a module with encode_image and encode_text, got ReLU; {USE}"),
    (lambda: fv.zero_shot(Colours(), ["red"], "bpe", size=16), fv.SettingError, "tokenizer must be a function from texts to token ids, got 'bpe'; use e.g. open_clip.get_tokenizer('ViT-B-32')"),
    (lambda: network(["red", ""]), fv.SettingError, "texts must not be empty; leave out the empty one"),
    (lambda: network(["red", "green", "red"]), fv.SettingError, "texts must differ, got 'red' twice"),
    (lambda: fv.zero_shot(Colours(), "red", tokenize, size=16), fv.SettingError, "texts must be a sequence of texts, got 'red'; use e.g. ['a cat', 'a dog']"),
    (lambda: network(scale=0), fv.SettingError, "scale must be > 0, got 0 (default None, that of the model)"),
    (lambda: fv.zero_shot(Colours(), ["red"], lambda texts: torch.zeros(3, 4, dtype=torch.long), size=16), fv.SettingError, "tokenizer must return token ids as a tensor of shape (texts, length), got (3, 4)"),
    (lambda: fv.zero_shot(Colours(), ["red"], len, size=16), fv.SettingError, "tokenizer must return token ids as a tensor of shape (texts, length), got int"),
    (lambda: fv.zero_shot(Blind(), ["red"], tokenize, size=16), fv.ModelError, "encode_text of Blind must output one vector of numbers per text"),
    (lambda: fv.objectives.parse('text("")'), fv.AddressError, 'cannot parse the objective: text must not be empty; write e.g. text("a red bicycle")\n  text("")\n  ^'),
    (lambda: fv.objectives.Text(3), fv.SettingError, "text of Text must be text, got 3"),
    (lambda: fv.score(fv.load("motifnet", device="cpu"), "text(red)", torch.rand(1, 3, 64, 64)), fv.SettingError, "motifnet does not embed texts; load one that does, such as open_clip/ViT-B-32/laion2b_s34b_b79k, or make one with fv.zero_shot(model, texts, tokenizer)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD)
def test_bad_input(call, kind, message):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


def test_open_clip_is_named_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    words = ["render", 'text("a red bicycle")', "--model", "open_clip/ViT-B-32/laion2b_s34b_b79k", "-o", "a.png"]
    assert main(words) == 2
    expected = "open_clip/ViT-B-32/laion2b_s34b_b79k needs open_clip; install it with: pip install 'featviz[clip]'"
    assert capsys.readouterr().err == f"featviz: {expected}\n"


# ---------------------------------------------------------------------------------------------- open_clip itself


@pytest.fixture
def open_clip():
    return pytest.importorskip("open_clip")


NAME = "open_clip/RN50/openai"


def tiny(open_clip):
    """A model of open_clip with random weights, and its tokenizer."""
    vision = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 24, "head_width": 12}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    torch.manual_seed(0)
    return open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text), open_clip.SimpleTokenizer(context_length=16)


def test_a_model_of_open_clip(open_clip):
    model, tokenizer = tiny(open_clip)
    texts, images = ["a photo of a cat", "a red bicycle"], torch.rand(3, 3, 32, 32)
    net = fv.zero_shot(model, texts, tokenizer, size=32)
    with torch.no_grad():
        model.eval()
        seen = model.encode_image(net.normaliser()(images), normalize=True)
        written = model.encode_text(tokenizer([*texts, "a dog"]), normalize=True)
    cosines = seen @ written.T
    assert torch.allclose(
        fv.score(net, [f"logit:{text}" for text in texts], images), cosines[:, :2] * model.logit_scale.exp(), atol=1e-3
    )
    assert torch.allclose(fv.score(net, 'text("a dog")', images)[:, 0], cosines[:, 2], atol=1e-3)
    rendering = fv.render(net, ['text("a dog")', "clip.visual.transformer.resblocks.1:3"], steps=2)
    assert rendering.images.isfinite().all()


@pytest.mark.slow
def test_a_name_of_open_clip_without_its_weights(open_clip, tmp_path, monkeypatch):
    net = fv.load(NAME, weights="none", classes=["a cat", "a dog"], device="cpu")
    assert (net.size, net.classes, net.name) == ((224, 224), ("a cat", "a dog"), NAME)
    torch.save(net.module.clip.state_dict(), tmp_path / "weights.pt")
    with torch.no_grad():
        net.module.clip.visual.conv1.weight.zero_()
    read = fv.load(NAME, weights=tmp_path / "weights.pt", classes=["a cat"], device="cpu")
    assert read.module.clip.visual.conv1.weight.any() and read.classes == ("a cat",)
    assert NAME in fv.models()


@pytest.mark.slow
def test_names_that_open_clip_does_not_know(open_clip, monkeypatch):
    with pytest.raises(fv.ModelError, match=r"^no model 'RN5' in open_clip; nearest: 'RN50'"):
        fv.load("open_clip/RN5/openai")
    with pytest.raises(
        fv.ModelError,
        match=r"^open_clip/RN50 needs the name of its weights; write open_clip/RN50/WEIGHTS, where WEIGHTS is one of: openai, ",
    ):
        fv.load("open_clip/RN50")
    with pytest.raises(fv.ModelError, match="^open_clip/RN50/opnai has no weights 'opnai'; nearest: 'openai'; write"):
        fv.load("open_clip/RN50/opnai")

    def refuse(*_, **__):
        raise OSError("no network")

    assert is_on_this_machine(NAME, "none") and not is_on_this_machine("open_clip/hf-hub:a/b", "none")
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr("featviz.network.loading.downloads.getproxies", dict)
    monkeypatch.setattr("featviz.network.loading.open_clip_models.has_weights", lambda _: False)
    with pytest.raises(
        fv.WeightsError, match=f"^cannot download the weights of {NAME}: [a-z.]+ cannot be reached; give a"
    ):
        fv.load(NAME)


def test_state_dicts_hold_the_texts():
    state = ZeroShot(Colours(), tokenize, ["a", "bé"]).state_dict()
    assert bytes(state["texts"].tolist()).decode().split("\0") == ["a", "bé"]


def test_embedded_texts_have_length_one():
    found = network().embed_texts(["red", "green blue"])
    assert torch.allclose(found.norm(dim=1), torch.ones(2), atol=1e-6)
    assert torch.allclose(found[0].double(), F.normalize(COLOURS["red"], dim=0), atol=1e-6)
