"""Attribution methods: how much each pixel or position contributes to a score."""

from featviz.apps.explain.methods.attention import Attention, GradientRollout, Rollout
from featviz.apps.explain.methods.cams import (
    CAM,
    GradCAM,
    GradCAMPlusPlus,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
)
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
from featviz.apps.explain.methods.masking import RISE, FeatureAblation, Occlusion
from featviz.apps.explain.methods.scouter import Scouter, train_scouter
from featviz.apps.explain.methods.smoothed import Smoothed

SYNONYMS = {
    "ablation": "FeatureAblation", "attentionrollout": "Rollout", "classactivationmap": "CAM", "cheferrollout":
    "GradientRollout", "deconvolution": "DeconvNet", "gradcampp": "GradCAMPlusPlus", "gradients": "Gradient",
    "gradientxinput": "InputXGradient", "gradxinput": "InputXGradient", "guidedbackpropagation": "GuidedBackprop",
    "ig": "IntegratedGradients", "inputtimesgradient": "InputXGradient", "layerwiserelevancepropagation": "LRP",
    "saliency": "Gradient", "vanillagradient": "Gradient", "vanillagradients": "Gradient",
}  # fmt: skip
"""Other names in the literature, in lower case and without hyphens."""

__all__ = [
    "CAM",
    "CLEAR",
    "LRP",
    "RISE",
    "SMOOTHGRAD",
    "SMOOTHGRAD_SQUARED",
    "VARGRAD",
    "Attention",
    "ClassAttention",
    "DeconvNet",
    "FeatureAblation",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientRollout",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCAM",
    "NoiseTunnel",
    "Occlusion",
    "Rollout",
    "ScoreCAM",
    "Scouter",
    "Smoothed",
    "train_scouter",
]  # fmt: skip
