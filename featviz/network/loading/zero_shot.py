"""Networks that classify images by texts, as CLIP does: the logits are the cosines of an image and each text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from featviz.checks import check_number
from featviz.errors import ModelError, SettingError, shown
from featviz.interfaces import Size
from featviz.network.network import Network
from featviz.network.neutral_state import neutral_state
from featviz.network.working_copy import SharedByCopies, working_copy

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of the images that CLIP was trained on. Source: openai/CLIP, clip/clip.py."""
SCALE = 100.0
"""Factor of the cosines, for models without their own. Source: Radford et al. 2021, section 2.5, its largest value."""

Tokenizer = Callable[[list[str]], Tensor]
"""Returns the token ids of texts, (n, length), as the model expects them."""


@runtime_checkable
class ImageTextModel(Protocol):
    """A model that embeds images and texts in the same space, as those of open_clip and of OpenAI's CLIP."""

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the embeddings of images, (n, d)."""

    def encode_text(self, text: Tensor) -> Tensor:
        """Return the embeddings of token ids, (n, d)."""


@runtime_checkable
class _HasScale(Protocol):
    logit_scale: Tensor | float | None


@runtime_checkable
class _HasBias(Protocol):
    logit_bias: Tensor | float | None


class _Shared(SharedByCopies):
    """Holds a tokenizer, whose vocabulary is large."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer


class ZeroShot(nn.Module):
    """The image side of a model, and the cosine of its embedding to each of some texts; see `zero_shot`.

    The state_dict holds the texts as bytes instead of their embeddings, whose last bits depend on the device: the
    fingerprint of the weights is then the same everywhere, and differs for other texts. A given scale is part of them.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        texts: The texts. Without any, the output is the embedding of the image.
        scale: Factor of the cosines; `None` for that of the model.
    """

    text_embeddings: Tensor

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, texts: Sequence[str] = (), scale: float | None = None
    ) -> None:
        super().__init__()
        self.clip = model
        self.embedding = nn.Identity()
        self.shared = _Shared(tokenizer)
        self.scale = (
            math.exp(_number(model.logit_scale))
            if scale is None and isinstance(model, _HasScale) and model.logit_scale is not None
            else scale
        )
        self.bias = _number(model.logit_bias) if isinstance(model, _HasBias) and model.logit_bias is not None else 0.0
        self.has_texts = bool(texts)
        stated = [*texts, *([] if scale is None else [f"\0scale {scale!r}"])]
        as_bytes = torch.tensor(list("\0".join(stated).encode()), dtype=torch.uint8)
        self.register_buffer("texts", as_bytes)
        embedded = self.embed_texts(texts) if texts else torch.empty(0, 0)
        self.register_buffer("text_embeddings", embedded, persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n texts"]:
        """Return the logit of each text; without texts, the embedding of each image."""
        embedding = self.embedding(self.clip.encode_image(images))  # type: ignore[operator]
        if not self.has_texts:
            return embedding
        cosines = F.normalize(embedding, dim=-1) @ self.text_embeddings.to(embedding).T
        return (SCALE if self.scale is None else self.scale) * cosines + self.bias

    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Return the embedding of each text, of unit norm.

        Args:
            texts: One or more texts.

        Raises:
            ModelError: The model does not output one vector of numbers per text.
            SettingError: The tokenizer does not return token ids.
        """
        running = working_copy(self.clip)
        device = next((weight.device for weight in self.clip.parameters()), torch.device("cpu"))
        ids = self.shared.tokenizer(list(texts))
        if not isinstance(ids, Tensor) or ids.ndim != 2 or len(ids) != len(texts):
            got = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
            raise SettingError(f"tokenizer must return token ids as a tensor of shape (texts, length), got {got}")
        with torch.no_grad():
            found = running.encode_text(ids.to(device))  # type: ignore[operator]
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != len(texts) or not found.isfinite().all():
            raise ModelError(f"encode_text of {type(self.clip).__name__} must output one vector of numbers per text")
        return F.normalize(found.float(), dim=-1)


@neutral_state()
def zero_shot(
    model: nn.Module,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    size: int | Size,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    scale: float | None = None,
) -> Network:
    """Make a network whose classes are texts, from a model that embeds images and texts in the same space.

    Its logits are scale · cosine(image, text) + bias. Address them as `"logit:a red bicycle"` in every function. Any
    other text is an objective of its own: `'text("a red bicycle")'`, the cosine to the embedding of the image, which is
    the layer `embedding`. Networks of open_clip are also made by `fv.load("open_clip/NAME/WEIGHTS", classes=texts)`.

    Args:
        model: A module with `encode_image` and `encode_text`, such as `open_clip.create_model(...)`. Its layers are
            addressed with the prefix `clip.`.
        texts: The classes, such as `["a photo of a cat", "a photo of a dog"]`; empty for none, for networks that are
            used with the objective `text` only.
        tokenizer: Returns the token ids of a list of texts, (n, length), such as `open_clip.get_tokenizer(...)`.
        size: Height and width in px of the images that the model was trained on, or one side.
        mean: Mean of each channel, in [0, 1]; by default that of CLIP.
        std: Standard deviation of each channel, > 0; by default that of CLIP.
        scale: Factor of the cosines, > 0; `None` for that of the model, 100 if it has none.

    Returns:
        The network. Its class names are the texts.

    Raises:
        ModelError: The model cannot embed images and texts.
        SettingError: A text is empty or given twice, or an argument is out of its range.

    Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 3.1.2.
    """
    if not isinstance(model, nn.Module) or not isinstance(model, ImageTextModel):
        raise ModelError(
            f"model must be a module with encode_image and encode_text, got {type(model).__name__}; "
            "use e.g. open_clip.create_model('ViT-B-32', pretrained='laion2b_s34b_b79k')"
        )
    if not callable(tokenizer):
        raise SettingError(
            f"tokenizer must be a function from texts to token ids, got {shown(tokenizer)}; use e.g. "
            "open_clip.get_tokenizer('ViT-B-32')"
        )
    if scale is not None:
        check_number("scale", scale, above=0, note="(default None, that of the model)")
    names = checked_texts(texts)
    return Network(ZeroShot(model, tokenizer, names, scale), size=size, mean=mean, std=std, classes=names)


def checked_texts(texts: Any) -> tuple[str, ...]:
    """Return texts as a tuple.

    Raises:
        SettingError: They are no sequence of texts, one is empty, or one is given twice.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(each, str) for each in texts):
        raise SettingError(f"texts must be a sequence of texts, got {shown(texts)}; use e.g. ['a cat', 'a dog']")
    if not all(each.strip() for each in texts):
        raise SettingError("texts must not be empty; leave out the empty one")
    if len(set(texts)) < len(texts):
        twice = next(each for i, each in enumerate(texts) if each in texts[:i])
        raise SettingError(f"texts must differ, got {shown(twice)} twice")
    return tuple(texts)


def _number(value: Tensor | float) -> float:
    return value.item() if isinstance(value, Tensor) else float(value)
