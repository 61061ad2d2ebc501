"""Methods that propagate gradients back to the pixels: the gradient itself, and variants of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

import featviz as fv
from featviz.apps.explain.request import AttributionMap, AttributionRequest, Method, check_method, resize_map
from featviz.checks import check_choice, check_flag, check_number
from featviz.io import linear_mode, resize
from featviz.network import Rectifying

INTEGRATION_BATCH = 32
"""Number of interpolated images per batch."""
BLUR_PATCHES = 5
"""Number of pixels along the shorter side to which the blurred baseline reduces an image."""
BASELINES = ("zero", "blur", "mean", "pad")
STATISTICS = ("smoothgrad", "smoothgrad_sq", "vargrad")


@dataclass(frozen=True)
class Gradient:
    """Class saliency: the gradient of the score with respect to each pixel.

    Formula: map = max_c abs(∂score/∂x_c) over the input channels c of a pixel, or Σ_c ∂score/∂x_c with
    `absolute=False`. For a token of text it is the length √(Σ_c (∂score/∂x_c)²) of the gradient in its embedding, whose
    dimensions mean nothing on their own. It shows to which pixels the score is most sensitive. Good as a fast baseline
    for any network; noisy, and it does not show which pixels the score comes from.

    Args:
        absolute: Give magnitudes: the largest of each pixel's channels, or the length of each token's gradient. If
            false, keep signs and sum the channels.

    Source: Simonyan et al. 2013, https://arxiv.org/abs/1312.6034, section 3.1.
    """

    absolute: bool = True

    def __post_init__(self) -> None:
        """Check the setting."""
        check_flag("absolute of Gradient", self.absolute)

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the gradient at each pixel."""
        with request.open() as scorer:
            saliency = captum().Saliency(lambda batch: scorer(batch)[:, 0])
            per_channel = saliency.attribute(images.requires_grad_(), abs=self.absolute)
        if not self.absolute:
            return AttributionMap(per_channel.sum(1), per_channel)
        largest = per_channel.amax(1) if request.network.tokens is None else per_channel.norm(dim=1)
        return AttributionMap(largest, per_channel)


@dataclass(frozen=True)
class InputXGradient:
    """Gradient times input: the contribution of each pixel, as if the network were linear around the image.

    Formula: map = Σ_c (x_c - mean_c) ∂score/∂x_c, over the input channels c of a pixel. Good as a fast estimate with
    signs; noisy where the network is far from linear.

    Source: Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713.
    Differs: the input is measured from the mean of the network's input specification, which is 0 to the module.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the product at each pixel."""
        mean = mean_color(request.network, images)
        with request.open() as scorer:
            # captum multiplies by what it is given, so it is given the images minus the mean.
            product = captum().InputXGradient(lambda batch: scorer(batch + mean)[:, 0])
            per_channel = product.attribute((images - mean).requires_grad_())
        return AttributionMap(per_channel.sum(1), per_channel)


@dataclass(frozen=True)
class DeconvNet:
    """Deconvolutional network: the gradient, but rectifiers pass it back only where it is positive.

    Formula: at a rectifier, gradient_in = ReLU(gradient_out), whatever the input was. Max pooling routes the gradient
    to the maxima (its "switches"), and convolutions are transposed, both as in the gradient. Good to see patterns that
    excite a unit; it shows little about which of several classes is where.

    Source: Zeiler and Fergus 2013, https://arxiv.org/abs/1311.2901, section 2.1.
    Differs: applies to any rectifier, as a module or as a function, not to ReLU modules alone.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the modified gradient at each pixel."""
        return _modified_gradient(request, images, deconvnet_rectifier)


