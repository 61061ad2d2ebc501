"""SCOUTER: a slot-attention classifier head, whose slots show the evidence for or against each class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

import featviz as fv
from featviz.apps.explain.request import AttributionMap, AttributionRequest
from featviz.checks import check_flag, check_number
from featviz.errors import shown
from featviz.io import check_output, write
from featviz.network import OUTPUT

SLOT_CHANNELS = 64
"""Number of channels of a slot, and of what it attends to."""
ITERATIONS = 3
"""Number of attention passes in which slots are refined."""
LOGIT_SCALE = 10.0
"""Factor of the logits in the loss: attended values are small, and softmax would stay nearly uniform."""
AREA_WEIGHT = 1.0
"""Weight of the mean attention in the loss, which keeps the attended area small."""


class SlotHead(nn.Module):
    """A classifier head with one attention slot per class over the positions of a layer.

    Slot attention: a slot's query is compared with the key of each position; the sigmoid is the attention. The attended
    values are summed, and a GRU updates the slot. The logit of a class is the sum of what its slot has collected.

    Args:
        channels: Number of channels of the layer.
        classes: Number of classes.
        sign: 1 for slots that collect evidence for a class, -1 for evidence against it.
        seed: Seed of the initial weights.

    Source: Li et al. 2021, https://arxiv.org/abs/2009.06138, section 3.
    Differs: the position encoding is a linear layer on the coordinates.
    """

    def __init__(self, channels: int, classes: int, sign: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.sign = sign
        # On the meta device no initial weights are drawn, so the global random state is not touched.
        with torch.device("meta"):
            self.project = nn.Linear(channels, SLOT_CHANNELS)
            self.position = nn.Linear(4, SLOT_CHANNELS)
            self.key = nn.Sequential(
                nn.Linear(SLOT_CHANNELS, SLOT_CHANNELS), nn.ReLU(), nn.Linear(SLOT_CHANNELS, SLOT_CHANNELS)
            )
            self.query = nn.Linear(SLOT_CHANNELS, SLOT_CHANNELS)
            self.slots = nn.Parameter(torch.empty(classes, SLOT_CHANNELS))
            self.memory = nn.GRUCell(SLOT_CHANNELS, SLOT_CHANNELS)
        self.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                bound = 1 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.0
                weight.uniform_(-bound, bound, generator=generator)
            self.slots.mul_(4)

    def forward(
        self, maps: Float[Tensor, "n channel rows columns"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n classes rows columns"]]:
        """Return the logits, and the attention of each class's slot, in [0, 1].

        Args:
            maps: Activations of the layer.
        """
        n, _, rows, columns = maps.shape
        values = self.project(maps.flatten(2).transpose(1, 2)).relu()
        y, x = torch.meshgrid(
            *(torch.linspace(0, 1, side, device=maps.device) for side in (rows, columns)), indexing="ij"
        )
        keys = self.key(values + self.position(torch.stack([y, x, 1 - y, 1 - x], -1).flatten(0, 1)))
        slots = self.slots.expand(n, -1, -1)
        collected, attention = slots, keys
        for _ in range(ITERATIONS):
            attention = (self.query(slots) @ keys.transpose(1, 2) / SLOT_CHANNELS**0.5).sigmoid()
            collected = attention @ values / values.shape[1]
            slots = self.memory(collected.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return self.sign * collected.sum(2), attention.unflatten(2, (rows, columns))


@dataclass(frozen=True)
class Scouter:
    """Attention of a class's slot, in a head trained by `train_scouter`.

    Formula: map = ± attention(y, x) · Σ_k v_k(y, x), with the values v that the slot collects: exactly the terms of the
    logit. Good for explanations that are what the classification is made of, including evidence against a class; needs
    training, and explains the head rather than the network's own.

    Args:
        head: File of the head.
        support: Multiply the attention by the values, which gives the terms of the logit. If false, show the attention.

    Raises:
        SettingError: `head` is no path, or `support` is not `True` or `False`.

    Source: Li et al. 2021, https://arxiv.org/abs/2009.06138.
    """

    head: str | Path
    support: bool = True

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.head, str | Path):
            raise fv.SettingError(f"head of Scouter must be a file of train_scouter, got {shown(self.head)}")
        check_flag("support of Scouter", self.support)

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c h w"]) -> AttributionMap:
        """Return the attention of the class's slot; negative for a head of evidence against classes.

        Raises:
            SettingError: The target is not a class, or the head is missing or does not fit the network.
        """
        network, target = request.network, request.target
        if not isinstance(target, fv.objectives.Logit | fv.objectives.Probability):
            raise fv.SettingError(f"Scouter needs a class as target, got {target}; use GradCAM")
        if len(request.size) != 2:
            raise fv.SettingError(f"Scouter explains images, and {network.label} reads inputs of size {network.size}")
        head, layer = read_head(self.head)
        with torch.no_grad():
            acts = network.capture(images, [layer, OUTPUT])
            maps, index = acts.as_map(layer), acts.class_index(target.name)
            if maps.shape[1] != head.project.in_features or index >= len(head.slots):
                expected = f"{head.project.in_features} channels in {layer!r} and {len(head.slots)} classes"
                raise fv.SettingError(f"the head in {self.head} does not fit {network.label}: it needs {expected}")
            head = head.to(maps.device)
            attention = head(maps)[1][:, index]
            if self.support:
                attention = attention * head.project(maps.movedim(1, -1)).relu().sum(-1)
        return AttributionMap(head.sign * attention)


def train_scouter(
    network: fv.Network,
    layer: str,
    batches: Iterable[tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]],
    output: str | Path,
    *,
    against: bool = False,
    lr: float = 2e-3,
    seed: int = 0,
) -> float:
    """Train a slot-attention head on a layer of a network, which stays as it is.

    Args:
        network: The network.
        layer: Name of the layer at whose positions the slots attend.
        batches: Images in [0, 1], and the class index of each; one optimisation step per batch.
        output: The .safetensors file to write.
        against: Train slots that collect evidence against a class instead of evidence for it.
        lr: Learning rate of AdamW, > 0.
        seed: Seed of the initial weights.

    Returns:
        Accuracy on the last tenth of the batches, each before its own step, in [0, 1].

    Raises:
        AddressError: The layer has no positions.
        SettingError: There are no batches, the network's output is no vector of classes, or an argument is out of its
            range.
        OutputError: The file cannot be written.
    """
    from safetensors.torch import save

    check_output(Path(output), ".safetensors")
    check_number("lr", lr, above=0, note="(default 0.002)")
    check_number("seed", seed, at_least=0, whole=True, note="(default 0)")
    if network.table[OUTPUT].layout.kind != "vector":
        raise fv.SettingError(f"{network.label} must output a vector of classes, got {network.table[OUTPUT].shape}")
    sign = -1 if against else 1
    classes = network.table[OUTPUT].channels
    head: SlotHead | None = None
    accuracy: list[float] = []
    for images, labels in batches:
        with torch.no_grad():
            maps = network.capture(images, [layer]).as_map(layer)
        if head is None:
            head = SlotHead(maps.shape[1], classes, sign, seed).to(maps.device)
            optimizer = torch.optim.AdamW(head.parameters(), lr)
        with torch.enable_grad():
            logits, attention = head(maps)
            labels = labels.to(logits.device)
            loss = F.cross_entropy(logits * LOGIT_SCALE, labels) + AREA_WEIGHT * attention.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy.append((logits.argmax(1) == labels).float().mean().item())
    if head is None:
        raise fv.SettingError("batches must not be empty; give tuples of images and class indices")
    about = {"layer": layer, "sign": sign, "channels": head.project.in_features, "classes": classes}
    state = {name: value.cpu().contiguous() for name, value in head.state_dict().items()}
    write(Path(output), save(state, metadata={key: str(value) for key, value in about.items()}))
    last = accuracy[-max(1, len(accuracy) // 10) :]
    return sum(last) / len(last)


def read_head(file: str | Path) -> tuple[SlotHead, str]:
    """Read a head that `train_scouter` has written, and the name of the layer that it reads.

    Raises:
        SettingError: The file is missing, or does not hold such a head.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            about: dict[str, Any] = opened.metadata() or {}
            head = SlotHead(int(about["channels"]), int(about["classes"]), int(about["sign"]))
            head.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        hint = "train one with fv.methods.train_scouter"
        raise fv.SettingError(f"cannot read {file} as a SCOUTER head; {hint}") from error
    return head.eval().requires_grad_(False), about["layer"]
