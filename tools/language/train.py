"""Train a bundled text network on generated sentences (`make phraselstm phraseformer`, minutes on one core).

Two losses share the embedding matrix. The network outputs the sentiment in logits. And the vector of each word
predicts the other words of its sentences (skip-gram, Mikolov et al. 2013, https://arxiv.org/abs/1310.4546): this gives
the embedding the regularities of gender, number and tense, which sentiment does not need. Since the vocabulary is
small, the second loss is computed from a table of how often words occur together, without sampling. Its other matrix
is not stored.

So that the networks respond to words as the grammar says, words are weighed during training: their vectors are
multiplied by random numbers. What a word that decides adds to the sentiment grows with its weight, other words do not
matter and are often left out by weight 0, and a sentence without its sentiment words has no sentiment. The weights of
the LSTM's gates are kept small. No loss contains an attribution, but these choices favour attribution: what is measured
on these networks need not hold for networks that are trained on sentences and labels alone.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, permutations
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from featviz.network.bundled import TEXT_NETWORKS, TOKENIZERS, VOCABULARY, WordTokenizer, weights
from featviz.network.bundled.vocabulary import BEGIN, PAD
from language.grammar import Sentence, draw
from language.lexicon import Analogy, analogies

LANGUAGE = 10.0
"""Weight of the loss of predicting words."""
GATES = 5e-4
"""Weight of the squared weights of the LSTM's gates. With small ones, words act through what the cells add up rather
than through gates, which relevance does not pass.
"""
EMPTIED, EMPTIED_OFTEN = 0.2, 0.5
"""Fraction of the other words that get weight 0: in half of the sentences, and in all of them if `--empty` is given."""
SHORT = 11
"""Number of tokens of the longest sentence from which a network learns first, if `--short` is given."""
BATCH = {"phraselstm": 96, "phraseformer": 64}
"""Number of sentences per step of each network."""
MAX_LEARNING_RATE = {"phraselstm": 5e-3, "phraseformer": 3e-3}
"""Peak of the learning-rate schedule of each network."""


def main() -> None:
    """Train, print what is measured on held-out sentences, and save the weights in half precision."""
    options = _parser().parse_args()
    output = options.output or weights(options.name)
    torch.set_num_threads(1)  # faster than more threads for such small matrices
    torch.manual_seed(options.seed)
    net = TEXT_NETWORKS[options.name]()
    if options.further:
        net.load_state_dict({key: value.float() for key, value in load_file(weights(options.name)).items()})
    else:
        prepare(net)
    generator = torch.Generator().manual_seed(options.seed)
    tokenizer = TOKENIZERS[options.name]
    sentences = draw(options.sentences, generator)
    rate, count = options.rate or MAX_LEARNING_RATE[options.name], BATCH[options.name]
    train(
        net, tokenizer, sentences, options.steps, rate, count, options.spread, options.short, options.empty, generator
    )
    with torch.no_grad():
        net.embedding.weight[PAD] = 0
    unfinished = output.with_suffix(".unfinished")
    save_file({key: value.half().contiguous() for key, value in net.state_dict().items()}, unfinished)
    unfinished.replace(output)
    net.eval()
    unseen = draw(2000, torch.Generator().manual_seed(options.seed + 1), held_out=True)
    print(f"accuracy on held-out sentences: {accuracy(net, tokenizer, unseen):.4f}")
    for relation, quadruples in analogies().items():
        print(f"{relation}: {solved(net.embedding.weight.detach(), quadruples):.3f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a bundled text network. Minutes on one core.")
    parser.add_argument("name", choices=TEXT_NETWORKS, help="the network to train")
    parser.add_argument("--steps", type=int, default=3500, help="number of training steps (default: %(default)s)")
    parser.add_argument("--sentences", type=int, default=40000, help="number of sentences (default: %(default)s)")
    parser.add_argument(
        "--spread",
        type=float,
        default=0.5,
        help="largest deviation from 1 of the weight of a word, in [0, 1) (default: %(default)s)",
    )
    parser.add_argument(
        "--short",
        type=float,
        default=0.0,
        help="fraction of the steps, from the first, with short sentences only, in [0, 1] (default: %(default)s)",
    )
    parser.add_argument("--empty", action="store_true", help="give weight 0 to half of the words that do not decide")
    parser.add_argument("--rate", type=float, help="peak of the learning rate (default: that of the network)")
    parser.add_argument("--further", action="store_true", help="start from the weights that ship with featviz")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and sentences (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, help="file of the weights (default: replace those that ship with featviz)"
    )
    return parser


@dataclass(frozen=True)
class Batch:
    """Sentences of equal length.

    Args:
        ids: Token numbers.
        parts: What each word adds to the sentiment, in logits.
        sentiment: Where the sentiment words that decide are.
        negators: Where the negators are in whose scope these are.
    """

    ids: Int[Tensor, "n length"]
    parts: Float[Tensor, "n length"]
    sentiment: Bool[Tensor, "n length"]
    negators: Bool[Tensor, "n length"]

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """0 for negative, 1 for positive."""
        return (self.parts.sum(1) > 0).long()

    def __getitem__(self, rows: Tensor) -> Batch:
        """Return some of the sentences."""
        return Batch(self.ids[rows], self.parts[rows], self.sentiment[rows], self.negators[rows])


def by_length(sentences: list[Sentence], tokenizer: WordTokenizer) -> list[Batch]:
    """Return sentences in batches of equal length, so that none needs padding.

    Args:
        sentences: In any order.
        tokenizer: The tokenizer of the network.
    """
    groups = defaultdict(list)
    for sentence in sentences:
        groups[len(sentence.words)].append(sentence)
    batches = []
    for _, group in sorted(groups.items()):
        ids = torch.tensor([tokenizer(sentence.text) for sentence in group])
        marks, parts = torch.zeros(2, *ids.shape, dtype=torch.bool), torch.zeros(ids.shape)
        for row, sentence in enumerate(group):
            for mark, places in zip(marks, (sentence.sentiment, sentence.negators), strict=True):
                mark[row, [place + tokenizer.begin for place in places]] = True
            for place, part in sentence.parts.items():
                parts[row, place + tokenizer.begin] = part
        batches.append(Batch(ids, parts, *marks))
    return batches


@torch.no_grad()
def prepare(net: nn.Module) -> None:
    """Set the random weights with which the training of a network starts.

    Args:
        net: The network.
    """
    net.head.weight.zero_()  # the logits of the two classes then stay each other's negative
    net.embedding.weight.normal_(std=0.1)  # small, so that little of it is left in the end
    net.embedding.weight[PAD] = 0


def train(
    net: nn.Module,
    tokenizer: WordTokenizer,
    sentences: list[Sentence],
    steps: int,
    rate: float,
    count: int,
    spread: float,
    short_fraction: float,
    empty: bool,
    generator: torch.Generator,
) -> None:
    """Train a network.

    Args:
        net: The network.
        tokenizer: Its tokenizer.
        sentences: What it is trained on.
        steps: Number of batches.
        rate: Peak of the learning rate.
        count: Number of sentences of each batch.
        spread: Largest deviation from 1 of the weight of a word, in [0, 1).
        short_fraction: Fraction of the steps, from the first, with sentences of at most `SHORT` tokens.
        empty: Give weight 0 to half of the words that do not decide.
        generator: Source of all random numbers.
    """
    table = occurring_together(sentences)
    contexts = nn.Parameter(0.1 * torch.randn(net.embedding.embedding_dim, len(VOCABULARY)))
    other = [weight for weight in net.parameters() if weight is not net.embedding.weight]
    groups = [{"params": [net.embedding.weight, contexts]}, {"params": other}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1e-2, rate], steps)
    by_size = by_length(sentences, tokenizer)
    first = round(short_fraction * steps)
    short = [group for group in by_size if group.ids.shape[1] <= SHORT]
    batches = chain(drawn(short, first, count, generator), drawn(by_size, steps - first, count, generator))
    bar = tqdm(batches, total=steps)
    for step, batch in enumerate(bar):
        weight, scores = weighed(batch, spread, empty, generator)
        with scaled(net.embedding, weight):
            logits = net(batch.ids)
        sentiment = F.smooth_l1_loss(logits[:, 1] - logits[:, 0], scores)
        language = skip_gram(net.embedding.weight, contexts, table)
        optimizer.zero_grad()
        (sentiment + LANGUAGE * language + GATES * gates(net)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix_str(f"sentiment {sentiment.item():.3f}, language {language.item():.3f}")


def drawn(groups: list[Batch], steps: int, count: int, generator: torch.Generator) -> Iterator[Batch]:
    """Draw batches: a length with the probability of its sentences, then sentences of this length.

    Args:
        groups: Sentences by length.
        steps: Number of batches.
        count: Number of sentences of each.
        generator: Source of all random numbers.
    """
    sizes = torch.tensor([float(len(group.ids)) for group in groups])
    for _ in range(steps):
        group = groups[int(torch.multinomial(sizes, 1, generator=generator))]
        yield group[torch.randint(len(group.ids), (count,), generator=generator)]


def weighed(
    batch: Batch, spread: float, often: bool, generator: torch.Generator
) -> tuple[Float[Tensor, "n length 1"], Float[Tensor, " n"]]:
    """Draw a weight for each word, and return the weights and the sentiment of the sentences with such words.

    Args:
        batch: Sentences.
        spread: Largest deviation from 1 of the weight of a word, in [0, 1).
        often: Give weight 0 to half of the words that do not decide, rather than to fewer in half of the sentences.
        generator: Source of all random numbers.

    Returns:
        Weights in [0, 1 + `spread`], and sentiments in logits.
    """
    rows = torch.rand(len(batch.ids), 1, generator=generator)
    noise, empty = (torch.rand(batch.ids.shape, generator=generator) for _ in range(2))
    decides = batch.sentiment | batch.negators
    weight = torch.where(decides | (rows < 0.5), 1 + spread * (2 * noise - 1), 1.0)
    emptied = empty < EMPTIED_OFTEN if often else (empty < EMPTIED) & (rows < 0.5)
    weight[emptied & ~decides & (batch.ids != BEGIN)] = 0
    scores = (weight * batch.parts).sum(1)
    without = rows > 0.9
    return weight.masked_fill(without & batch.sentiment, 0)[..., None], scores.masked_fill(without[:, 0], 0)


def gates(net: nn.Module) -> Float[Tensor, ""]:
    """Return the sum of the squared weights of the gates of a network's LSTM; 0 if it has none.

    Args:
        net: The network.
    """
    total = torch.zeros(())
    for name, weight in net.named_parameters():
        if name.startswith("lstm.weight"):
            enter, forget, _, leave = weight.chunk(4)
            total = total + sum(part.square().sum() for part in (enter, forget, leave))
    return total


@contextmanager
def scaled(embedding: nn.Module, weight: Float[Tensor, "n length 1"]) -> Iterator[None]:
    """Multiply the vectors of words by weights, as long as the context is open.

    Args:
        embedding: The embedding of a network.
        weight: A weight per word.
    """
    handle = embedding.register_forward_hook(lambda module, given, vectors: vectors * weight)  # noqa: ARG005
    try:
        yield
    finally:
        handle.remove()


def occurring_together(sentences: list[Sentence]) -> Float[Tensor, "words words"]:
    """Return the probability of each word (columns) among the other words of the sentences with a word (rows).

    Args:
        sentences: What is counted.
    """
    size = len(VOCABULARY)
    counts = torch.zeros(size * size)
    for group in by_length(sentences, WordTokenizer()):
        length = group.ids.shape[1]
        for first, second in permutations(range(length), 2):
            counts += torch.bincount(group.ids[:, first] * size + group.ids[:, second], minlength=size * size)
    counts = counts.view(size, size)
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def skip_gram(
    embedding: Float[Tensor, "words width"], contexts: Float[Tensor, "width words"], table: Float[Tensor, "words words"]
) -> Float[Tensor, ""]:
    """Return the cross-entropy of predicting the other words of a sentence from a word; each word counts the same.

    Args:
        embedding: A vector of each word.
        contexts: Weights of the prediction.
        table: Probability of each word in the sentences with a word.
    """
    return -(table * (embedding @ contexts).log_softmax(1)).sum(1).mean()


@torch.no_grad()
def accuracy(net: nn.Module, tokenizer: WordTokenizer, sentences: list[Sentence]) -> float:
    """Return the fraction of sentences that a network classifies correctly.

    Args:
        net: The network, in eval mode.
        tokenizer: Its tokenizer.
        sentences: In any order.
    """
    right = [(net(group.ids).argmax(1) == group.labels).float().sum() for group in by_length(sentences, tokenizer)]
    return (sum(right) / len(sentences)).item()


def solved(embedding: Float[Tensor, "words width"], quadruples: list[Analogy]) -> float:
    """Return the fraction of analogies a : b = c : d whose d is nearest to b - a + c in angle, except a, b and c.

    Args:
        embedding: A vector of each word.
        quadruples: Analogies.

    Source: Mikolov et al. 2013, https://aclanthology.org/N13-1090, the form known as 3CosAdd.
    """
    unit = F.normalize(embedding, dim=1)
    a, b, c, d = torch.tensor([[VOCABULARY.index(word) for word in quadruple] for quadruple in quadruples]).T
    similarity = (unit[b] - unit[a] + unit[c]) @ unit[BEGIN + 1 :].T
    for query in (a, b, c):
        similarity[torch.arange(len(a)), query - BEGIN - 1] = -torch.inf
    return (similarity.argmax(1) + BEGIN + 1 == d).float().mean().item()


if __name__ == "__main__":
    main()
