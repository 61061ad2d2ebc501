"""Concept activation vectors: the direction of a layer that separates photographs of a concept from others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.concepts.classify import SPLITS, fit_direction, held_out_accuracy, random_accuracies
from featviz.apps.concepts.photographs import activations_of
from featviz.apps.concepts.sensitivity import concept_sensitivity
from featviz.apps.shared.arguments.targets import Target
from featviz.checks import check_flag, check_kind, check_seed
from featviz.engine import check_path, entry_point
from featviz.io import auto_bar
from featviz.network import LayerLike


@dataclass(frozen=True, repr=False)
class Concept:
    """A concept activation vector: the direction of a layer in which photographs of a concept differ from others.

    Make one with `fv.Concept.from_photographs`, or read one with `fv.Concept.load`.

    - As an objective: `concept.objective()`.
    - As a feature, in every function and command: `network.with_dictionary(concept.layer, concept.dictionary)` or
      `--dictionary concept.safetensors`, and then the address `layer~0`. Its code is the distance of the activations
      from the plane that separates the photographs, > 0 on the side of the concept.

    Args:
        dictionary: A dictionary of kind `"probe"` with one feature, which names its layer.

    Raises:
        SettingError: `dictionary` is of another kind.

    Source: Kim et al. 2018, https://arxiv.org/abs/1711.11279.
    Differs: one number per channel instead of one per channel and position, so that the concept may be anywhere.
    """

    dictionary: fv.Dictionary

    def __post_init__(self) -> None:
        """Check the dictionary."""
        check_kind("dictionary", self.dictionary, fv.Dictionary, "use fv.Concept.from_photographs(...)")
        kind, features = self.dictionary.kind, self.dictionary.features
        if kind != "probe" or features != 1 or not self.dictionary.layer:
            where = f"of layer {self.dictionary.layer!r}" if self.dictionary.layer else "that names no layer"
            raise fv.SettingError(
                f"a concept is a dictionary of kind probe with one feature and a layer, got one of kind {kind} with "
                f"{features} {where}; attach it as it is: net.with_dictionary(layer, dictionary)"
            )

    @classmethod
    @entry_point(name="concept", checks={"positive": check_path, "negative": check_path})
    def from_photographs(
        cls,
        network: fv.Network,
        layer: LayerLike,
        positive: str | Path,
        negative: str | Path,
        *,
        per_position: bool = False,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = auto_bar,
        scan_progress: Callable[[int, int], None] | None = auto_bar,
    ) -> Self:
        """Find the direction of a concept from photographs that show it and others that do not.

        The direction is that of a linear classifier. Its accuracy is measured on photographs that are held out, a fifth
        at a time, and compared with that of 50 classifiers of random classes of the same photographs. A concept that
        is not better than all of these is refused: its direction would mean nothing.

        Args:
            network: The network.
            layer: Name of a layer, or the module itself.
            positive: Folder of at least 10 photographs that show the concept.
            negative: Folder of at least 10 other photographs, as like them as possible in everything else.
            per_position: Fit the classifier to single positions (64 of each photograph at most) instead of to the mean
                over positions. The accuracy is that of the mean in both cases.
            seed: Seed of the parts that are held out, the random classes and the positions, in [0, 2**32).
            progress: Called after each classifier of random classes with their number and their total.
            scan_progress: Called with the number of photographs scanned and their total.

        Returns:
            The concept.

        Raises:
            AddressError: There is no such layer.
            SettingError: The classifier is no better than one of random classes, or there are too few photographs.
            OutputError: A folder is missing, or has no image.
        """
        name = _checked_layer(network, layer)
        check_flag("per_position", per_position)
        check_seed(seed)
        data, count = activations_of(
            network, Path(positive), Path(negative), name, per_position=per_position, seed=seed, progress=scan_progress
        )
        is_positive = torch.arange(len(data.means)) < count
        generator = torch.Generator().manual_seed(seed)
        accuracy = held_out_accuracy(data, is_positive, generator)
        chance = random_accuracies(data, is_positive, generator, progress)
        if accuracy <= max(chance):
            raise fv.SettingError(
                f"photographs of {positive} and {negative} cannot be told apart in layer {name!r}: {accuracy:.2f} of "
                f"those held out are recognised, and up to {max(chance):.2f} in {SPLITS} random classes of the same "
                "photographs; give more photographs, or another layer"
            )
        rows, repeats = data.rows_of(torch.ones_like(is_positive))
        vector, bias = fit_direction(rows, is_positive.repeat_interleave(repeats))
        facts = {
            "accuracy": accuracy,
            "random_accuracy": sum(chance) / len(chance),
            "largest_random_accuracy": max(chance),
            "positive": float(count),
            "negative": float(len(is_positive) - count),
        }
        encoder, offset = vector[None], torch.tensor([bias])
        return cls(fv.Dictionary(kind="probe", encoder=encoder, bias=offset, layer=name, facts=facts))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a concept from a file of `save`. No file runs code.

        Args:
            path: The file.

        Returns:
            The concept.

        Raises:
            WeightsError: The file is missing or damaged.
            SettingError: It holds a dictionary that is no concept.
        """
        return cls(fv.Dictionary.load(path))

    def save(self, path: str | Path) -> Path:
        """Write it as a dictionary: a safetensors file with its layer and its accuracy.

        Args:
            path: The file; it ends in .safetensors.

        Returns:
            The path.

        Raises:
            OutputError: The file cannot be written.
        """
        return self.dictionary.save(path)

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.dictionary.layer

    @property
    def vector(self) -> Float[Tensor, " channels"]:
        """The direction, of unit norm."""
        return self.dictionary.encoder[0]

    @property
    def accuracy(self) -> float | None:
        """Mean share of both classes that is recognised, of photographs that are held out; `None` if not measured."""
        return self.dictionary.facts.get("accuracy")

    @property
    def random_accuracy(self) -> float | None:
        """Mean of the accuracies for random classes of the same photographs; `None` if not measured."""
        return self.dictionary.facts.get("random_accuracy")

    def objective(self, power: float = 0.0) -> fv.objectives.Direction:
        """Return the objective that renders the concept. Its recipe holds the numbers, and needs no file.

        Args:
            power: Weight of the angle, as for `objectives.Direction`.
        """
        return fv.objectives.Direction(self.layer, self.vector, power)

    @entry_point
    def sensitivity(
        self,
        network: fv.Network,
        photographs: str | Path,
        target: Target,
        *,
        progress: Callable[[int, int], None] | None = auto_bar,
    ) -> float:
        """Return the TCAV score: the share of photographs in which more of the concept raises a score.

        It is the share with a positive derivative of the score along the direction, at all positions of the layer
        together. Near 1 the target relies on the concept, near 0 on its absence. Compare it with the score of other
        concepts: even a direction without meaning may be far from 0.5.

        Args:
            network: The network.
            photographs: Folder of photographs, such as those of the class of the target.
            target: An address such as `"logit:zebra"`, an objective, or the index of a class.
            progress: Called with the number of photographs scanned and their total.

        Returns:
            The share, in [0, 1].

        Raises:
            AddressError: There is no such layer or class, or the layer has another number of channels.
            SettingError: The layer comes after the target, or does not influence it.
            OutputError: The folder is missing, or has no image that can be read.
        """
        return concept_sensitivity(self.dictionary, network, Path(photographs), target, progress)

    def __repr__(self) -> str:
        """Show the layer and how well it tells photographs apart."""
        facts = self.dictionary.facts
        if self.accuracy is None or self.random_accuracy is None:
            return f"<Concept in {self.layer}: accuracy not measured>"
        return (
            f"<Concept in {self.layer}: accuracy {self.accuracy:.2f} (random {self.random_accuracy:.2f}), "
            f"{facts.get('positive', 0):.0f} photographs and {facts.get('negative', 0):.0f} others>"
        )


def _checked_layer(network: fv.Network, layer: LayerLike) -> str:
    """Return the name of a layer, and check that a dictionary can be attached to it."""
    name = network.name_of(layer)
    if not name:
        raise fv.SettingError("layer must be a layer before the class logits, got the logits; list all: net.layers()")
    base = network.layer(name).base
    if base is not None:
        raise fv.AddressError(f"{name!r} are codes of a dictionary; find the concept in the layer {base!r}")
    return name
