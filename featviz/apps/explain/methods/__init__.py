"""Methods of attribution: which pixels, or places, made a network score so high."""

from featviz.apps.explain.methods.cams import CAM, GradCAM, GuidedGradCAM
from featviz.apps.explain.methods.classes import CLEAR, ClassAttention
from featviz.apps.explain.methods.gradients import (
    SMOOTHGRAD,
    SMOOTHGRAD_SQUARED,
    VARGRAD,
    DeconvNet,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
)
from featviz.apps.explain.methods.relevance import LRP
from featviz.apps.explain.methods.slots import Scouter
from featviz.apps.explain.methods.tokens import Attention, Rollout

__all__ = [
    "CAM", "CLEAR", "LRP", "SMOOTHGRAD", "SMOOTHGRAD_SQUARED", "VARGRAD", "Attention", "ClassAttention", "DeconvNet",
    "GradCAM", "Gradient", "GuidedBackprop", "GuidedGradCAM", "InputXGradient", "IntegratedGradients", "NoiseTunnel",
    "Rollout", "Scouter",
]  # fmt: skip
