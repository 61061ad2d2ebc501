"""Objectives: units of a network, directions, references and regularizers, which compose with `+ - * /`."""

from featviz.interfaces import Traits
from featviz.network.outputs import OUTPUT
from featviz.objectives.address import Address
from featviz.objectives.algebra import Objective, Unit, objective
from featviz.objectives.batch import Alignment, Diversity, Interpolate
from featviz.objectives.cosine import Cosine
from featviz.objectives.directions import ActivationWeights, Direction, DirectionNeuron, TensorDirection
from featviz.objectives.distribution import MatchDistribution, MatchStatistics
from featviz.objectives.modifiers import Ramp, Within
from featviz.objectives.parser import ObjectiveSource, as_objective, as_objectives, parse
from featviz.objectives.reference import Caricature, Guide, InputDifference, Match, Style
from featviz.objectives.regularizers import L1, L2, Blur, BoundaryComplexity, Opacity, TotalVariation
from featviz.objectives.spectrum import MatchSpectrum
from featviz.objectives.text import Text
from featviz.objectives.units import Channel, Layer, Logit, Neuron, Probability

__all__ = [
    "L1", "L2", "OUTPUT", "ActivationWeights", "Address", "Alignment", "Blur", "BoundaryComplexity", "Caricature",
    "Channel", "Cosine", "Direction", "DirectionNeuron", "Diversity", "Guide", "InputDifference", "Interpolate",
    "Layer", "Logit", "Match", "MatchDistribution", "MatchSpectrum", "MatchStatistics", "Neuron", "Objective",
    "ObjectiveSource", "Opacity", "Probability", "Ramp", "Style", "TensorDirection", "Text", "TotalVariation", "Traits",
    "Unit", "Within",
    "as_objective", "as_objectives", "objective", "parse",
]  # fmt: skip
