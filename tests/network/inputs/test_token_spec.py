"""The specification of a vocabulary: text to token ids, ids to words, and what is refused."""

import numpy as np
import pytest
import torch

import featviz as fv

WORDS = ("[PAD]", "[CLS]", "the", "film", "was", "not", "good")


def tokenize(text):
    return [1, *(WORDS.index(word) for word in text.split())]


SPEC = fv.TokenSpec(WORDS, 6, pad=0, special=[1], tokenizer=tokenize)


@pytest.mark.parametrize(
    "given",
    [
        "the film",
        [1, 2, 3],
        (1, 2, 3),
        torch.tensor([1, 2, 3]),
        torch.tensor([[1, 2, 3]]),
        np.array([1, 2, 3], dtype=np.int16),
        [np.int64(1), torch.tensor(2), 3],
    ],
)
def test_text_and_ids_are_read_alike(given):
    found = SPEC.read(given)
    assert found == (1, 2, 3)
    assert all(type(each) is int for each in found)


@pytest.mark.parametrize(
    "returned",
    [[1, 2], (1, 2), torch.tensor([[1, 2]]), np.array([1, 2]), {"input_ids": [1, 2], "attention_mask": [1, 1]}],
)
def test_a_tokenizer_may_return_ids_in_several_forms(returned):
    assert fv.TokenSpec(WORDS, 6, tokenizer=lambda text: returned).read("any text") == (1, 2)


def test_words_are_those_of_the_vocabulary():
    assert SPEC.words((1, 3, 6)) == ("[CLS]", "film", "good")
    assert fv.TokenSpec(20, 6).words((3, 19)) == ("#3", "#19")


def test_the_frame_is_what_the_tokenizer_puts_around_a_text():
    assert SPEC.frame == ((1,), ())
    both = fv.TokenSpec(WORDS, 6, special=(0, 1), tokenizer=lambda text: [*tokenize(text), 0])
    assert both.frame == ((1,), (0,))
    assert fv.TokenSpec(WORDS, 6, special=(1,)).frame == ((), ())
    fussy = fv.TokenSpec(WORDS, 6, special=(1,), tokenizer=lambda text: {}["a whole sentence, please"])
    assert fussy.frame == ((), ())


def test_the_neutral_token_stands_for_text():
    assert SPEC.neutral not in (0, 1)
    assert fv.TokenSpec(("a", "b", "c"), 6, pad=1, special=(2,)).neutral == 0


def test_the_repr_does_not_list_the_vocabulary():
    assert repr(SPEC) == "TokenSpec(7 tokens, length=6, pad=0, special=(1,), tokenizer=tokenize)"
    assert repr(fv.TokenSpec(9, 4, embedding="emb")) == "TokenSpec(9 tokens, length=4, embedding='emb')"


def test_values_are_converted_and_compare():
    assert fv.TokenSpec(list(WORDS), np.int64(6), special=torch.tensor([1])) == fv.TokenSpec(WORDS, 6, special=(1,))
    assert fv.TokenSpec(WORDS, 6) != fv.TokenSpec(WORDS, 7)


def test_errors_of_the_tokenizer_surface():
    with pytest.raises(ValueError, match="is not in list|not in tuple"):
        SPEC.read("the movie")


NOT_IDS = "a text must be a str, or a sequence of token ids, got"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the text is empty; give at least one word"),
        (" \n", "the text is empty; give at least one word"),
        ([], "the text has no tokens; give at least one"),
        ([1, 7], "no token 7 in the vocabulary; it has 7, 0 to 6"),
        ([1, -1], "no token -1 in the vocabulary; it has 7, 0 to 6"),
        ("the film was not good the film", "the text has 8 tokens, and the network takes at most 6; shorten it"),
        (5, f"{NOT_IDS} 5"),
        (None, f"{NOT_IDS} None"),
        (b"text", f"{NOT_IDS} b'text'"),
        ([1.5], "token ids must be whole numbers, got 1.5"),
        ([True], "token ids must be whole numbers, got True"),
        (torch.rand(2, 2), None),
        ([1, "film"], "token ids must be whole numbers, got 'film'"),
        ([[1, 2], [3, 4]], "token ids must be whole numbers, got [1, 2]"),
        (torch.tensor(3), "token ids must be whole numbers, got tensor(3)"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(given, message):
    with pytest.raises(fv.SettingError) as error:
        SPEC.read(given)
    assert message is None or str(error.value) == message
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("ids", "the tokenizer must return token ids, got 'ids'"),
        (None, "the tokenizer must return token ids, got None"),
        ([0.5], "the tokenizer must return token ids, got 0.5"),
        (["the"], "the tokenizer must return token ids, got 'the'"),
        ({"ids": [1]}, "the tokenizer must return token ids, got {'ids': [1]}"),
        ([], "the text has no tokens; give at least one"),
        ([99], "no token 99 in the vocabulary; it has 7, 0 to 6"),
    ],
)
def test_nonsense_of_a_tokenizer_is_named(returned, message):
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec(WORDS, 6, tokenizer=lambda text: returned).read("the film")
    assert str(error.value) == message


