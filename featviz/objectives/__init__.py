"""What to maximise. Open this drawer, take a unit, compose it with `+ - * /`, or decorate a function of your own."""

from featviz.activations import OUTPUT
from featviz.objectives.core import Objective, objective
from featviz.objectives.text import parse
from featviz.objectives.units import Channel, Layer, Logit, Neuron, Probability

__all__ = ["OUTPUT", "Channel", "Layer", "Logit", "Neuron", "Objective", "Probability", "objective", "parse"]
