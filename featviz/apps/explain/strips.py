"""Draw texts as strips of tokens, coloured by their contribution: as HTML, as images and in terminals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from featviz.apps.explain.drawing import NEGATIVE_COLOR, POSITIVE_COLOR, with_legend
from featviz.apps.shared.pages.page import render_template
from featviz.apps.shared.pages.text import printable
from featviz.io import wrap

FULL_OPACITY = 0.72
"""Opacity of the strongest colour behind a token, so that the token stays readable in light and in dark."""
LEVELS = 12
"""Number of opacities of a page, whose policy allows no styles but those of its style sheet."""
WIDTH, POINTS, LINE, PADDING, GAP, MARGIN = 760, 18, 32, 6, 3, 16
"""Width of a drawn strip, its font size and line height, and the space in, between and around tokens, in px."""
LEGEND = "Full colour: the token that contributes most. Some methods give magnitudes only, in red."
UNPRINTABLE = "·"
"""Takes the place of characters that would move the cursor of a terminal, or that have no picture."""


@dataclass(frozen=True)
class Strip:
    """A text whose tokens are coloured.

    Args:
        title: What the colours are of.
        tokens: The text of each token.
        strengths: Strength of the colour of each, in [-1, 1]: > 0 in red, < 0 in blue.
        values: The contribution of each.
    """

    title: str
    tokens: tuple[str, ...]
    strengths: tuple[float, ...]
    values: tuple[float, ...]


def opacity(strength: float) -> float:
    """Return the opacity of the colour behind a token. The exponent < 1 makes weak contributions visible."""
    return float(FULL_OPACITY * abs(strength) ** 0.75)


def shown_token(token: str) -> str:
    """Return a token without characters that are not shown; an empty one is a dot."""
    return printable(token, UNPRINTABLE) or UNPRINTABLE


# ---------------------------------------------------------------------------------------------------------- terminals


def table(strip: Strip) -> str:
    """Return a table with one line for each token and its contribution.

    >>> print(table(Strip("logit:good = 1", ("not", "bad"), (1.0, -0.5), (0.2, -0.1))))
    logit:good = 1
    not   0.2
    bad  -0.1
    """
    tokens = [shown_token(token) for token in strip.tokens]
    numbers = [f"{value:.3g}" for value in strip.values]
    wide, long = max(map(len, tokens)), max(map(len, numbers))
    lines = [f"{token:{wide}}  {number:>{long}}" for token, number in zip(tokens, numbers, strict=True)]
    return "\n".join([shown_token(strip.title), *lines])


def ansi(strip: Strip) -> str:
    """Return the title and the tokens with 24-bit background colours, on white so that the terminal's do not matter."""
    cells = []
    for token, strength in zip(strip.tokens, strip.strengths, strict=True):
        red, green, blue = _over_white(strength)
        cells.append(f"\x1b[48;2;{red};{green};{blue}m\x1b[38;2;0;0;0m {shown_token(token)} \x1b[0m")
    return f"{shown_token(strip.title)}\n{' '.join(cells)}"


def _over_white(strength: float) -> tuple[int, int, int]:
    """Return the colour behind a token on white paper, as 8-bit RGB."""
    color, share = POSITIVE_COLOR if strength > 0 else NEGATIVE_COLOR, opacity(strength)
    red, green, blue = (round(255 * (1 - share + share * part)) for part in color)
    return red, green, blue


# --------------------------------------------------------------------------------------------------------------- HTML


def html(strips: Sequence[Strip]) -> str:
    """Return strips as HTML that uses the colours of the notebook's theme.

    Args:
        strips: What to show.
    """
    parts = [_titled(strip, _spans(strip)) for strip in strips]
    return f'<div style="font:15px/2 system-ui,sans-serif">{"".join(parts)}</div>'


def _titled(strip: Strip, tokens: str) -> str:
    return f'<p style="margin:0 0 2px;opacity:.75">{escape(strip.title)}</p><p style="margin:0 0 14px">{tokens}</p>'


def _spans(strip: Strip) -> str:
    """Return the tokens, each over its colour."""
    spans = []
    for token, strength, value in zip(strip.tokens, strip.strengths, strip.values, strict=True):
        red, green, blue = (round(255 * part) for part in (POSITIVE_COLOR if strength > 0 else NEGATIVE_COLOR))
        style = f"background:rgba({red},{green},{blue},{opacity(strength):.2f});padding:2px 4px;border-radius:3px"
        spans.append(f'<span style="{style}" title="{value:.3g}">{escape(shown_token(token))}</span>')
    return " ".join(spans)


def page(strips: Sequence[Strip]) -> str:
    """Return strips as a page that needs no other file.

    Args:
        strips: What to show.
    """
    shown = [
        {
            "title": strip.title,
            "tokens": [
                {"text": shown_token(token), "level": _level(strength), "value": f"{value:.3g}"}
                for token, strength, value in zip(strip.tokens, strip.strengths, strip.values, strict=True)
            ],
        }
        for strip in strips
    ]
    colors = {
        "positive": ", ".join(f"{255 * part:.0f}" for part in POSITIVE_COLOR),
        "negative": ", ".join(f"{255 * part:.0f}" for part in NEGATIVE_COLOR),
    }
    levels = {level: f"{opacity(level / LEVELS):.2f}" for level in range(1, LEVELS + 1)}
    return render_template("explain/text.html", {}, title="Explained text", strips=shown, levels=levels, **colors)


def _level(strength: float) -> str:
    """Return the class of the style of a token: its sign, and its strength in a number of levels."""
    return f"{'p' if strength > 0 else 'n'}{round(LEVELS * abs(strength))}"


# ------------------------------------------------------------------------------------------------------------- images


def draw(strips: Sequence[Strip], *, legend: bool = True) -> UInt8[np.ndarray, "h w 3"]:
    """Draw strips below each other, with tokens wrapped into rows.

    Args:
        strips: What to show.
        legend: Whether a colour bar stands below.
    """
    font, small = ImageFont.load_default(POINTS), ImageFont.load_default(POINTS - 3)
    drawn = np.concatenate([_draw(strip, font, small) for strip in strips])
    return with_legend(drawn, LEGEND) if legend else drawn


def _draw(
    strip: Strip,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the title of one strip and its rows of tokens."""
    title = wrap(shown_token(strip.title), small, WIDTH - 2 * MARGIN)
    tokens = [(wrap(shown_token(each), font, WIDTH - 2 * MARGIN - 2 * PADDING) or [" "])[0] for each in strip.tokens]
    places, x, row = [], MARGIN, 0
    for token in tokens:
        width = round(font.getlength(token)) + 2 * PADDING
        if x + width > WIDTH - MARGIN and x > MARGIN:
            x, row = MARGIN, row + 1
        places.append((x, row, width))
        x += width + GAP
    top = MARGIN + 22 * len(title) + PADDING
    picture = Image.new("RGB", (WIDTH, top + LINE * (row + 1) + PADDING), "white")
    pen = ImageDraw.Draw(picture)
    for i, line in enumerate(title):
        pen.text((MARGIN, MARGIN + 22 * i), line, fill=(90, 90, 90), font=small)
    for token, (x, row, width), strength in zip(tokens, places, strip.strengths, strict=True):
        y = top + LINE * row
        pen.rounded_rectangle((x, y, x + width, y + LINE - GAP - 1), 4, fill=_over_white(strength))
        pen.text((x + PADDING, y + LINE / 2 - 2), token, fill="black", font=font, anchor="lm")
    return np.asarray(picture)