def test_text_without_a_tokenizer_is_refused():
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec(WORDS, 6).read("the film")
    assert str(error.value) == "text needs a tokenizer; give fv.TokenSpec(..., tokenizer=function), or token ids"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"vocabulary": "abc"},
            "vocabulary must list the text of every token in the order of their ids, or be their number, got 'abc'",
        ),
        ({"vocabulary": {"a": 0}}, None),
        ({"vocabulary": ["a", 1]}, "vocabulary must hold the text of every token, got 1"),
        ({"vocabulary": []}, "vocabulary must have at least 1 token, got none"),
        ({"vocabulary": 0}, "vocabulary must have at least 1 token, got none"),
        ({"vocabulary": 1.5}, "vocabulary must be a whole number, got 1.5"),
        ({"length": 0}, "length must be a whole number in [1, 100000], got 0"),
        ({"length": "6"}, "length must be a whole number in [1, 100000], got '6'"),
        ({"pad": 7}, "pad must be a whole number in [0, 6], got 7"),
        ({"pad": "[PAD]"}, "pad must be a whole number, got '[PAD]'"),
        ({"special": (1, 9)}, "special must be a whole number in [0, 6], got 9"),
        ({"tokenizer": "bert"}, "tokenizer must be a function from text to token ids, got 'bert'"),
        ({"embedding": 3}, "embedding must be the name of an nn.Embedding, got 3"),
    ],
)
def test_values_out_of_their_range_are_refused(arguments, message):
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec(**{"vocabulary": WORDS, "length": 6, **arguments})
    assert message is None or str(error.value) == message
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------- Hugging Face


@pytest.fixture
def wordpiece(tmp_path):
    transformers = pytest.importorskip("transformers")
    file = tmp_path / "vocab.txt"
    file.write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "not", "go", "##od"])
    )
    tokens = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    return transformers.BertTokenizer(str(file), model_max_length=12, **tokens)


def test_a_tokenizer_of_hugging_face_tells_everything(wordpiece):
    spec = fv.TokenSpec.of(wordpiece)
    assert spec.size == len(wordpiece) == 11
    assert (spec.length, spec.pad) == (12, 0)
    assert set(spec.special) == {0, 1, 2, 3, 4}
    ids = spec.read("the film was not good")
    assert list(ids) == wordpiece("the film was not good")["input_ids"]
    assert spec.words(ids) == ("[CLS]", "the", "film", "was", "not", "go", "##od", "[SEP]")
    assert spec.frame == ((2,), (3,))
    assert spec.neutral >= 5


def test_a_longer_text_is_refused_without_a_log_message(wordpiece, caplog, capsys):
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec.of(wordpiece).read("the film " * 10)
    assert str(error.value) == "the text has 22 tokens, and the network takes at most 12; shorten it"
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_tokenizer_without_a_limit_needs_one(wordpiece):
    wordpiece.model_max_length = int(1e30)
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec.of(wordpiece)
    assert str(error.value) == ("the tokenizer has no maximum length; give fv.TokenSpec.of(tokenizer, length=512)")
    assert fv.TokenSpec.of(wordpiece, length=20).length == 20


def test_byte_level_tokens_read_as_words():
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["<|end|>", "a", "Ġ", "Ġa", "Ã", "©", "Ã©", "Ċ"])}
    inner = Tokenizer(models.BPE(vocabulary, [("Ġ", "a"), ("Ã", "©")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", model_max_length=8)
    spec = fv.TokenSpec.of(made)
    ids = spec.read("a aé")
    assert spec.words(ids) == ("a", "a", "é")
    assert spec.words((0, 4, 7)) == ("<|end|>", "Ã", "Ċ")  # a part of a character, and a line break, as they are
    assert spec.pad is None


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec.of("bert-base-uncased")
    assert str(error.value) == (
        "tokens must be a TokenSpec or a tokenizer of Hugging Face, got 'bert-base-uncased'; give any other function "
        "from text to ids as fv.TokenSpec(vocabulary, length, tokenizer=function)"
    )


@pytest.mark.parametrize("given", [3, "pad", None])
def test_special_tokens_are_a_sequence(given):
    with pytest.raises(fv.SettingError) as error:
        fv.TokenSpec(("a", "b"), 8, special=given)
    assert str(error.value) == f"special must be a sequence of token ids, got {given!r}"
