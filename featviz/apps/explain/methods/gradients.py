"""Methods that go back through the network to the pixels: the gradient, and what was made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.request import Found, Method, Question
from featviz.network import Rectifying

AT_ONCE = 32
"""Copies of images that the network sees at once."""
PATCHES = 5
"""Of a blurred image so many colours are left along the shorter side."""
BASELINES = ("zero", "blur", "mean")
KINDS = ("smoothgrad", "smoothgrad_sq", "vargrad")


@dataclass(frozen=True)
class Gradient:
    """Class saliency: how much the score changes with each pixel.

    Args:
        absolute: give sizes, the largest of each pixel's channels; otherwise signs stay, and channels are added up.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 3.1.
    """

    absolute: bool = True

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        with question.open() as ask:
            captum = _captum().Saliency(lambda seen: ask(seen)[:, 0])
            channels = captum.attribute(images.requires_grad_(), abs=self.absolute)
        return Found(channels.amax(1) if self.absolute else channels.sum(1), channels)


@dataclass(frozen=True)
class InputXGradient:
    """Gradient times input: what each pixel adds to the score of a network that is linear nearby.

    Source: Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713.
    Differs: inputs are taken from the network's mean, which is 0 to the network.
    """

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        mean = _mean(question.network, images)
        with question.open() as ask:
            captum = _captum().InputXGradient(lambda seen: ask(seen + mean)[:, 0])
            channels = captum.attribute((images - mean).requires_grad_())
        return Found(channels.sum(1), channels)


@dataclass(frozen=True)
class DeconvNet:
    """Back through the network as if it were built backwards: what is negative on the way back is dropped.

    Maximum pools put everything back where it came from, which are their switches.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, section 2.1.
    Differs: any rectifier, as module or function, not ReLU modules alone.
    """

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        return _through(question, images, lambda x, unit: unit(x.detach().clone()) + _positive(x - x.detach()))


@dataclass(frozen=True)
class GuidedBackprop:
    """The gradient, without what is negative on the way back.

    Source: Springenberg et al. 2014, https://arxiv.org/abs/1412.6806, section 3.4.
    Differs: any rectifier, as module or function, not ReLU modules alone.
    """

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        return _through(question, images, guided)


@dataclass(frozen=True)
class IntegratedGradients:
    """The gradient along the way from a baseline to the image, which adds up to what the score rises by on it.

    Args:
        baseline: `"zero"` is black, `"mean"` the network's mean colour, `"blur"` the image's colours alone.
        steps: points on the way; the sum comes nearer with more.

    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    """

    baseline: str = "mean"
    steps: int = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.baseline not in BASELINES or self.steps < 1:
            raise fv.SettingError(
                f"no baseline {self.baseline!r} with {self.steps} steps; give {', '.join(BASELINES)}, and 1 or more"
            )

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        start = _baseline(self.baseline, question.network, images)
        with question.open() as ask, torch.enable_grad():
            captum = _captum().IntegratedGradients(lambda seen: ask(seen)[:, 0])
            settings = {"n_steps": self.steps, "internal_batch_size": max(AT_ONCE, len(images))}
            channels = captum.attribute(images.requires_grad_(), start, **settings).float()
            with torch.no_grad():
                rise = ask(images)[:, 0] - ask(start)[:, 0]
        return Found(channels.sum(1), channels, delta=(channels.sum((1, 2, 3)) - rise) / rise.abs().clamp(min=1e-12))


@dataclass(frozen=True)
class NoiseTunnel:
    """Another method's answers for noisy copies of an image, combine.

    Args:
        method: the other one.
        kind: `"smoothgrad"` is their mean, `"smoothgrad_sq"` that of their squares, `"vargrad"` their variance.
        samples: copies.
        noise: deviation, in [0, 1] as the images are.
        seed: of the noise.

    Source: Smilkov et al. 2017, https://arxiv.org/abs/1706.03825; Adebayo et al. 2018 for the variance.
    Differs: captum's draws from everyone's chance; this one has its own. Sizes are averaged, as captum's `Saliency`
        gives them; with `Gradient(absolute=False)` it is signed gradients, as the paper writes.
    """

    method: Method = field(default_factory=Gradient)
    kind: str = "smoothgrad"
    samples: int = 16
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if isinstance(self.method, str | type) or not hasattr(self.method, "find"):
            raise fv.SettingError(f"{self.method!r} is no method; write it as a call, NoiseTunnel(GradCAM())")
        if self.kind not in KINDS or self.samples < 1 or self.noise < 0:
            found = f"no {self.kind!r} of {self.samples} samples with noise {self.noise}"
            raise fv.SettingError(f"{found}; give {', '.join(KINDS)}, 1 or more, and 0 or more")

    def find(self, question: Question, images: Float[Tensor, "n c h w"]) -> Found:
        """Answer a question about images in [0, 1]."""
        chance = torch.Generator().manual_seed(self.seed)
        total = squares = torch.zeros(())
        for _ in range(self.samples):
            noise = torch.randn(images.shape, generator=chance).to(images)
            found = self.method.find(question, images + self.noise * noise).map.double()
            total, squares = total + found, squares + found.square()
        mean, square = total / self.samples, squares / self.samples
        kinds = {"smoothgrad": mean, "smoothgrad_sq": square, "vargrad": (square - mean.square()).clamp(min=0)}
        return Found(kinds[self.kind].float())


SMOOTHGRAD = NoiseTunnel()
SMOOTHGRAD_SQUARED = NoiseTunnel(kind="smoothgrad_sq")
VARGRAD = NoiseTunnel(kind="vargrad")


def _captum() -> Any:
    """Load captum.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise fv.SettingError("captum is not installed; run: pip install 'featviz[explain]'") from error
    return captum.attr


def _mean(network: fv.Network, images: Tensor) -> Tensor:
    return torch.tensor(network.input.mean, device=images.device).view(-1, 1, 1)


def _baseline(kind: str, network: fv.Network, images: Tensor) -> Tensor:
    if kind == "zero":
        return torch.zeros_like(images)
    if kind == "mean":
        return _mean(network, images).expand_as(images).clone()
    height, width = images.shape[-2:]
    few = [max(1, round(PATCHES * side / min(height, width))) for side in (height, width)]
    small = F.interpolate(images.detach(), few, mode="bilinear", antialias=True)
    return F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


def _through(question: Question, images: Tensor, instead: Callable[[Tensor, Any], Tensor]) -> Found:
    """Go back to the pixels through other rectifiers."""
    with question.open() as ask, torch.enable_grad():
        with Rectifying(instead) as mode:
            score = ask(images.requires_grad_())[:, 0]
        if not mode.met:
            found = f"{question.network.label} has no rectifier on the way to {question.target}"
            raise fv.SettingError(f"{found}; Gradient goes with any network")
        (channels,) = torch.autograd.grad(score.sum(), images)
    return Found(channels.sum(1), channels)


def guided(x: Tensor, unit: Callable[[Tensor], Tensor]) -> Tensor:
    """Stand in for a rectifier: the same, but what is negative does not go back."""
    return _positive(unit(x))


def _positive(x: Tensor) -> Tensor:
    """Let only what is positive go back."""
    x.register_hook(lambda gradient: gradient.clamp(min=0))
    return x
