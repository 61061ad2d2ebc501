"""Settings that were tried for the defaults: `benchmarks/quality.py --parts tried,spectra,optimizers`."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from pictures import Bench, Ours, seen

import featviz as fv
from featviz import param
from featviz import transforms as T


def views(
    shift: float = 0.3,
    rotation: float = 20,
    zoom: tuple[float, float] = (0.6, 3.0),
    px: int = 128,
    color_shift: float = 0.4,
) -> tuple[Any, ...]:
    """Return transforms with the settings that were varied."""
    return (
        T.Shift(shift),
        T.Rotate(rotation),
        T.Scale(T.LogUniform(*zoom)),
        T.Resize((px, px)),
        T.ColorShift(color_shift),
    )


LUCIDS = 2.5
"""Learning rates below are relative to Lucid's frequency scale; featviz uses 0.4 of it."""


def adam(
    lr: float = 0.08, final_lr_ratio: float = 0.2, anchor_decay: float = 0.1, betas: tuple[float, float] = (0.5, 0.9)
) -> fv.optimizers.Adam:
    """Return Adam with the defaults that it had when these settings were tried."""
    return fv.optimizers.Adam(lr, final_lr_ratio, anchor_decay, betas)


FORMER = partial(adam, betas=(0.9, 0.999))
"""Adam with the usual running means, its default before those."""
STEEPER, LOOSE = param.Fourier(decay=1.25), FORMER(0.05 * LUCIDS, anchor_decay=0.0)
NEARER: dict[str, Any] = {"shift": 0.2, "rotation": 15, "zoom": (0.6, 2.0), "color_shift": 0.3}
TRIED: dict[str, dict[str, Any]] = {
    "views of 224 px": {"transforms": views(px=224)},
    "views of 160 px": {"transforms": views(px=160)},
    "views of 128 px": {"transforms": views()},
    "views of 112 px": {"transforms": views(px=112), "steps": 168},
    "views of 96 px": {"transforms": views(px=96), "steps": 256},
    "128 px, rate .1 falling to .01": {"transforms": views(), "optimizer": FORMER(0.1 * LUCIDS, 0.1, 0.0)},
    "128 px, zoom .5 to 2": {"transforms": views(zoom=(0.5, 2.0))},
    "128 px, zoom .8 to 4": {"transforms": views(zoom=(0.8, 4.0))},
    "128 px, colour shift .6": {"transforms": views(color_shift=0.6)},
    "128 px, colour shift .2": {"transforms": views(color_shift=0.2)},
    "128 px, flips": {"transforms": (T.Flip(), *views())},
    "128 px, a start with ten times the contrast": {"transforms": views(), "param": param.Fourier(decay=1.0, std=0.25)},
    "128 px, less total variation (20)": {"transforms": views(), "less": " - 20*tv"},
    "128 px, decay 1.25": {"transforms": views(), "param": STEEPER},
    "128 px, decay 1.25, rate .03": {
        "transforms": views(),
        "param": STEEPER,
        "optimizer": FORMER(0.03 * LUCIDS, anchor_decay=0.0),
    },
    "128 px, shift .2, rotation 15, zoom .6 to 2": {"transforms": views(0.2, 15, (0.6, 2.0))},
    "the same, decay 1.25, colour shift .3": {"transforms": views(**NEARER), "param": STEEPER},
    "the same, decay 1.25, colour shift .3, longer": {"transforms": views(**NEARER), "param": STEEPER, "steps": 256},
    "the same, decay 1.25, colour shift .2": {"transforms": views(**{**NEARER, "color_shift": 0.2}), "param": STEEPER},
    "the same, decay 1.5, colour shift .3, flips": {
        "transforms": (T.Flip(), *views(**NEARER)),
        "param": param.Fourier(decay=1.5),
    },
    "decay 1.25, colour shift .3, shift .1, rotation 10, zoom .7 to 1.6": {
        "transforms": views(0.1, 10, (0.7, 1.6), color_shift=0.3),
        "param": STEEPER,
    },
}
"""Settings tried for the default, with 128 steps unless stated otherwise."""


SPECTRA: dict[str, dict[str, Any]] = {
    "decay 1.25, rate .05, anchor decay .1": {
        "param": param.Fourier(decay=1.25),
        "optimizer": FORMER(0.05 * LUCIDS, anchor_decay=0.1 / LUCIDS),
    },
    "decay 1.4, rate .02, anchor decay .25": {"param": param.Fourier(decay=1.4)},
    "decay 1.45, the same": {"param": param.Fourier(decay=1.45)},
    "decay 1.5, the same": {"param": param.Fourier(decay=1.5)},
}
"""Decays tried for spectra like those of photographs; the first uses the former learning rate."""


