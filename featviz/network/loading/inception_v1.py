"""InceptionV1 with the layer names of Lucid, which the Circuits papers use: `inception_v1_lucid`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featviz.network.loading.downloads import PublishedFile
from featviz.network.loading.weights import load_weights
from featviz.network.network import Network

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

NAME = "inception_v1_lucid"
"""Name for `fv.load`."""
WEIGHTS = PublishedFile(
    "https://github.com/ProGamerGov/pytorch-old-tensorflow-models/raw/f8187b60fca8a3f5cfa541406dcbcefb80db5c78"
    "/inception5h.pth",
    "119f77db85c8352960933e025312b507d9a96ed7",
    f"the weights of {NAME}",
    "--weights",
)
"""The weights that Lucent uses, converted from those of Lucid by ProGamerGov."""
LABELS = PublishedFile(
    "https://github.com/miyosuda/TensorFlowAndroidDemo/raw/35903e0221aa5f109ea2dbef27f20b52e317f42d"
    "/app/src/main/assets/imagenet_comp_graph_label_strings.txt",
    "0ac5a169d9211eb3b65d407125009681e089e263",
    f"the class names of {NAME}",
    "--classes",
)
"""The class names that TensorFlow published with the network, in the order of its logits; a copy by miyosuda."""
SIZE = 224
"""Height and width in px of the images on which it was trained. It accepts other sizes."""
CLASSES = 1008
"""Number of its class logits."""
MEAN, STD = (117 / 255,) * 3, (1 / 255,) * 3
"""Mean and standard deviation of each channel, so that the module gets 255 * image - 117 as in Lucid."""
BLOCKS = {
    "mixed3a": (64, 96, 128, 16, 32, 32),
    "mixed3b": (128, 128, 192, 32, 96, 64),
    "mixed4a": (192, 96, 204, 16, 48, 64),
    "mixed4b": (160, 112, 224, 24, 64, 64),
    "mixed4c": (128, 128, 256, 24, 64, 64),
    "mixed4d": (112, 144, 288, 32, 64, 64),
    "mixed4e": (256, 160, 320, 32, 128, 128),
    "mixed5a": (256, 160, 320, 48, 128, 128),
    "mixed5b": (384, 192, 384, 48, 128, 128),
}
"""Channels of the convolutions of each block, in the order of `BRANCHES`."""
BRANCHES = {"1x1": 1, "3x3_bottleneck": 1, "3x3": 3, "5x5_bottleneck": 1, "5x5": 5, "pool_reduce": 1}
"""Side in px of the kernel of each convolution of a block."""
CONCATENATED = ("1x1", "3x3", "5x5", "pool_reduce")
"""The branches of a block, in the order of its output channels."""
STRIDED_POOLS = {"mixed3b": "maxpool4", "mixed4e": "maxpool10"}
"""Name of the pooling layer that follows a block."""

NORMS = {"lucent": (9, 9.99999974738e-05, 0.5, 1.0), "captum": (11, 0.0011, 0.5, 2.0)}
"""Size, alpha, beta and k of the local response normalisation, by project. They differ, so a file is run as the project
that published it runs it."""
CAPTUM_NAMES = {"conv1": "conv2d0", "conv2": "conv2d1", "conv3": "conv2d2", "fc": "softmax2"}
CAPTUM_BRANCHES = {
    "conv_1x1": "1x1",
    "conv_3x3_reduce": "3x3_bottleneck",
    "conv_3x3": "3x3",
    "conv_5x5_reduce": "5x5_bottleneck",
    "conv_5x5": "5x5",
    "pool_proj": "pool_reduce",
}
CAPTUM_AUXILIARY_HEADS = ("aux1.", "aux2.")
"""Prefixes of the weights of captum's training heads, which are not used."""


class Concatenate(nn.Module):
    """Concatenate the branches of a block along the channels, so that the block has an output with its name."""

    def forward(self, *branches: Float[Tensor, "n channel h w"]) -> Float[Tensor, "n channels h w"]:
        """Return the concatenated branches."""
        return torch.cat(branches, 1)


