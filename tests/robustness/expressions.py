"""Text of objectives, params, transforms and optimizers, put together at random from what could be in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial

import toys
from robustness.trial import FINE, RAW, REFUSED, Trial

import featviz as fv
from featviz.engine import parse_value

WORDS = (
    "conv2", "conv2:1", "conv2:1@2,3", "logit:1", "logit:cat", "prob:cat", "tv", "l1", "blur", "diversity", "match",
    "caricature", "ramp", "interpolate", "within", "style", "boundary", "alignment", "opacity", "difference", "no_such",
    "+", "-", "*", "/", "**", "(", ")", ",", ":", "@", "=", ".", "'", '"', "[", "]", "{", "}", "\\", "#", ";", "->",
    "0", "1", "2.5", "-3", "1e9", "1e999", "nan", "9" * 40, "photo.png", "é", "\n", "\t", "", "lambda", "import os",
    "None", "True", "@cls", "@center", "%", "None:", "conv1:0:0", "conv2:99999999999", "conv2:-1", "a" * 200,
)  # fmt: skip
VALUES = (
    "0",
    "-1",
    "1",
    "2",
    "1.5",
    "nan",
    "inf",
    "1e400",
    "1e9",
    "10**9",
    "9" * 30,
    "'a'",
    "None",
    "()",
    "(1, 2)",
    "[[]]",
    "b'a'",
    "b'a' * 3000000000",
    "'a' * 3000000000",
    "(1,) * 3000000000",
    "True",
    "lambda: 1",
    "{}",
    "x",
    "print",
    "__import__('os')",
    "1j",
    "1/0",
    "-(1)",
    "...",
    "'no.png'",
    "Pixel()",
    "Jitter(8)",
    "(((((1)))))",
)
"""Arguments of params, transforms and optimizers."""  # fmt: skip


def trials(count: int, seed: int = 0) -> Iterator[Trial]:
    """Return trials of texts, half of them objectives.

    Args:
        count: Number of trials.
        seed: Seed of the draw.
    """
    net, draw = toys.plain(), random.Random(seed)
    for i in range(count):
        if i % 2:
            text = "".join(draw.choice(WORDS) + draw.choice(("", " ")) for _ in range(draw.randint(1, 8)))
            yield Trial(repr(text)[:200], partial(_render, net, text, {}))
        else:
            kind, package = draw.choice(
                (("param", fv.param), ("transforms", fv.transforms), ("optimizer", fv.optimizers))
            )
            names = [name for name in package.__all__ if name[0].isupper()]
            given = ", ".join(draw.choice(VALUES) for _ in range(draw.randint(0, 3)))
            text = f"{draw.choice(names)}({given})"
            yield Trial(f"{kind} {text!r}"[:200], partial(_render_with, net, kind, package, text))


def _render_with(net: fv.Network, kind: str, package: object, text: str) -> tuple[str, str]:
    try:
        value = parse_value(text, package)  # type: ignore[arg-type]
    except fv.FeatvizError as error:
        return REFUSED, str(error)
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error}"
    return _render(net, "conv2:1", {kind: value})


def _render(net: fv.Network, objective: str, given: dict[str, object]) -> tuple[str, str]:
    try:
        fv.render(net, objective, steps=1, robustness_views=0, **given)  # type: ignore[arg-type]
    except fv.FeatvizError as error:
        lines = str(error).splitlines()
        bad = len(lines) > 1 and "^" not in lines[-1]  # a caret marks where text cannot be parsed
        return (RAW if bad else REFUSED), str(error)
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error}"
    return FINE, ""