SMALL: dict[str, Any] = {"param": param.Image(160), "steps": 224}
"""Images of 160 px, whose default views have 112 px: 224 steps take about the time of 160 of images of 224 px."""
TINY: dict[str, Any] = {"param": param.Image(128), "transforms": views(px=96, **NEARER), "steps": 280}
"""Images of 128 px with views of 96 px, the same ratio: 280 steps take about the same time."""
LONGER = partial(adam, betas=(0.5, 0.95))
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "rate .05, betas .9, .999": {"steps": 160, "optimizer": FORMER(0.05)},
    "rate .08, betas .9, .999": {"steps": 160, "optimizer": FORMER(0.08)},
    "rate .05, betas .9, .95": {"steps": 160, "optimizer": adam(0.05, betas=(0.9, 0.95))},
    "rate .1, betas .9, .95": {"steps": 160, "optimizer": adam(0.1, betas=(0.9, 0.95))},
    "rate .08, betas .5, .95": {"steps": 160, "optimizer": LONGER()},
    "rate .08, betas .5, .9": {"steps": 160},
    "rate .08, betas .3, .9": {"steps": 160, "optimizer": adam(betas=(0.3, 0.9))},
    "rate .12, betas .5, .95, anchor decay .05": {"steps": 160, "optimizer": LONGER(0.12, 0.2, 0.05)},
    "rate .08, betas .5, .95, falling to .02": {"steps": 160, "optimizer": LONGER(final_lr_ratio=0.02)},
    "rate .08, betas .5, .9, falling to .05": {"steps": 160, "optimizer": adam(0.08, 0.05)},
    "rate .12, betas .5, .9, falling to .02": {"steps": 160, "optimizer": adam(0.12, 0.02)},
    "views of 112 px, rate .08, betas .5, .95": {
        "steps": 192,
        "transforms": views(px=112, **NEARER),
        "optimizer": LONGER(),
    },
    "160 px, rate .08, betas .9, .999": {**SMALL, "optimizer": FORMER(0.08)},
    "160 px, rate .08, betas .5, .95": {**SMALL, "optimizer": LONGER()},
    "160 px, rate .08, betas .5, .9": SMALL,
    "160 px, rate .08, betas .5, .99": {**SMALL, "optimizer": adam(betas=(0.5, 0.99))},
    "160 px, rate .12, betas .5, .9, falling to .05": {**SMALL, "optimizer": adam(0.12, 0.05)},
    "128 px, rate .08, betas .5, .9": TINY,
    "128 px, rate .12, betas .5, .9, falling to .05": {**TINY, "optimizer": adam(0.12, 0.05)},
    "the same with default views, of 112 px": {
        "param": param.Image(128),
        "steps": 216,
        "optimizer": adam(0.12, 0.05),
    },
    "former draft: rate .05, betas .9, .999": {"steps": 320, "optimizer": FORMER(0.05)},
    "rate .08, betas .5, .9, as long as draft": {"steps": 320},
    "former default: rate .05, betas .9, .999": {"steps": 512, "optimizer": FORMER(0.05)},
    "rate .08, betas .5, .95, as long as the default": {"steps": 512, "optimizer": LONGER()},
    "rate .08, betas .5, .9, as long as the default": {"steps": 512},
    "the same, falling to .05": {"steps": 512, "optimizer": adam(0.08, 0.05)},
    "rate .12, betas .5, .9, falling to .05": {"steps": 512, "optimizer": adam(0.12, 0.05)},
    "the same, anchor decay .05": {"steps": 512, "optimizer": adam(0.12, 0.05, 0.05)},
    "the same, as long as draft": {"steps": 320, "optimizer": adam(0.12, 0.05, 0.05)},
}
"""Rates and running means of Adam that were tried, as long as draft, half as long, and as long as the default."""


TABLES: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "tried": ({"steps": 128, "param": param.Fourier(decay=1.0), "optimizer": LOOSE}, TRIED),
    "spectra": ({"steps": 512, "optimizer": FORMER(0.05)}, SPECTRA),
    "optimizers": ({"optimizer": adam()}, OPTIMIZERS),
}
"""Settings of all rows of each table, and those of each row by its name."""


def print_table(bench: Bench, part: str) -> None:
    """Print what the judge recognises with each setting, on other classes than those of the published table.

    Args:
        bench: Networks, classes and photographs.
        part: One of `TABLES`.
    """
    common, rows = TABLES[part]
    print(f"\n{part:67} steps  s/image  top-1  top-5  mean p  Fréchet   slope")
    for name, settings in {"photographs": {"steps": 0}, **rows}.items():
        given = {"seed": 1000, **common, **settings}
        goals = [f"logit:{label}{given.get('less', '')}" for label in bench.others]
        given.pop("less", None)
        start = time.process_time()
        if given["steps"]:
            images = bench.pictures(f"{part}-{name}", 48, Ours(bench.maker, goals, given))
        else:
            images = torch.stack([bench.photographs[label] for label in bench.others])
        seconds = (time.process_time() - start) / len(goals)
        figures = "  ".join(f"{number:5.2f}" for number in seen(bench, images, bench.others))
        print(f"{name:67} {given['steps']:5}  {seconds:7.1f}  {figures}  {bench.nature(images)}", flush=True)