class InceptionV1(nn.Module):
    """InceptionV1 as in Lucid: every layer is an attribute with its name there, `mixed4a_3x3_pre_relu` and so on.

    The output is `softmax2`, the class probabilities; the logits are those of `softmax2_pre_activation`.

    Args:
        norm: Size, alpha, beta and k of the local response normalisation.

    Source: Szegedy et al. 2014, https://arxiv.org/abs/1409.4842, table 1; names: Lucid, modelzoo/vision_models.py.
    Differs: the average of the last block is over all positions, so that images of any size have one output.
    """

    def __init__(self, norm: tuple[int, float, float, float] = NORMS["lucent"]) -> None:
        super().__init__()
        self._add_convolution("conv2d0", 3, 64, 7, stride=2)
        self.maxpool0 = _strided_pool()
        self._add_convolution("conv2d1", 64, 64, 1)
        self._add_convolution("conv2d2", 64, 192, 3)
        self.maxpool1 = _strided_pool()
        self.use_norm(norm)
        channels = 192
        for block, widths in BLOCKS.items():
            channels = self._add_block(block, channels, dict(zip(BRANCHES, widths, strict=True)))
        self.avgpool0 = nn.AdaptiveAvgPool2d(1)
        self.softmax2_pre_activation = nn.Linear(channels, CLASSES)
        self.softmax2 = nn.Softmax(1)

    def use_norm(self, norm: tuple[int, float, float, float]) -> None:
        """Set the local response normalisation.

        Args:
            norm: Its size, alpha, beta and k.
        """
        self.localresponsenorm0, self.localresponsenorm1 = nn.LocalResponseNorm(*norm), nn.LocalResponseNorm(*norm)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1008"]:
        """Return class probabilities of images in [-117, 138]."""
        # TensorFlow pads 5 px for a stride of 2 at an even size: 2 before the image and 3 after it.
        x = self._convolution("conv2d0", F.pad(x, (2, 3, 2, 3)))
        x = self._convolution("conv2d1", self.localresponsenorm0(self.maxpool0(x)))
        x = self.maxpool1(self.localresponsenorm1(self._convolution("conv2d2", x)))
        for block in BLOCKS:
            x = self._block(block, x)
            if block in STRIDED_POOLS:
                x = self.get_submodule(STRIDED_POOLS[block])(x)
        return self.softmax2(self.softmax2_pre_activation(self.avgpool0(x).flatten(1)))

    def _add_convolution(self, name: str, before: int, after: int, kernel: int, stride: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        self.add_module(f"{name}_pre_relu", nn.Conv2d(before, after, kernel, stride, padding))
        self.add_module(name, nn.ReLU())

    def _add_block(self, block: str, channels: int, widths: dict[str, int]) -> int:
        """Add the layers of a block, and return the number of its output channels."""
        before = {"3x3": widths["3x3_bottleneck"], "5x5": widths["5x5_bottleneck"]}
        for branch, kernel in BRANCHES.items():
            self._add_convolution(f"{block}_{branch}", before.get(branch, channels), widths[branch], kernel)
        self.add_module(f"{block}_pool", nn.MaxPool2d(3, 1, 1))
        self.add_module(block, Concatenate())
        if block in STRIDED_POOLS:
            self.add_module(STRIDED_POOLS[block], _strided_pool())
        return sum(widths[branch] for branch in CONCATENATED)

    def _convolution(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(self.get_submodule(f"{name}_pre_relu")(x))

    def _block(self, block: str, x: Float[Tensor, "n before h w"]) -> Float[Tensor, "n after h w"]:
        found = {
            "1x1": self._convolution(f"{block}_1x1", x),
            "3x3": self._convolution(f"{block}_3x3", self._convolution(f"{block}_3x3_bottleneck", x)),
            "5x5": self._convolution(f"{block}_5x5", self._convolution(f"{block}_5x5_bottleneck", x)),
            "pool_reduce": self._convolution(f"{block}_pool_reduce", self.get_submodule(f"{block}_pool")(x)),
        }
        return self.get_submodule(block)(*(found[branch] for branch in CONCATENATED))


def _strided_pool() -> nn.MaxPool2d:
    """Max pooling of stride 2 that also covers an incomplete window at the end, as with TensorFlow's padding."""
    return nn.MaxPool2d(3, 2, ceil_mode=True)


# ---------------------------------------------------------------------------------------------- weights


def network() -> Network:
    """Build the network with random weights, on the CPU.

    Returns:
        The network. Its classes have no names.
    """
    return Network(InceptionV1().eval(), size=SIZE, mean=MEAN, std=STD, heads={"softmax2_pre_activation": ()})


def class_names() -> list[str]:
    """Return the names of the classes, which are downloaded the first time.

    Returns:
        1008 names. The classes `dummy` and `dummy 1001` to `dummy 1007` were never trained.

    Raises:
        WeightsError: They cannot be downloaded.
    """
    names = LABELS.fetch().read_text(encoding="utf-8").splitlines()
    return names + [f"dummy {index}" for index in range(len(names), CLASSES)]


def load_published(module: InceptionV1, path: Path) -> None:
    """Load a weights file of Lucent, of captum (`captum.optim`), or of this module.

    Args:
        module: The module that gets the weights. It normalises as the project that published the file does. A file of
            this module does not contain the normalisation, which is then that of Lucent.
        path: Safetensors, or a `state_dict` saved by `torch.save`.

    Raises:
        WeightsError: The file cannot be read, or does not match; the message names the keys.
    """
    keys = load_weights(module, path, optional_prefixes=CAPTUM_AUXILIARY_HEADS, rename=lucid_name)
    module.use_norm(NORMS["captum" if any(key.startswith(("conv1.", "mixed3a.")) for key in keys) else "lucent"])


def lucid_name(key: str) -> str:
    """Return the name here of a weight of Lucent or captum; other names stay as they are.

    Args:
        key: Name in a state_dict.

    >>> lucid_name("mixed4a_3x3_pre_relu_conv.weight"), lucid_name("mixed4a.conv_3x3_reduce.bias")
    ('mixed4a_3x3_pre_relu.weight', 'mixed4a_3x3_bottleneck_pre_relu.bias')
    """
    layer, _, kind = key.rpartition(".")
    if layer.endswith(("_pre_relu_conv", "_pre_activation_matmul")):  # Lucent
        return f"{layer.rpartition('_')[0]}.{kind}"
    block, _, branch = layer.partition(".")
    if block in BLOCKS and branch in CAPTUM_BRANCHES:
        return f"{block}_{CAPTUM_BRANCHES[branch]}_pre_relu.{kind}"
    if layer in CAPTUM_NAMES:
        return f"{CAPTUM_NAMES[layer]}_pre_{'activation' if layer == 'fc' else 'relu'}.{kind}"
    return key
