"""The network that ships in the package, so that the first picture needs no download."""

from __future__ import annotations

from pathlib import Path

from featviz.network.motifnet.draw import draw
from featviz.network.motifnet.motifs import MOTIFS
from featviz.network.motifnet.net import MEAN, SIZE, STD, MotifNet
from featviz.network.network import Network

__all__ = ["MOTIFS", "MotifNet", "draw", "network"]

WEIGHTS = Path(__file__).with_name("motifnet.safetensors")


def network(*, trained: bool = True) -> Network:
    """Build motifnet.

    Args:
        trained: `False` leaves its weights random.
    """
    from safetensors.torch import load_file

    module = MotifNet(len(MOTIFS)).eval()
    if trained:
        module.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS).items()})
    return Network(module, size=SIZE, mean=MEAN, std=STD, classes=MOTIFS, name="motifnet", weights="default")
