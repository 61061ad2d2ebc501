"""Recipes of images that somebody changed, at one place or several, and files that are no images any more."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import toys
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from robustness.trial import FINE, RAW, REFUSED, Trial

import featviz as fv

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2 * 10**6, 10**12, 10**30, 1.5, float("nan"), float("inf"), "", "x", "conv2:1", [], [[]], {},
    {"a": 1}, [1, 2], ["x"], "Pixel()", "CPPN(depth=99999)", "b'a' * 3000000000", "Image(size=10**6)", "/etc/passwd",
    "__import__('os').system('touch ran')", "Channel('conv2', 1) ** 9", "resnet18", "timm/hf-hub:a/b", "no.py:net",
    "Image(99999999)", "Image(batch=1000000000)", "(Pad(100000000),)", "(Resize(1000000),)", "\u0000", "a" * 100000,
    "(" * 500 + ")" * 500, "-" * 5000 + "1", "Array(shape=(1000000000000,), data='')", "Stack(('/etc/passwd',))",
    "Execution(tile=0)", "Execution(chunk=-1)", "Adam(lr=nan)",
)  # fmt: skip
"""What may be in place of a field of a recipe."""


def trials(folder: Path, count: int, seed: int = 0) -> Iterator[Trial]:
    """Return trials of changed recipes.

    Args:
        folder: An empty folder, which must be the current one.
        count: Number of trials.
        seed: Seed of the draw.
    """
    torch.manual_seed(1)
    judge = fv.Network(toys.Plain(), size=32, **toys.HALF)
    net, draw = toys.plain(), random.Random(seed)
    start = fv.render(net, "conv2:1", steps=1)
    start.save("start.png")
    renderings = [
        fv.render(net, "conv2:1 - tv", steps=1),
        fv.render(net, ["logit:1", "conv2:0@1,2"], steps=1, seed=(3, 4), start="start.png", param=fv.param.Pixel()),
        fv.dream(net, "start.png", "conv2", octaves=1, steps=1),
        fv.render(net, "conv2:1", steps=1, param=fv.param.CPPN(width=4, depth=2), optimizer=fv.optimizers.Ascent()),
    ]
    recipes = [json.loads(rendering.recipe.to_json()) for rendering in renderings]
    for i in range(count):
        recipe = json.loads(json.dumps(draw.choice(recipes)))
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            _change(recipe, draw)
        text = json.dumps(recipe)
        if draw.random() < 0.1:
            cut = draw.randrange(len(text))
            text = text[:cut] + draw.choice(("", "}", "\u0000", text)) + text[cut + draw.randint(0, 9) :]
        path = folder / f"{i}.png"
        yield Trial(f"recipe {i}", partial(_replay, net, judge, path, text))


def _change(recipe: dict[str, Any], draw: random.Random) -> None:
    """Replace or remove a random value, at any depth."""
    place: Any = recipe
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and draw.random() < 0.5:
            place = place[key]
            continue
        if draw.random() < 0.1:
            del place[key]
        else:
            place[key] = draw.choice(VALUES)
        return


def _replay(net: fv.Network, judge: fv.Network, path: Path, recipe: str) -> tuple[str, str]:
    info = PngInfo()
    info.add_itxt("featviz", recipe)
    Image.new("RGB", (32, 32)).save(path, pnginfo=info)
    try:
        found = fv.Recipe.of(path)
        fv.replay(found)
    except fv.FeatvizError:
        pass
    except Exception as error:
        return RAW, f"{type(error).__name__}: {error} in {recipe[:150]}"
    how, said = FINE, ""
    for use in (lambda: fv.replay(path, network=net), lambda: fv.judge(path, judge=judge, network=net)):
        try:
            use()
        except fv.FeatvizError as error:
            how, said = REFUSED, str(error)
        except Exception as error:
            return RAW, f"{type(error).__name__}: {error} in {recipe[:150]}"
    path.unlink()
    if list(path.parent.glob("ran*")):
        return RAW, f"code was run: {recipe[:150]}"
    return how, said
