"""What to maximise. Open this drawer, take a unit, compose it with `+ - * /`, or decorate a function of your own."""

from featviz.activations import OUTPUT
from featviz.objectives.batch import Alignment, Diversity, Interpolate
from featviz.objectives.canvas import L1, L2, Blur, BoundaryComplexity, Opacity, TotalVariation
from featviz.objectives.core import Objective, objective
from featviz.objectives.directions import ActivationWeights, Direction, DirectionNeuron, TensorDirection
from featviz.objectives.modifiers import Ramp, Within
from featviz.objectives.reference import Caricature, Guide, InputDifference, Match, Style
from featviz.objectives.text import parse
from featviz.objectives.units import Channel, Layer, Logit, Neuron, Probability

__all__ = [
    "L1", "L2", "OUTPUT", "ActivationWeights", "Alignment", "Blur", "BoundaryComplexity", "Caricature", "Channel",
    "Direction", "DirectionNeuron", "Diversity", "Guide", "InputDifference", "Interpolate", "Layer", "Logit", "Match",
    "Neuron", "Objective", "Opacity", "Probability", "Ramp", "Style", "TensorDirection", "TotalVariation", "Within",
    "objective", "parse",
]  # fmt: skip
