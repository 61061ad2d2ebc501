"""Attribution methods: how much each pixel or position contributes to a score."""

from featviz.apps.explain.methods.attention import Attention, Rollout
from featviz.apps.explain.methods.cams import CAM, GradCAM, GuidedGradCAM
from featviz.apps.explain.methods.clear import CLEAR, ClassAttention
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
from featviz.apps.explain.methods.lrp import LRP
from featviz.apps.explain.methods.scouter import Scouter, train_scouter

SYNONYMS = {
    "attentionrollout": "Rollout", "classactivationmap": "CAM", "deconvolution": "DeconvNet", "gradients": "Gradient",
    "gradientxinput": "InputXGradient", "gradxinput": "InputXGradient", "guidedbackpropagation": "GuidedBackprop",
    "ig": "IntegratedGradients", "inputtimesgradient": "InputXGradient", "layerwiserelevancepropagation": "LRP",
    "saliency": "Gradient", "vanillagradient": "Gradient", "vanillagradients": "Gradient",
}  # fmt: skip
"""Other names in the literature, in lower case and without hyphens."""

__all__ = [
    "CAM", "CLEAR", "LRP", "SMOOTHGRAD", "SMOOTHGRAD_SQUARED", "VARGRAD", "Attention", "ClassAttention", "DeconvNet",
    "GradCAM", "Gradient", "GuidedBackprop", "GuidedGradCAM", "InputXGradient", "IntegratedGradients", "NoiseTunnel",
    "Rollout", "Scouter", "train_scouter",
]  # fmt: skip
