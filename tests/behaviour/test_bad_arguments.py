"""Public calls with arguments that cannot be right: only errors of featviz, and nothing runs for long."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path

import clip_toys
import numpy as np
import pytest
import torch
import toys
from PIL import Image
from robustness.values import Unprintable
from torch import nn

import featviz as fv
from featviz.engine.argument_checks import CHECKS
from featviz.engine.entry_point import FOR_ANY_AXES, FOR_LIVE, FOR_TEXT

BAD = {
    "object": object(),
    "module": nn.ReLU(),
    "empty text": "",
    "unknown name": "no such name",
    "nan": math.nan,
    "infinity": math.inf,
    "negative": -1,
    "fraction": 1.5,
    "true": True,
    "list": [],
    "list of None": [None],
    "huge range": range(10**9),
    "dict": {},
    "bytes": b"bytes",
    "function": len,
    "array": np.zeros((2, 2)),
    "tensor": torch.full((3, 2), math.nan),
    "tensor without values": torch.ones(2, 3, device="meta"),
    "sparse tensor": torch.ones(2, 3).to_sparse(),
    "array of text": np.array("x"),
    "array of objects": np.array([object()]),
    "number of numpy": np.int64(-3),
    "ratio": Fraction(1, 2),
    "text that is no name of a file": "\ud800",
    "no repr": Unprintable(),
}
"""Values that are wrong for most arguments. Where one is right, the call may succeed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a photograph, and an image that featviz rendered."""
    folder = tmp_path_factory.mktemp("given")
    Image.fromarray(np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)).save(folder / "photo.png")
    net = toys.plain()
    (folder / "rendered").mkdir()
    fv.render(net, "conv2:1", steps=1).save(folder / "rendered" / "one.png")
    (folder / "several").mkdir()
    for i in range(4):
        Image.fromarray(np.full((32, 32, 3), 50 * i, np.uint8)).save(folder / "several" / f"{i}.png")
    return folder


def right_arguments(net: fv.Network, folder: Path, out: Path) -> dict[str, dict[str, object]]:
    """Return arguments with which each public function succeeds, by its name."""
    photo, few = folder / "photo.png", {"steps": 1, "size": 32}
    return {
        "accentuate": {"network": net, "image": photo, "objective": "conv2:1", "steps": 1, "crops": 1},
        "attention": {"network": toys.network(toys.Vit()), "image": photo},
        "blocks": {"network": net, "image": photo, "layers": "conv2", "output": out, "cells": 2, "groups": 1, **few},
        "circuit": {"network": net, "unit": "conv2:1", "output": out, "inputs": 1, "groups": 0, "depth": 0, **few},
        "compare": {"network": net, "image": photo, "targets": ["logit:1"], "methods": ["gradient"]},
        "diff": {"first": net, "second": net, "photographs": folder / "several", "output": out, **few},
        "doctor": {"network": net, "photographs": folder},
        "dream": {"network": net, "image": photo, "objective": "conv2:1", "octaves": 1, "steps": 1},
        "dream_zoom": {"network": net, "image": photo, "objective": "conv2:1", "frames": 1, "octaves": 1, "steps": 1},
        "embeddings": {"source": net, "photographs": folder},
        "evidence": {"network": net, "photographs": folder},
        "examples": {"network": net, "photographs": folder, "layer": "conv2"},
        "explain": {"network": net, "image": photo, "target": "logit:1", "method": "gradient"},
        "explore": {"network": net, "output": out, "open_browser": False},
        "fit_dictionary": {"network": net, "photographs": folder, "layer": "conv2", "features": 2, "steps": 1},
        "fit_prior": {"images": folder},
        "gallery": {"network": net, "output": out, "classes": [1], **few},
        "judge": {"images": folder / "rendered", "judge": net, "network": net},
        "render": {"network": net, "objective": "conv2:1", "steps": 1},
        "replay": {"recipe": folder / "rendered" / "one.png", "network": net},
        "score": {"network": net, "objective": "conv2:1", "images": torch.rand(1, 3, 32, 32)},
        "sweep": {"network": net, "output": out, "layers": "conv2", "channels": [1], **few},
        "zero_shot": {"model": clip_toys.Colours(), "texts": ["red"], "tokenizer": clip_toys.tokenize, "size": 16},
        "texture": {"network": net, "mesh": "box", "objective": "conv2:1", "view": 32, "views": 2, **few},
        "unit": {"network": net, "unit": "conv2:1", "photographs": folder, **few},
    }


SKIPPED = {"progress_bar", "models", "combine", "load", "save_video", "dream_video", "atlas"}
"""Functions that need a video, `umap` or a download, or have tests of their own."""
FUNCTIONS = sorted({name for name in fv.__all__ if inspect.isfunction(getattr(fv, name))} - SKIPPED)


def test_the_list_of_functions_is_complete(folder, tmp_path):
    assert set(FUNCTIONS) == set(right_arguments(toys.plain(), folder, tmp_path))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_errors_of_featviz(name, folder, tmp_path, monkeypatch):
    """Each argument in turn is replaced by each bad value."""
    net = toys.plain()
    function: Callable[..., object] = getattr(fv, name)
    failures = []
    for argument, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        for kind, bad in BAD.items():
            if argument in ("progress", "scan_progress", "tokenizer") and callable(bad):
                continue  # its own error surfaces
            given = right_arguments(net, folder, tmp_path / "out")[name] | {argument: bad}
            try:
                result = function(**given)
                if inspect.isgenerator(result):
                    next(result, None)
                if isinstance(result, AbstractContextManager):
                    with result:
                        pass
            except fv.FeatvizError as error:
                if "\n" in str(error) and "^" not in str(error):  # a caret marks where text cannot be parsed
                    failures.append(f"{argument} = {kind}: {str(error)[:60]}")
            except Exception as error:
                failures.append(f"{argument} = {kind}: {type(error).__name__}: {error}"[:140])
    assert not failures, f"{len(failures)}: " + "\n".join(failures)


def test_every_check_accepts_the_defaults():
    for name in FUNCTIONS:
        for argument, parameter in inspect.signature(getattr(fv, name)).parameters.items():
            if name != "fit_prior" and argument in CHECKS and parameter.default not in (parameter.empty, None):
                CHECKS[argument](argument, parameter.default)


def test_messages_name_the_functions_that_accept_something():
    entries = [
        found.entry_point for name in fv.__all__ if (found := getattr(fv, name)) and hasattr(found, "entry_point")
    ]
    listed = {
        "any_axes": FOR_ANY_AXES.removeprefix("use "),
        "reads_text": FOR_TEXT.removeprefix("use "),
        "shows_images": FOR_LIVE,
    }
    for trait, text in listed.items():
        known = {entry.name for entry in entries if getattr(entry, trait)}
        assert set(re.split(", | or ", text)) == known - ({"score", "compare"} if trait == "any_axes" else set())


METHODS = sorted(name for name in fv.methods.__all__ if inspect.isclass(getattr(fv.methods, name)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_methods_accept_bad_settings_or_refuse_them_in_one_line(name, tmp_path):
    """Each setting of an attribution method in turn is replaced by each bad value."""
    method, failures = getattr(fv.methods, name), []
    net = toys.network(toys.Vit())
    given = {"head": tmp_path / "none.safetensors"} if name == "Scouter" else {}
    for argument in inspect.signature(method).parameters:
        for kind, bad in BAD.items():
            try:
                fv.explain(net, torch.rand(1, 3, 32, 32), "logit:1", method=method(**given | {argument: bad}))
            except fv.FeatvizError as error:
                if "\n" in str(error):
                    failures.append(f"{argument} = {kind}: {str(error)[:60]}")
            except Exception as error:
                failures.append(f"{argument} = {kind}: {type(error).__name__}: {error}"[:140])
    assert not failures, f"{len(failures)}: " + "\n".join(failures)


def test_attention_takes_the_number_of_a_layer_not_a_name():
    expected = (
        "layer of Attention must be the number of an attention layer, got 'text'; 0 is the first one, -1 the last"
    )
    with pytest.raises(fv.SettingError, match=f"^{expected}$"):
        fv.methods.Attention(layer="text")
