"""Networks: a module, what it expects as input, its layers and their activations."""

from featviz.network.activations import OUTPUT, Activations, Layout
from featviz.network.combining import combine
from featviz.network.execution import Execution
from featviz.network.gradients import Rectifying
from featviz.network.input_spec import InputSpec
from featviz.network.layers import Layer, LayerTable
from featviz.network.loading import find, load, models
from featviz.network.network import Forward, Network

__all__ = [
    "OUTPUT", "Activations", "Execution", "Forward", "InputSpec", "Layer", "LayerTable", "Layout", "Network",
    "Rectifying", "combine", "find", "load", "models",
]  # fmt: skip
