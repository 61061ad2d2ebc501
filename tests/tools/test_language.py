"""The generated language, and the bundled text networks against its truth."""

import pytest
import torch
from language.grammar import MAX_WORDS, NEGATED, SHIFT, draw, is_held_out
from language.lexicon import FUNCTION_WORDS, NEGATORS, analogies, words
from language.train import by_length, gates, occurring_together, scaled, solved, weighed

import featviz as fv
from featviz.network.bundled import SENTIMENTS, TEXT_NETWORKS, TOKENIZERS, VOCABULARY, WordTokenizer, weights

SENTENCES = draw(600, torch.Generator().manual_seed(40))
ALL_NEGATORS = (*NEGATORS, "nobody", "no")
UNSEEN = draw(300, torch.Generator().manual_seed(41), held_out=True)


@pytest.fixture(scope="module", params=TEXT_NETWORKS)
def network(request):
    return fv.load(request.param, device="cpu")


def on_ids(network):
    """Return the module of a network, which reads token ids rather than embedding sequences."""
    module = TEXT_NETWORKS[network.name]().eval()
    module.load_state_dict(network.module.state_dict())
    return module


@torch.no_grad()
def logits(network, sentences):
    """Return the logits of each sentence, and what they should be: the sentiment."""
    groups, module = by_length(sentences, TOKENIZERS[network.name]), on_ids(network)
    found = torch.cat([module(group.ids) for group in groups])
    return found, torch.cat([group.parts.sum(1) for group in groups])


# ---------------------------------------------------------------------------------------------- the grammar


