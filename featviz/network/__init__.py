"""A module, what it expects and what is inside it."""

from featviz.network.gradients import Rectifying
from featviz.network.layers import LayerTable
from featviz.network.load import find, load, models
from featviz.network.network import Network, See
from featviz.network.together import together

__all__ = ["LayerTable", "Network", "Rectifying", "See", "find", "load", "models", "together"]
