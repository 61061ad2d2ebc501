"""Files of folders that commands read, and the labels of what they compute."""

from __future__ import annotations

import dataclasses
import sys
import typing

import numpy as np
import pytest
from torch import nn

import featviz as fv
from featviz.apps.match import MATCH_WEIGHT
from featviz.cli import main, options
from featviz.cli.files import readable_files
from featviz.io import save_image


def network(axes):
    """A network of greyscale images, or of another kind of input."""
    conv = {"x": nn.Conv1d, "yx": nn.Conv2d, "tyx": nn.Conv3d}[axes]
    size = {"x": (40,), "yx": (16, 16), "tyx": (4, 16, 16)}[axes]
    return fv.Network(nn.Sequential(conv(1, 2, 3, padding=1)), size=size, mean=(0.5,), std=(0.2,), axes=axes)


def test_files_of_several_signals_are_skipped(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((1, 40), np.float32))
    np.save(tmp_path / "b.npy", np.random.default_rng(0).random((2, 1, 40), np.float32))
    np.save(tmp_path / "c.npy", np.random.default_rng(0).random((1, 30), np.float32))
    found = list(readable_files(tmp_path, network("x"), "-dream"))
    assert [file.name for file in found] == ["a.npy", "c.npy"]
    file = tmp_path / "b.npy"
    skipped = f"featviz: skipped {file}: {file} holds 2 inputs; save each in a file of its own\n"
    assert capsys.readouterr().err == skipped


def test_image_networks_skip_arrays_and_broken_files(tmp_path, capsys):
    """What is yielded is what dreams and explanations read: they take arrays from Python only."""
    save_image(np.zeros((20, 30, 3), np.uint8), tmp_path / "a.png")
    np.save(tmp_path / "b.npy", np.random.default_rng(0).random((1, 20, 20), np.float32))
    (tmp_path / "c.png").write_text("no image")
    (read,) = readable_files(tmp_path, network("yx"), "-dream")
    assert read == tmp_path / "a.png"
    fv.explain(network("yx"), read, "0:1", "gradient")
    message = "as an image; give a PNG, JPEG or WebP file"
    assert capsys.readouterr().err.splitlines() == [
        f"featviz: skipped {file}: cannot read {file} {message}" for file in (tmp_path / "b.npy", tmp_path / "c.png")
    ]
    with pytest.raises(fv.OutputError, match=message):
        fv.explain(network("yx"), tmp_path / "b.npy", "0:1", "gradient")


@pytest.mark.parametrize("output", ["a.mp4", "a.npy"])
def test_a_dream_on_a_clip_counts_pixels(output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("clip.npy", np.random.default_rng(0).random((1, 4, 16, 16), np.float32))
    labels = []
    module = sys.modules["featviz.cli.dream"]
    monkeypatch.setattr(options.NetworkOptions, "load", lambda self: network("tyx"))
    monkeypatch.setattr(module, "progress", lambda quiet, *names: labels.append(names))
    monkeypatch.setattr(module, "save", lambda *_, **__: None)
    monkeypatch.setattr(fv, "dream", lambda *_, **__: None)
    assert main(["dream", "clip.npy", "--layer", "0", "-o", output]) == 0
    assert labels == [("dream", "10k px")]


def test_the_help_gives_the_default_weight_of_matching():
    (option,) = typing.get_type_hints(options.MatchOptions, include_extras=True)["match_weight"].__metadata__
    assert option.help.endswith(f" Default: {MATCH_WEIGHT:g}.")


def test_a_judge_has_all_options_of_an_input_specification():
    own = {f"judge_{field.name}" for field in dataclasses.fields(options.InputOptions)}
    assert own <= {field.name for field in dataclasses.fields(options.JudgeOptions)}


def test_a_bare_module_of_signals_judges_signals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef bare():\n"
        "    return nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())\n"
    )
    given = {"model": "nets.py:bare", "device": "cpu"}
    judge = options.JudgeOptions(
        judge_input_size="40", judge_mean="0", judge_std="1", judge_axes="x", judge_value_range="-2,2"
    ).load(**given)
    assert judge.input == fv.InputSpec((40,), (0.0,), (1.0,), axes="x", value_range=(-2.0, 2.0))
