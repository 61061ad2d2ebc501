"""Addresses of units: the text `layer:channel@y,x` and the value that it is parsed to.

The position has one index for each axis of the feature map: `@x` in a signal, `@z,y,x` in a volume.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from featviz.errors import AddressError, caret
from featviz.interfaces import Position
from featviz.network.layers import CLASS_PREFIXES

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_END = r"(?=\s*(?:[-+*/),@]|$))"
# An unquoted class name ends at , @ ) or the end of the text, or at an operator between spaces. Class names may contain
# hyphens and spaces, so "logit:jack-o'-lantern - tv" is the class "jack-o'-lantern" minus `tv`.
_CLASS = rf'{_QUOTED}|\d+{_END}|[^()",@\s](?:[^()",@]*?[^()",@\s])??(?=\s+[-+*/]\s|\s*[),@]|\s*$)'
_UNQUOTED_CLASS = r"(?!.*\s[-+*/]\s)[A-Za-z](?:[^()\",@]*\w)?"
"""A class name that needs no quotes: starts with a letter, ends with a letter or digit, contains no operator."""
# A name that starts with a digit, as in nn.Sequential, is a layer only before a channel; alone it would be a number.
# The features of a dictionary are those of the layer's name and a tilde: `stage2~5`. The colon before the number of a
# feature may be left out.
_LAYER = rf"{_QUOTED}|[A-Za-z_][\w.]*(?:#\d+)?~?|\d[\w.]*(?:#\d+)?(?:~|(?=:))"
PATTERN = re.compile(
    rf"(?P<head>{'|'.join(CLASS_PREFIXES)}):(?P<name>{_CLASS})(?:@(?P<network>{_QUOTED}|[A-Za-z_][\w.]*))?"
    rf"|(?P<layer>{_LAYER})(?:(?::|(?<=~))(?P<channel>\d+)(?:@(?P<at>\d+(?:,\d+){{0,2}}|center|cls|reg\d+))?)?"
)
"""One address, alone or inside of an expression."""
MAX_DIGITS = 18
"""Largest number of digits of a whole number in text."""


@dataclass(frozen=True)
class Address:
    """A layer, one of its channels, one neuron of a channel, or a class.

    Args:
        layer: Dotted module name, as in `named_modules`; with `~` after it, the features of a dictionary; or `"logit"`
            or `"prob"` for a class.
        channel: Index of the channel, from 0; for a class its index or name. `None` for the whole layer.
        at: Position of the neuron; `None` for the whole channel.
        network: Name of the one of several combined networks that has the class; empty for a single network.
        is_layer: The layer is one that is named `logit` or `prob` itself, which is written in quotes.

    >>> Address.parse("inception4a:476@7,7")
    Address(layer='inception4a', channel=476, at=(7, 7), network='', is_layer=False)
    >>> str(Address("logit", "tabby"))
    'logit:tabby'
    >>> Address.parse("inception4a~12")
    Address(layer='inception4a~', channel=12, at=None, network='', is_layer=False)
    """

    layer: str
    channel: int | str | None = None
    at: Position | None = None
    network: str = ""
    is_layer: bool = False

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address.

        Args:
            text: Such as `"inception4a:476@7,7"` or `"logit:tabby"`.

        Returns:
            The address.

        Raises:
            AddressError: The text is not an address; a caret marks the first character that does not fit.
        """
        match = PATTERN.match(text)
        if not match or match.end() != len(text):
            column = match.end() if match else 0
            raise AddressError(
                f"cannot parse the address: expected layer:channel@y,x or logit:class{caret(text, column)}"
            )
        return cls.of(match)

    @classmethod
    def of(cls, match: re.Match[str]) -> Address:
        """Return the address of a match of `PATTERN`.

        Args:
            match: The match.

        Returns:
            The address.
        """
        if match["head"]:
            name = match["name"]
            network = _unquote(match["network"] or "")
            return cls(match["head"], whole_number(name) if name.isdecimal() else _unquote(name), network=network)
        channel = whole_number(match["channel"]) if match["channel"] else None
        return cls.of_layer(_unquote(match["layer"]), channel, _position(match["at"]) if match["at"] else None)

    @classmethod
    def of_layer(cls, layer: str, channel: int | None = None, at: Position | None = None) -> Address:
        """Return the address of a layer, a channel or a neuron, whatever the layer is named."""
        return cls(layer, channel, at, is_layer=layer in CLASS_PREFIXES and channel is not None)

    def __str__(self) -> str:
        """Return the text of the address, which `parse` parses again."""
        plain = r"[A-Za-z_][\w.]*(#\d+)?~?" if self.channel is None else r"[\w.]+(#\d+)?~?"
        text = json.dumps(self.layer) if self.is_layer else _quote(self.layer, plain)
        if self.channel is not None:
            name = _quote(self.channel, _UNQUOTED_CLASS) if isinstance(self.channel, str) else str(self.channel)
            text += name if text.endswith("~") else f":{name}"
        if self.at is not None:
            text += "@" + (self.at if isinstance(self.at, str) else ",".join(map(str, self.at)))
        if self.network:
            text += "@" + _quote(self.network, r"[A-Za-z_][\w.]*")
        return text


def whole_number(digits: str) -> int:
    """Return the number that digits stand for.

    Raises:
        AddressError: There are more than `MAX_DIGITS`; Python refuses thousands of them with an error of its own.
    """
    if len(digits) > MAX_DIGITS:
        raise AddressError(f"the number {digits[:MAX_DIGITS]}… has {len(digits)} digits; give at most {MAX_DIGITS}")
    return int(digits)


def _position(text: str) -> Position:
    return tuple(map(whole_number, text.split(","))) if text[0].isdecimal() else text


def _unquote(text: str) -> str:
    """Return a name without its quotes.

    Raises:
        AddressError: The quoted text is not a valid JSON string.
    """
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError as error:
        raise AddressError(f'cannot read the name {text}: write \\ as \\\\ and a quote as \\" in it') from error


def _quote(text: str, unquoted: str) -> str:
    """Quote a name, unless it matches the pattern of names that need no quotes."""
    return text if re.fullmatch(unquoted, text, re.ASCII) else json.dumps(text, ensure_ascii=False)
