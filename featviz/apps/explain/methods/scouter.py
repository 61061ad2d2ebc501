"""SCOUTER: a head whose every class has a slot that gathers what speaks for it, or against it."""

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
from featviz.apps.explain.request import Found, Question
from featviz.io import check_output, write

WIDTH = 64
"""Channels of a slot."""
ROUNDS = 3
"""How often slots look."""
LOUD = 10.0
"""What slots gather is small; the loss sees it so many times larger."""
AREA = 1.0
"""How much it counts that a slot looks at little."""


class SlotHead(nn.Module):
    """Classify by what each class's slot gathers from the places of a layer.

    Args:
        channels: of the layer.
        classes: how many.
        sign: 1 for a head whose slots gather what speaks for a class, -1 for what speaks against it.
        seed: of the first weights.

    Source: Li et al. 2021, https://arxiv.org/abs/2009.06138, section 3.
    Differs: positions are coordinates, brought to the slots' width by a linear layer.
    """

    def __init__(self, channels: int, classes: int, sign: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.sign = sign
        with torch.device("meta"):  # the weights are drawn below, from a chance of their own
            self.project = nn.Linear(channels, WIDTH)
            self.position = nn.Linear(4, WIDTH)
            self.key = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
            self.query = nn.Linear(WIDTH, WIDTH)
            self.slots = nn.Parameter(torch.empty(classes, WIDTH))
            self.memory = nn.GRUCell(WIDTH, WIDTH)
        self.to_empty(device="cpu")
        chance = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in self.parameters():
                bound = 1 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.0
                weight.uniform_(-bound, bound, generator=chance)
            self.slots.mul_(4)

    def forward(
        self, maps: Float[Tensor, "n channel rows columns"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n classes rows columns"]]:
        """Return logits, and where each class's slot looked."""
        n, _, rows, columns = maps.shape
        values = self.project(maps.flatten(2).transpose(1, 2)).relu()
        y, x = torch.meshgrid(
            *(torch.linspace(0, 1, side, device=maps.device) for side in (rows, columns)), indexing="ij"
        )
        keys = self.key(values + self.position(torch.stack([y, x, 1 - y, 1 - x], -1).flatten(0, 1)))
        slots = self.slots.expand(n, -1, -1)
        gathered, shares = slots, keys
        for _ in range(ROUNDS):
            shares = (self.query(slots) @ keys.transpose(1, 2) / WIDTH**0.5).sigmoid()
            gathered = shares @ values / values.shape[1]
            slots = self.memory(gathered.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
        return self.sign * gathered.sum(2), shares.unflatten(2, (rows, columns))


@dataclass(frozen=True)
class Scouter:
    """Where the slot of a class looks, in a head that `train_scouter` made.

    Args:
        head: the file that it wrote.
        support: weigh each place by what the slot gathers there, not by where it looks alone.

    Source: Li et al. 2021, https://arxiv.org/abs/2009.06138.
    """

    head: str | Path
    support: bool = True

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        target = question.target
        if not isinstance(target, fv.objectives.Logit | fv.objectives.Probability):
            raise fv.SettingError(f"Scouter explains a class, not {target}; GradCAM explains anything")
        head, layer = read_head(self.head)
        with torch.no_grad():
            acts = question.network.capture(images, [layer, ""])
            maps, index = acts.places(layer), acts.class_index(target.name)
            if maps.shape[1] != head.project.in_features or index >= len(head.slots):
                raise fv.SettingError(f"the head in {self.head} is for another network than {question.network.label}")
            head = head.to(maps.device)
            shares = head(maps)[1][:, index]
            if self.support:
                shares = shares * head.project(maps.movedim(1, -1)).relu().sum(-1)
        return Found(head.sign * shares)


def train_scouter(
    network: fv.Network,
    layer: str,
    batches: Iterable[tuple[Float[Tensor, "n c h w"], Int[Tensor, " n"]]],
    output: str | Path,
    *,
    against: bool = False,
    rate: float = 2e-3,
    seed: int = 0,
) -> float:
    """Train a slot head on a layer of a network that stays as it is.

    Args:
        network: what looks at the images.
        layer: whose places the slots look at.
        batches: images in [0, 1], and their classes.
        output: the .safetensors file to write.
        against: let slots gather what speaks against a class.
        rate: learning rate of AdamW.
        seed: of the first weights.

    Returns:
        How many of the last tenth of the images it got right, as a share.

    Raises:
        AddressError: the layer has no places.
        SettingError: there are no batches.
        OutputError: the file cannot be written.
    """
    from safetensors.torch import save

    check_output(Path(output), ".safetensors")
    sign = -1 if against else 1
    classes = network.table[""].channels
    head: SlotHead | None = None
    right: list[float] = []
    for images, labels in batches:
        with torch.no_grad():
            maps = network.capture(images, [layer]).places(layer)
        if head is None:
            head = SlotHead(maps.shape[1], classes, sign, seed).to(maps.device)
            optimizer = torch.optim.AdamW(head.parameters(), rate)
        with torch.enable_grad():
            logits, shares = head(maps)
            labels = labels.to(logits.device)
            loss = F.cross_entropy(logits * LOUD, labels) + AREA * shares.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right.append((logits.argmax(1) == labels).float().mean().item())
    if head is None:
        raise fv.SettingError("there are no batches to train on")
    about = {"layer": layer, "sign": sign, "channels": head.project.in_features, "classes": classes}
    state = {name: value.cpu().contiguous() for name, value in head.state_dict().items()}
    write(Path(output), save(state, metadata={key: str(value) for key, value in about.items()}))
    last = right[-max(1, len(right) // 10) :]
    return sum(last) / len(last)


def read_head(file: str | Path) -> tuple[SlotHead, str]:
    """Read a head, and the layer that it looks at.

    Raises:
        SettingError: the file is missing, or no head.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            about: dict[str, Any] = opened.metadata() or {}
            head = SlotHead(int(about["channels"]), int(about["classes"]), int(about["sign"]))
            head.load_state_dict({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise fv.SettingError(f"no head of train_scouter in {file}") from error
    return head.eval().requires_grad_(False), about["layer"]
