"""Where a unit of a network is: the text people write, and the value it stands for."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from featviz.errors import AddressError, caret
from featviz.interfaces import Place

HEADS = ("logit", "prob")
"""What stands in a layer's place to mean a class: its logit before the softmax, or its probability after."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_END = r"(?=\s*(?:[-+*/),@]|$))"
# A bare class name ends at , @ ) or the end, or at an operator between spaces: "jack-o'-lantern - tv".
_CLASS = rf'{_QUOTED}|\d+{_END}|[^()",@\s](?:[^()",@]*?[^()",@\s])??(?=\s+[-+*/]\s|\s*[),@]|\s*$)'
_PLAIN = r"(?!.*\s[-+*/]\s)[A-Za-z](?:[^()\",@]*\w)?"
"""A class name that reads the same bare: starts with a letter, ends with a letter or digit, holds no operator."""
_LAYER = rf"{_QUOTED}|[A-Za-z_][\w.]*|\d[\w.]*(?=:)"
PATTERN = re.compile(
    rf"(?P<head>{'|'.join(HEADS)}):(?P<name>{_CLASS})(?:@(?P<network>{_QUOTED}|[A-Za-z_][\w.]*))?"
    rf"|(?P<layer>{_LAYER})(?::(?P<channel>\d+)(?:@(?P<at>\d+,\d+|center|cls))?)?"
)
"""One address, wherever it stands in an expression."""


@dataclass(frozen=True)
class Address:
    """A layer, one of its channels, or one neuron of that channel; or a class.

    Args:
        layer: PyTorch's dotted module name, or `logit` or `prob`.
        channel: counted from 0; for `logit` and `prob` also a class name; `None` means the whole layer.
        at: which neuron of the channel; `None` means all of them.
        network: which of several networks run combine has the class; empty for a network that runs alone.

    >>> Address.parse("inception4a:476@7,7")
    Address(layer='inception4a', channel=476, at=(7, 7), network='')
    >>> str(Address("logit", "tabby"))
    'logit:tabby'
    """

    layer: str
    channel: int | str | None = None
    at: Place | None = None
    network: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            AddressError: with a caret under the place where the text stops making sense.
        """
        match = PATTERN.match(text)
        if not match or match.end() != len(text):
            place = match.end() if match else 0
            raise AddressError(
                f"cannot read the address, expected layer:channel@y,x or logit:class{caret(text, place)}"
            )
        return cls.of(match)

    @classmethod
    def of(cls, match: re.Match[str]) -> Address:
        """Make the address that `PATTERN` matched."""
        if match["head"]:
            name = match["name"]
            network = _unquote(match["network"] or "")
            return cls(match["head"], int(name) if name.isdecimal() else _unquote(name), network=network)
        channel = int(match["channel"]) if match["channel"] else None
        return cls(_unquote(match["layer"]), channel, _place(match["at"]) if match["at"] else None)

    def __str__(self) -> str:
        """Write the address as `parse` reads it."""
        text = _quote(self.layer, r"[A-Za-z_][\w.]*" if self.channel is None else r"[\w.]+")
        if self.channel is not None:
            text += ":" + (_quote(self.channel, _PLAIN) if isinstance(self.channel, str) else str(self.channel))
        if self.at is not None:
            text += "@" + (self.at if isinstance(self.at, str) else f"{self.at[0]},{self.at[1]}")
        if self.network:
            text += "@" + _quote(self.network, r"[A-Za-z_][\w.]*")
        return text


def _place(text: str) -> Place:
    match text.split(","):
        case ["center"]:
            return "center"
        case ["cls"]:
            return "cls"
    y, x = text.split(",")
    return int(y), int(x)


def _unquote(text: str) -> str:
    return json.loads(text) if text.startswith('"') else text


def _quote(text: str, bare: str) -> str:
    """Quote a name, unless the pattern says that it can stand bare."""
    return text if re.fullmatch(bare, text, re.ASCII) else json.dumps(text, ensure_ascii=False)
