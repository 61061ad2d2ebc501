"""The statistics that batch-norm layers kept of the training data."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_statistics(
    module: nn.Module, layer: str
) -> tuple[Float[Tensor, " channel"], Float[Tensor, " channel"]] | None:
    """Return the mean and the standard deviation that the output of a batch-norm layer had over the training data.

    The input had the running mean and variance, so the output has the mean beta and the magnitude of gamma as
    its standard deviation, up to the epsilon in the denominator.

    Args:
        module: The network's module.
        layer: Dotted name of a layer.

    Returns:
        Both, on the module's device; `None` where the layer is no batch norm or keeps no running statistics.
    """
    norm = dict(module.named_modules()).get(layer)
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return None
    std = (norm.running_var / (norm.running_var + norm.eps)).sqrt()
    if norm.weight is None:
        return norm.running_mean.new_zeros(len(std)), std
    return norm.bias.detach().clone(), std * norm.weight.detach().abs()


def batch_norm_layers(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the batch-norm layers that keep running statistics, in the order of the module.

    Args:
        module: The network's module.
    """
    return tuple(name for name, _ in module.named_modules() if batch_statistics(module, name) is not None)
