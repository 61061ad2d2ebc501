"""The similarity of an image to a text, for networks that embed both."""

from __future__ import annotations

from dataclasses import dataclass

from featviz.checks import check_text
from featviz.errors import SettingError
from featviz.interfaces import RenderContext
from featviz.objectives.algebra import Objective, Unit
from featviz.objectives.cosine import Cosine


@dataclass(frozen=True)
class Text(Unit):
    """The cosine between the embeddings of the image and of a text, in a network that embeds both, as CLIP does.

    The score is in [-1, 1]; photographs that match the text have about 0.3 in CLIP.

    Args:
        text: Any text, such as `"a red bicycle"`.
        layer: Layer that outputs the embedding of the image: `"embedding"`, or `"name.embedding"` of one of several
            combined networks.

    Raises:
        SettingError: The text is empty.

    Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.3, the score of a pair.
    """

    text: str
    layer: str = "embedding"
    text_name = "text"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        check_text("text of Text", self.text)
        if not self.text.strip():
            raise SettingError('text must not be empty; write e.g. text("a red bicycle")')

    def bind(self, context: RenderContext) -> Objective:
        """Embed the text.

        Raises:
            SettingError: The network does not embed texts.
        """
        if context.embed_texts is None:
            raise SettingError(f"{self} needs a network that embeds texts, such as those named open_clip/…")
        return Cosine(self.layer, context.embed_texts([self.text], self.layer)[0])
