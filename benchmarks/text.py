"""Measure attribution methods on sentences whose truth is known: `make text-bench`, minutes on two cores.

The sentences are generated, with combinations of words that were held out of the training, and the words that decide
their sentiment are known: sentiment words and the negator in whose scope they are. For the logit of the right class:

- share: fraction of the absolute relevance that is on words that decide
- points: fraction of sentences whose word with the largest absolute relevance decides
- opposite: fraction of negated sentences in which the sentiment word lowers the score and its negator raises it.
  In "the film was not good", `good` lowers the score of the right class, negative, and `not` raises it
- sums: correlation of the relevance of the words that decide with what the grammar says that they add, in logits

Special tokens do not count.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

import torch
from language.grammar import Sentence, draw
from language.lexicon import analogies
from language.train import solved
from torch import Tensor

import featviz as fv
from featviz import methods as m
from featviz.network.bundled import TEXT_NETWORKS

METHODS: dict[str, Any] = {
    "Gradient": m.Gradient(),
    "SmoothGrad": m.SMOOTHGRAD,
    "InputXGradient": m.InputXGradient(),
    "IntegratedGradients": m.IntegratedGradients(steps=64),
    "IntegratedGradients pad": m.IntegratedGradients("pad", steps=64),
    "GradCAM": m.GradCAM(),
    "LRP cp_lrp": m.LRP("cp_lrp"),
    "LRP cp_lrp, plain": m.LRP("cp_lrp", epsilon=0, gamma=0),
    "LRP attn_lrp": m.LRP("attn_lrp"),
    "LRP attn_lrp, plain": m.LRP("attn_lrp", epsilon=0, gamma=0),
    "Occlusion": m.Occlusion(),
    "Attention": m.Attention(),
    "Rollout": m.Rollout(),
    "GradientRollout": m.GradientRollout(),
    "ClassAttention": m.ClassAttention(),
}
"""Methods that do not apply to a network are skipped."""


@dataclass(frozen=True)
class Measured:
    """What is measured of one sentence; `opposite` is `None` if it is not negated."""

    share: float
    points: bool
    opposite: bool | None
    found: list[float]
    truth: list[float]


def measured(relevance: Tensor, sentence: Sentence) -> Measured:
    """Compare the relevance of the words of a sentence with its truth.

    Args:
        relevance: Relevance of each word for the logit of the right class.
        sentence: The sentence.
    """
    size = relevance.abs()
    deciding = list(sentence.deciding)
    sign = 1 if sentence.label else -1
    opposite = None
    if sentence.negators:
        argues = relevance[list(sentence.sentiment)].sum().item()
        opposite = argues < 0 < relevance[list(sentence.negators)].sum().item()
    return Measured(
        (size[deciding].sum() / size.sum().clamp(min=1e-12)).item(),
        int(size.argmax()) in deciding,
        opposite,
        relevance[deciding].tolist(),
        [sign * sentence.parts[i] for i in deciding],
    )


def row(network: fv.Network, method: Any, sentences: list[Sentence]) -> str:
    """Return the row of a method in the table."""
    results = []
    started = time.perf_counter()
    for sentence in sentences:
        found = fv.explain(network, sentence.text, fv.objectives.Logit(sentence.label), method)
        results.append(measured(found.map.flatten()[-len(sentence.words) :], sentence))
    ms = 1e3 * (time.perf_counter() - started) / len(sentences)
    negated = [one.opposite for one in results if one.opposite is not None]
    pairs = torch.tensor([pair for one in results for pair in zip(one.found, one.truth, strict=True)]).T
    sums = torch.corrcoef(pairs)[0, 1].item()
    share, points = (sum(values) / len(results) for values in ([r.share for r in results], [r.points for r in results]))
    return f"{share:7.2f}{points:8.2f}{sum(negated) / len(negated):10.2f}{sums:6.2f}{ms:7.1f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="number of sentences (default: %(default)s)")
    parser.add_argument("--only", default="", help="part of a method's name")
    options = parser.parse_args()
    sentences = draw(options.count, torch.Generator().manual_seed(11), held_out=True)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.count} sentences")
    for name in TEXT_NETWORKS:
        network = fv.load(name, device="cpu")
        relations = {one: solved(network.embedding.weight.detach(), each) for one, each in analogies().items()}
        print(f"\nanalogies of {name}: " + ", ".join(f"{one} {value:.2f}" for one, value in relations.items()))
        print(f"{name:25}  share  points  opposite  sums     ms")
        for one, method in METHODS.items():
            if options.only in one:
                try:
                    print(f"{one:25}{row(network, method, sentences)}", flush=True)
                except fv.SettingError as error:
                    print(f"{one:25}{error}")


if __name__ == "__main__":
    main()
