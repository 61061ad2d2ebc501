"""Train a TopK sparse autoencoder on activations, with free atoms or with archetypal ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.dictionaries.activations import CollectedActivations
from featviz.apps.dictionaries.factorise import k_means
from featviz.io import write_cached
from featviz.network.dictionaries import from_autoencoder

BATCH = 1024
"""Number of rows per step."""
LEARNING_RATE = 5e-4
"""Of Adam."""
REVIVAL = 1e-3
"""Weight of the mean `pre` of features that are off in the whole batch, which raises them.

Source: overcomplete, the loss of its example of archetypal autoencoders.
"""
RELAXATION = 1.0
"""Largest distance of an archetypal atom from the convex hull of the centres. Source: Fel et al. 2025, delta."""
CENTRES_PER_FEATURE = 2
"""Number of centres of k-means per archetypal atom."""
CENTRE_ROWS = 20_000
"""Largest number of rows of which the centres are computed."""
SAVE_INTERVAL = 500
"""Number of steps after which the state is saved."""


@dataclass(frozen=True)
class Training:
    """How an autoencoder is trained.

    Args:
        features: Number of features.
        k: Number of codes above 0 at a position.
        steps: Number of steps.
        seed: Seed of the first atoms and of the batches.
        archetypal: Whether atoms are mixtures of centres plus a relaxation.
    """

    features: int
    k: int
    steps: int
    seed: int
    archetypal: bool


class Autoencoder:
    """The parameters of a TopK autoencoder of standardised activations, and its loss.

    Args:
        training: How it is trained.
        first: Rows from which the atoms start, standardised; one per feature.
        centres: Of an archetypal one, the centres; `None` for free atoms.
    """

    def __init__(
        self, training: Training, first: Float[Tensor, "features channels"], centres: Float[Tensor, "m channels"] | None
    ) -> None:
        self.k, self.centres = training.k, centres
        unit = F.normalize(first, dim=1)
        self.parameters: dict[str, Tensor] = {"encoder": unit.clone(), "bias": torch.zeros(len(first))}
        if centres is None:
            self.parameters |= {"atoms": unit.clone(), "offset": torch.zeros(first.shape[1])}
        else:
            self.parameters |= {
                "mixture": torch.eye(len(first), len(centres), device=first.device),
                "relaxation": torch.zeros_like(first),
                # Atoms have mean length 1, like the encoder's rows; otherwise the first steps only adapt the scale.
                "multiplier": -centres.norm(dim=1).mean().clamp(min=1e-12).log().cpu(),
                "offset": torch.zeros(first.shape[1]),
            }
        self.parameters = {name: each.to(first.device).requires_grad_() for name, each in self.parameters.items()}

    def atoms(self) -> Float[Tensor, "features channels"]:
        """Return the rows of the decoder."""
        if self.centres is None:
            return self.parameters["atoms"]
        mixed = self.parameters["mixture"] @ self.centres + self.parameters["relaxation"]
        return mixed * self.parameters["multiplier"].exp()

    def loss(self, x: Float[Tensor, "n channels"]) -> Tensor:
        """Return the mean squared error, less the revival of features that are off in the batch."""
        pre = (x - self.parameters["offset"]) @ self.parameters["encoder"].T + self.parameters["bias"]
        top = pre.topk(self.k, dim=1)
        codes = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
        error = (codes @ self.atoms() + self.parameters["offset"] - x).square().mean()
        off = (codes > 0).sum(0) == 0
        return error - REVIVAL * (pre * off).mean()

    @torch.no_grad()
    def constrain(self) -> None:
        """Scale free atoms to unit length; project the mixtures and the relaxation of archetypal ones."""
        if self.centres is None:
            self.parameters["atoms"].copy_(F.normalize(self.parameters["atoms"], dim=1))
            return
        mixture, relaxation = self.parameters["mixture"], self.parameters["relaxation"]
        mixture.clamp_(min=0)
        mixture /= mixture.sum(1, keepdim=True) + 1e-8
        relaxation *= (RELAXATION / relaxation.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)

    @torch.no_grad()
    def dictionary(self, mean: Float[Tensor, " channels"], scale: float) -> fv.Dictionary:
        """Return the dictionary of the activations before they were standardised.

        With `x = mean + scale · y`, codes of the standardised `y` are multiplied by the scale, which `relu` allows.
        """
        found = {name: each.detach().cpu() for name, each in self.parameters.items()}
        offset = mean + scale * found["offset"]
        atoms = self.atoms().cpu()
        return from_autoencoder("topk", found["encoder"], atoms, scale * found["bias"], offset, k=self.k)


def train(
    data: CollectedActivations,
    training: Training,
    device: torch.device,
    state: Path,
    progress: Callable[[int, int], None] | None,
) -> fv.Dictionary:
    """Train an autoencoder. An interrupted run continues where its state was last saved, with the same result.

    Args:
        data: The activations.
        training: How it is trained.
        device: Where.
        state: File of the state.
        progress: Called after each step with the number of steps done and their total.

    Returns:
        The dictionary.

    Source: Gao et al. 2024, https://arxiv.org/abs/2406.04093; Fel et al. 2025, https://arxiv.org/abs/2502.12892.
    Differs: atoms start at activations, archetypal ones at the same centres for every seed; activations are
        standardised by one mean and one scale; atoms of archetypal dictionaries have a mean length of 1 at the start.
    """
    sample = data.some(max(CENTRE_ROWS, training.features), seed=0)
    mean = sample.mean(0)
    scale = (sample - mean).square().mean().sqrt().clamp(min=1e-12).item()
    standard = (sample - mean) / scale
    if training.archetypal:
        centres = k_means(standard, min(CENTRES_PER_FEATURE * training.features, len(standard)), seed=0).to(device)
        first = centres[: training.features]
    else:
        generator = torch.Generator().manual_seed(training.seed)
        drawn = torch.randperm(len(standard), generator=generator)[: training.features]
        centres, first = None, standard[drawn].to(device)
    model = Autoencoder(training, first, centres)
    optimizer = torch.optim.Adam(model.parameters.values(), LEARNING_RATE)
    done = _restore(model, optimizer, state)
    for step in range(done, training.steps):
        picks = torch.Generator().manual_seed((training.seed + 1) * 10_000_019 + step)
        x = (data.take(torch.randint(data.rows, (min(BATCH, data.rows),), generator=picks)) - mean) / scale
        with torch.enable_grad():
            loss = model.loss(x.to(device))
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        model.constrain()
        if (step + 1) % SAVE_INTERVAL == 0:
            _save(model, optimizer, state, step + 1)
        if progress:
            progress(step + 1, training.steps)
    return model.dictionary(mean, scale)


def _save(model: Autoencoder, optimizer: torch.optim.Adam, file: Path, step: int) -> None:
    """Save the parameters and the moments of Adam."""
    from safetensors.torch import save

    tensors = {name: each.detach() for name, each in model.parameters.items()}
    for name, each in model.parameters.items():
        tensors |= {f"{name}/{kind}": optimizer.state[each][kind] for kind in ("exp_avg", "exp_avg_sq", "step")}
    write_cached(file, save({name: each.contiguous() for name, each in tensors.items()}, {"step": str(step)}))


def _restore(model: Autoencoder, optimizer: torch.optim.Adam, file: Path) -> int:
    """Read the state that `_save` wrote; return the number of steps done, 0 without a readable state."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            step = int((opened.metadata() or {})["step"])
            tensors: Mapping[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if any(tensors[name].shape != each.shape for name, each in model.parameters.items()):
            return 0
        moments = {
            name: {kind: tensors[f"{name}/{kind}"].clone() for kind in ("exp_avg", "exp_avg_sq", "step")}
            for name in model.parameters
        }
    except (OSError, SafetensorError, KeyError, ValueError):
        return 0
    for name, each in model.parameters.items():
        with torch.no_grad():
            each.copy_(tensors[name])
        optimizer.state[each] = {
            kind: value if kind == "step" else value.to(each) for kind, value in moments[name].items()
        }
    return step