@dataclass(frozen=True)
class GuidedBackprop:
    """Guided backpropagation: the gradient, but rectifiers also block it where it is negative.

    Formula: at a rectifier, gradient_in = ReLU(gradient_out) · rectifier'(input): the gradient's mask and DeconvNet's
    together. Good for sharp drawings of what excites a unit; like an edge detector, it changes little when the
    weights of the upper layers are randomised.

    Source: Springenberg et al. 2014, https://arxiv.org/abs/1412.6806, section 3.4.
    Differs: applies to any rectifier, as a module or as a function, not to ReLU modules alone.
    """

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the modified gradient at each pixel."""
        return _modified_gradient(request, images, guided_rectifier)


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients: the gradient, averaged along the line from a baseline to the image.

    Formula: map = Σ_c (x_c - b_c) ∫₀¹ ∂score/∂x_c(b + t (x - b)) dt, with the baseline b. The map sums to score(x) -
    score(b); `delta` is the error of the numerical integral, and a warning names maps with more than 5 %.
    Good where contributions must add up, for any network; needs many passes, and depends on the baseline.

    Args:
        baseline: `"zero"` for black, or the value 0 of signals and volumes; `"mean"` for the mean colour of the
            network's input specification; `"blur"` for the image reduced to blurred colours. For text, `"zero"` and
            `"mean"` are embeddings of 0, and `"pad"` puts the padding token in place of every token but the special
            ones.
        steps: Number of points of the numerical integral, >= 1. More points reduce `delta`.

    Raises:
        SettingError: An argument is out of its range.

    Source: Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365.
    """

    baseline: str = "mean"
    steps: int = 256

    def __post_init__(self) -> None:
        """Check the settings."""
        check_choice("baseline", self.baseline, BASELINES)
        check_number("steps", self.steps, at_least=1, whole=True, note="(default 256)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the integral at each pixel, and how far the sum misses the score's increase."""
        baseline = _baseline(self.baseline, request.network, images)
        with request.open() as scorer, torch.enable_grad():
            integral = captum().IntegratedGradients(lambda batch: scorer(batch)[:, 0])
            settings = {"n_steps": self.steps, "internal_batch_size": max(INTEGRATION_BATCH, len(images))}
            per_channel = integral.attribute(images.requires_grad_(), baseline, **settings).float()
            with torch.no_grad():
                increase = scorer(images)[:, 0] - scorer(baseline)[:, 0]
        delta = (per_channel.sum(tuple(range(1, per_channel.ndim))) - increase) / increase.abs().clamp(min=1e-12)
        remedy = f"raise steps, now {self.steps}, or choose another baseline"
        return AttributionMap(per_channel.sum(1), per_channel, delta=delta, remedy=remedy)


@dataclass(frozen=True)
class NoiseTunnel:
    """Another method's maps for noisy or shifted copies of an image: their mean, mean square or variance.

    Formula: with maps m_i of the images x + noise · N(0, 1), SmoothGrad is mean(m_i), SmoothGrad squared mean(m_i²),
    VarGrad var(m_i). Good to reduce the noise of gradients, at the cost of one pass per copy.

    With `shift`, each copy is also shifted, and its map is shifted back. That removes the pattern of a transformer's
    patches, and what depends on where they cut an object: see `LRP("attn_lrp")`.

    Args:
        method: The other method.
        kind: `"smoothgrad"` for the mean, `"smoothgrad_sq"` for the mean square, `"vargrad"` for the variance.
        samples: Number of noisy copies, >= 1.
        noise: Standard deviation of the noise, >= 0, on the scale of the images, [0, 1]; for text, in standard
            deviations of its embedding sequence.
        seed: Seed of the noise and the shifts.
        shift: Largest shift of a copy in px, along each axis, >= 0. The edge of the image is repeated. 0 for text.

    Raises:
        SettingError: An argument is out of its range.

    Source: Smilkov et al. 2017, https://arxiv.org/abs/1706.03825; Adebayo et al. 2018,
        https://arxiv.org/abs/1810.03292, for the variance.
    Differs: captum's noise tunnel draws from the global random state; this one has a seed of its own. The mean is that
        of magnitudes, as `Gradient` gives them; for signed gradients, as in the paper, use
        `NoiseTunnel(Gradient(absolute=False))`.
    """

    method: Method = field(default_factory=Gradient)
    kind: str = "smoothgrad"
    samples: int = 16
    noise: float = 0.15
    seed: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        check_method(self.method)
        check_choice("kind", self.kind, STATISTICS)
        check_number("samples", self.samples, at_least=1, whole=True, note="(default 16)")
        check_number("noise", self.noise, at_least=0, note="(default 0.15)")
        check_number("seed of NoiseTunnel", self.seed, at_least=0, whole=True, note="(default 0)")
        check_number("shift of NoiseTunnel", self.shift, at_least=0, whole=True, note="(px, default 0)")

    def attribute(self, request: AttributionRequest, images: Float[Tensor, "n c *size"]) -> AttributionMap:
        """Return the statistic of the noisy maps.

        Raises:
            SettingError: A text is to be shifted.
        """
        if self.shift and request.network.tokens is not None:
            raise fv.SettingError(f"shift must be 0 for text, got {self.shift}; it moves images")
        generator = torch.Generator().manual_seed(self.seed)
        total = squares = torch.zeros(())
        scale = self.noise * (1.0 if request.network.tokens is None else images.detach().std().item())
        for _ in range(self.samples):
            # One draw for all images, so that the map of an image does not depend on the rest of its batch.
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            # Double precision: the variance below is the difference of two nearly equal numbers. On the CPU, because
            # Apple's GPUs have none.
            noisy = self._map(request, images + scale * noise, generator).detach().cpu().double()
            total, squares = total + noisy, squares + noisy.square()
        mean, square = total / self.samples, squares / self.samples
        kinds = {"smoothgrad": mean, "smoothgrad_sq": square, "vargrad": (square - mean.square()).clamp(min=0)}
        return AttributionMap(kinds[self.kind].float().to(images.device))

    def _map(
        self, request: AttributionRequest, images: Float[Tensor, "n c *size"], generator: torch.Generator
    ) -> Float[Tensor, "n *position"]:
        """Return the map of images, which are shifted at random; what the shift moves out of the image is 0."""
        if not self.shift:
            return self.method.attribute(request, images).map
        moves = torch.randint(-self.shift, self.shift + 1, (len(request.size),), generator=generator).tolist()
        shifted = _shifted(images, self.shift, moves, mode="replicate")
        maps = resize_map(self.method.attribute(request, shifted).map.detach(), request.size)
        return _shifted(maps[:, None], self.shift, [-move for move in moves], mode="constant")[:, 0]


SMOOTHGRAD = NoiseTunnel()
"""The mean of the gradients of noisy copies of the image: `smoothgrad` for short."""
SMOOTHGRAD_SQUARED = NoiseTunnel(kind="smoothgrad_sq")
"""The mean of their squares: `smoothgrad_squared` for short."""
VARGRAD = NoiseTunnel(kind="vargrad")
"""Their variance: `vargrad` for short."""


def _shifted(images: Float[Tensor, "n c *size"], most: int, moves: Sequence[int], *, mode: str) -> Tensor:
    """Shift images by whole px along each axis, at most by `most`; `mode` says how `F.pad` fills the margin."""
    padded = F.pad(images, (most, most) * len(moves), mode=mode)
    parts: list[Any] = [
        slice(most - move, most - move + side) for move, side in zip(moves, images.shape[2:], strict=True)
    ]
    return padded[(..., *parts)]


def guided_rectifier(x: Tensor, rectifier: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a rectifier's output whose backward pass is that of guided backpropagation.

    The hook clamps the gradient of the output; autograd then applies the rectifier's own derivative.
    """
    return _pass_positive_gradient(rectifier(x))


def deconvnet_rectifier(x: Tensor, rectifier: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a rectifier's output whose backward pass is that of a DeconvNet.

    The value comes from the detached rectifier. `x - x.detach()` is 0 with derivative 1, so the clamped gradient passes
    whatever the sign of the input was.
    """
    return rectifier(x.detach().clone()) + _pass_positive_gradient(x - x.detach())


def _pass_positive_gradient(x: Tensor) -> Tensor:
    """Set negative gradients of a tensor to 0 in the backward pass."""
    x.register_hook(lambda gradient: gradient.clamp(min=0))
    return x


def _modified_gradient(
    request: AttributionRequest, images: Tensor, replacement: Callable[[Tensor, Any], Tensor]
) -> AttributionMap:
    """Return the gradient at each pixel, with the rectifiers of the network replaced.

    Raises:
        SettingError: The target does not depend on a rectifier.
    """
    with request.open() as scorer, torch.enable_grad():
        with Rectifying(replacement) as mode:
            score = scorer(images.requires_grad_())[:, 0]
        if not mode.count:
            found = f"{request.network.label} has no rectifier, such as ReLU, before {request.target}"
            raise fv.SettingError(f"{found}; use Gradient")
        (per_channel,) = torch.autograd.grad(score.sum(), images)
    return AttributionMap(per_channel.sum(1), per_channel)


def captum() -> Any:
    """Import captum's attribution methods.

    Raises:
        SettingError: captum is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise fv.SettingError("captum is not installed; run: pip install 'featviz[explain]'") from error
    return captum.attr


def mean_color(network: fv.Network, images: Tensor) -> Float[Tensor, "c *ones"]:
    """Return the mean colour of the network's input specification, which is 0 to the module.

    Of signals and volumes it is their mean value, in [0, 1] as their images.

    Args:
        network: The network.
        images: Images whose device the color gets.
    """
    ones = [1] * (images.ndim - 2)
    return network.input.images(torch.tensor(network.input.mean, device=images.device).view(1, -1, *ones))[0]


def _baseline(kind: str, network: fv.Network, images: Float[Tensor, "n c *size"]) -> Float[Tensor, "n c *size"]:
    """Return the images from which integrated gradients start.

    Raises:
        SettingError: There is no such baseline for text, or for images.
    """
    if kind == "zero":
        black = torch.zeros_like(images)
        return black if network.tokens or network.input.axes == "yx" else network.input.images(black)
    if kind == "pad" or (kind == "blur" and network.tokens is not None):
        return _padding(kind, network).to(images).expand_as(images).clone()
    if kind == "mean":
        return mean_color(network, images).expand_as(images).clone()
    size = tuple(images.shape[2:])
    patches = tuple(max(1, round(BLUR_PATCHES * side / min(size))) for side in size)
    if len(size) != 2:  # means of patches, since `resize` samples signals and volumes without antialiasing
        small = F.interpolate(images.detach(), patches, mode="area")
        return F.interpolate(small, size, mode=linear_mode(images))
    return F.interpolate(resize(images.detach(), patches), size, mode="bicubic").clamp(0, 1)


def _padding(kind: str, network: fv.Network) -> Float[Tensor, "1 d 1 length"]:
    """Return the embedding sequence of a text whose tokens are padding, except for the special ones.

    Raises:
        SettingError: The network reads images or has no padding token, or this is not the baseline.
    """
    if network.tokens is None:
        raise fv.SettingError(f"baseline 'pad' is for text, and {network.label} reads images; use 'mean'")
    if kind != "pad":
        raise fv.SettingError(f"baseline must be 'zero', 'mean' or 'pad' for text, got {kind!r}")
    pad = network.tokens.pad
    if pad is None:
        raise fv.SettingError(f"baseline 'pad' needs a padding token, and {network.label} has none; use 'zero'")
    return network.embed([each if each in network.tokens.special else pad for each in network.ids])
