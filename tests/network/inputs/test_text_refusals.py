"""Modules that cannot be read as networks of text, and the messages that say why."""

import pytest
import torch
from text_toys import MODULES, SPEC, TEXT, WORDS, EndOfText, Recurrent, module, network
from torch import nn

import featviz as fv

IDS = SPEC.read(TEXT)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag = nn.EmbeddingBag(len(WORDS), 4)

    def forward(self, ids):
        return self.bag(ids)


class OneHot(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = nn.Linear(len(WORDS), 4)

    def forward(self, ids):
        return self.read(nn.functional.one_hot(ids, len(WORDS)).float()).mean(1)


class Functional(Recurrent):
    def forward(self, ids):
        return self.head(self.lstm(nn.functional.embedding(ids, self.embedding.weight))[0][:, -1])


class Two(Recurrent):
    def __init__(self):
        super().__init__()
        self.other = nn.Embedding(20, 6)

    def forward(self, ids):
        return self.head(self.lstm(self.embedding(ids) + self.other(ids))[0][:, -1])


GIVE = "give a network with an nn.Embedding for its tokens"


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        (Bag, SPEC, f"Bag looks its tokens up in the nn.EmbeddingBag 'bag', which sums them; {GIVE}"),
        (OneHot, SPEC, f"OneHot has no nn.Embedding; {GIVE}"),
        (
            Functional,
            SPEC,
            "no nn.Embedding of Functional is called with the token ids; its first input must be the ids",
        ),
        (
            Two,
            SPEC,
            "several embeddings of Two get the token ids: 'embedding', 'other'; name one: embedding='embedding'",
        ),
        (
            Recurrent,
            fv.TokenSpec(50, 8),
            "the vocabulary has 50 tokens, but the embedding 'embedding' of Recurrent has 12 rows; give the vocabulary "
            "of this network",
        ),
        (
            Recurrent,
            fv.TokenSpec(WORDS, 8, embedding="embeddings"),
            "no nn.Embedding 'embeddings' in Recurrent; nearest: 'embedding'",
        ),
        (
            lambda: MODULES["transformer"](),
            fv.TokenSpec(WORDS, 8, embedding="place"),
            "the nn.Embedding 'place' of Transformer is not called with the token ids; its first input must be the ids",
        ),
    ],
)
def test_networks_without_a_clear_embedding_are_refused(kind, spec, message):
    with pytest.raises(fv.FeatvizError) as error:
        fv.Network(kind(), tokens=spec)
    assert str(error.value) == message


def test_one_of_two_embeddings_can_be_named():
    inner = Two().eval()
    net = fv.Network(inner, tokens=fv.TokenSpec(WORDS, 24, embedding="other"))
    assert net.embedding is inner.other
    found = net.bind(IDS).capture(net.embed(IDS), [""]).logits()
    assert torch.allclose(found, inner(torch.tensor([IDS])), atol=1e-6)


def test_images_and_tokens_are_not_mixed():
    with pytest.raises(fv.SettingError) as error:
        fv.Network(module(), tokens=SPEC, size=8, mean=(0.5,), std=(0.5,))
    assert str(error.value) == "a network that reads text has tokens only; leave out size, mean, std"
    with pytest.raises(fv.SettingError) as error:
        fv.Network(module(), size=8)
    assert str(error.value) == (
        "a network needs size, mean and std of its images, or tokens=fv.TokenSpec(...) if it reads text; mean, std not "
        "given"
    )
    images = fv.Network(nn.Conv2d(3, 2, 1), size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert images.tokens is None
    assert images.ids == ()
    for call in (lambda: images.bind(IDS), lambda: images.embed(IDS), lambda: images.embedding):
        with pytest.raises(fv.SettingError) as error:
            call()
        assert str(error.value) == (
            "Conv2d reads images; a network that reads text is fv.Network(module, tokens=fv.TokenSpec(...))"
        )


def test_errors_of_the_module_surface():
    class Broken(Recurrent):
        def forward(self, ids):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as error:
        fv.Network(Broken(), tokens=SPEC)
    assert error.value.__notes__ == ["while running Broken on sequences of 24 token ids"]


def test_modules_of_several_inputs_have_to_be_wrapped():
    class Masked(Recurrent):
        def forward(self, ids, mask):
            return self.head(self.lstm(self.embedding(ids) * mask)[0][:, -1])

    with pytest.raises(fv.ModelError) as error:
        fv.Network(Masked(), tokens=SPEC)
    assert str(error.value) == (
        "Masked.forward needs 2 inputs (ids, mask), and gets token ids only; wrap it:\n\n"
        "class OnTokenIds(torch.nn.Module):\n"
        "    def __init__(self, inner):\n"
        "        super().__init__()\n"
        "        self.inner = inner\n\n"
        "    def forward(self, ids):\n"
        "        return self.inner(ids, mask=...)\n"
    )


def test_text_networks_are_not_combined():
    with pytest.raises(fv.SettingError) as error:
        fv.combine(one=network(), other=network("transformer"))
    assert str(error.value) == "combined networks must read images; one reads text"


def test_the_end_of_text_is_found_in_the_frame():
    spec = fv.TokenSpec(WORDS, 24, special=(1, 11), tokenizer=lambda text: [1, 4, 11])
    net = fv.Network(EndOfText().eval(), tokens=spec)
    assert net.table["embedding"].layout.special == (("cls", -1),)