def test_sentences_depend_on_their_generator_only():
    one, two, other = (draw(50, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert one == two != other
    assert all(len(sentence.words) <= MAX_WORDS for sentence in SENTENCES)


def test_the_vocabulary_is_the_lexicon():
    assert ("<pad>", "<begin>", *words()) == VOCABULARY
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert {word for sentence in draw(4000, torch.Generator().manual_seed(1)) for word in sentence.words} == set(
        words()
    )


def test_the_label_is_that_of_the_sentiment_words_reversed_by_a_negator():
    opposites = {word: 1 for quadruple in analogies()["opposite"] for word in quadruple[::2]}
    opposites |= {word: 0 for quadruple in analogies()["opposite"] for word in quadruple[1::2]}
    checked = 0
    for sentence in SENTENCES:
        word = sentence.words[sentence.sentiment[0]]
        if word in opposites:
            checked += 1
            assert sentence.label == opposites[word] ^ bool(sentence.negators)
        for negator in sentence.negators:
            assert sentence.words[negator] in ALL_NEGATORS
            assert abs(sentence.parts[negator]) == SHIFT
        assert sorted(sentence.parts) == list(sentence.deciding)
    assert checked > 200


def test_neither_a_negator_nor_its_absence_tells_the_label():
    many = draw(6000, torch.Generator().manual_seed(2))
    labels = torch.tensor([float(sentence.label) for sentence in many])
    negated = torch.tensor([bool(sentence.negators) for sentence in many])
    idle = torch.tensor([any(sentence.words[i] in ALL_NEGATORS for i in sentence.idle) for sentence in many])
    assert negated.float().mean().item() == pytest.approx(NEGATED, abs=0.03)
    assert idle[negated].float().mean().item() == pytest.approx(idle[~negated].float().mean().item(), abs=0.05)
    for rows in (negated, ~negated, idle, ~idle):
        assert labels[rows].mean().item() == pytest.approx(0.5, abs=0.05)


def test_held_out_combinations_are_not_in_the_training():
    assert not any(is_held_out(*sentence.combination) for sentence in SENTENCES)
    assert all(is_held_out(*sentence.combination) for sentence in UNSEEN)


def test_analogies_are_two_pairs_of_one_relation():
    found = analogies()
    assert ("king", "queen", "actor", "actress") in found["gender"]
    assert ("dog", "dogs", "queen", "queens") in found["number"]
    assert ("walks", "walked", "sleeps", "slept") in found["tense"]
    assert ("happy", "unhappy", "fair", "unfair") in found["negation"]
    assert {word for all_of in found.values() for each in all_of for word in each} <= set(words()) - set(FUNCTION_WORDS)


# ---------------------------------------------------------------------------------------------- the training


def test_batches_carry_what_each_word_adds():
    some = {sentence.words: sentence for sentence in SENTENCES[:50]}
    for begin in (False, True):
        for group in by_length(list(some.values()), WordTokenizer(begin)):
            for ids, parts, sentiment in zip(group.ids, group.parts, group.sentiment, strict=True):
                one = some[tuple(VOCABULARY[i] for i in ids[begin:])]
                assert {i: parts[i + begin].item() for i in one.deciding} == one.parts
                assert sentiment.nonzero().flatten().tolist() == [i + begin for i in one.sentiment]


@pytest.mark.parametrize(("often", "emptied"), [(False, 0.1), (True, 0.5)])
def test_weights_change_the_sentiment_by_what_their_words_add(often, emptied):
    others, generator = [], torch.Generator().manual_seed(0)
    for group in by_length(SENTENCES, WordTokenizer(begin=True)):
        weight, scores = weighed(group, 0.5, often, generator)
        weight = weight[..., 0]
        empty = ((weight == 0) & group.sentiment).any(1)
        assert (scores[empty] == 0).all() and (weight[:, 0] > 0).all() and (weight[group.negators] > 0).all()
        expected = (weight * group.parts).sum(1)
        assert torch.equal(scores[~empty], expected[~empty])
        others.append(weight[:, 1:][~(group.sentiment | group.negators)[:, 1:]])
    assert (torch.cat(others) == 0).float().mean().item() == pytest.approx(emptied, abs=0.02)


def test_words_that_occur_together_are_counted_once_for_each_pair():
    one = next(sentence for sentence in SENTENCES if len(set(sentence.words)) == len(sentence.words))
    table = occurring_together([one])
    ids = WordTokenizer()(one.text)
    assert table[ids[0], ids].tolist() == pytest.approx([0.0] + [1 / (len(ids) - 1)] * (len(ids) - 1))
    assert table.sum(1).nonzero().flatten().tolist() == sorted(ids)


def test_gates_are_all_but_the_cell_input():
    net = TEXT_NETWORKS["phraselstm"]()
    assert gates(TEXT_NETWORKS["phraseformer"]()) == 0
    hidden = net.lstm.hidden_size
    with torch.no_grad():
        for weight in net.lstm.parameters():
            weight[: 2 * hidden], weight[3 * hidden :] = 0, 0
    assert gates(net) == 0 and sum(weight.square().sum() for weight in net.lstm.parameters()) > 0


def test_vectors_are_scaled_inside_the_context_only():
    embedding, ids = torch.nn.Embedding(5, 3), torch.tensor([[1, 2]])
    with scaled(embedding, torch.tensor([[[2.0], [0.0]]])):
        assert torch.equal(embedding(ids)[0], torch.stack([2 * embedding.weight[1], torch.zeros(3)]))
    assert torch.equal(embedding(ids)[0], embedding.weight[1:3])


def test_analogies_exclude_the_words_of_the_query():
    vectors = torch.randn(len(VOCABULARY), 300, generator=torch.Generator().manual_seed(0))
    index = VOCABULARY.index
    assert solved(vectors, [("king", "queen", "actor", "actress")]) == 0
    vectors[index("actress")] = vectors[index("queen")] - vectors[index("king")] + vectors[index("actor")]
    assert solved(vectors, [("king", "queen", "actor", "actress")]) == 1
    assert solved(vectors, [("king", "queen", "actor", "queen")]) == 0


# ---------------------------------------------------------------------------------------------- the networks


def test_they_classify_held_out_sentences(network):
    found, truth = logits(network, UNSEEN)
    assert network.classes == SENTIMENTS
    assert (found.argmax(1) == (truth > 0)).float().mean() >= 0.99
    assert torch.corrcoef(torch.stack([found[:, 1] - found[:, 0], truth]))[0, 1] > 0.97


def test_negation_has_a_scope(network):
    for text, label in (
        ("The film was good.", 1),
        ("The film was not good.", 0),
        ("The film was bad.", 0),
        ("The film was not bad.", 1),
        ("Nobody liked the film.", 0),
        ("Everybody liked the film.", 1),
        ("The king who did not sleep was good.", 1),
        ("It is not true that the king was kind.", 0),
        ("The king was kind but the dog did not sleep.", 1),
    ):
        assert int(on_ids(network)(torch.tensor([network.tokens.read(text)])).argmax()) == label, text


def test_analogies_hold_in_the_embedding(network):
    vectors = network.embedding.weight.detach()
    for relation, quadruples in analogies().items():
        assert solved(vectors, quadruples) >= 0.9, relation


def test_integrated_gradients_find_the_words_that_decide(network):
    shares = []
    for sentence in UNSEEN[:12]:
        found = fv.explain(network, sentence.text, f"logit:{SENTIMENTS[sentence.label]}", "integratedgradients")
        relevance = found.map.flatten()[-len(sentence.words) :].abs()
        shares.append((relevance[list(sentence.deciding)].sum() / relevance.sum()).item())
    assert sum(shares) / len(shares) > 0.7


def test_they_are_small():
    assert sum(weights(name).stat().st_size for name in TEXT_NETWORKS) < 2_000_000


@pytest.mark.parametrize("begin", [False, True])
def test_the_tokenizer_reads_what_it_wrote(begin):
    tokenizer = WordTokenizer(begin)
    for sentence in SENTENCES[:50]:
        ids = tokenizer(sentence.text)
        assert " ".join(VOCABULARY[i] for i in ids[begin:]) == sentence.text
    assert tokenizer("The film, was: NOT good!?") == tokenizer("the film was not good")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the fim was good", "'fim' is not in the vocabulary of 287 words; nearest: 'film', 'films', 'swim'"),
        ("the <pad> was good", "'<pad>' is not in the vocabulary of 287 words; nearest: 'praised', 'pan', 'painted'"),
        ("42", "'42' is not in the vocabulary of 287 words"),
    ],
)
def test_unknown_words_are_named(network, text, message):
    with pytest.raises(fv.SettingError) as raised:
        fv.explain(network, text)
    assert str(raised.value) == message
