"""The command line: commands that are interrupted keep what there is so far."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import printed

import featviz as fv
from featviz.cli import main
from featviz.io import read_image, save_image

SELF_TERMINATING = """
import os, signal
import featviz as fv
calls = []

@fv.objectives.objective("stage1")
def stopped(acts):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.{signal})
    return acts["stage1"].flatten(1).mean(1)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_keep_what_there_is_so_far(name, tmp_path, capsys):
    (tmp_path / "mine.py").write_text(SELF_TERMINATING.format(signal=name))
    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_DFL)  # it may be ignored where the tests run
    words = ["render", "stopped", "--own", "mine.py:stopped", "--steps", "100", "-o", "a.png", "--quiet"]
    try:
        assert main(words) == 130
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    out, err = printed(capsys)
    assert out == ["a.png"] and re.fullmatch(r"stopped at step \d of 100", err[-1])
    assert read_image("a.png").shape == (3, 64, 64)


@pytest.mark.parametrize("command", ["sweep", "gallery"])
def test_ctrl_c_says_how_to_continue(command, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fv, command, interrupt)
    for before in ([], ["--debug"]):
        assert main([*before, command, *(["--layer", "stage1"] if command == "sweep" else [])]) == 130
        assert printed(capsys)[1] == ["featviz: interrupted; run the same command again to continue"]


def test_ctrl_c_saves_the_image_so_far(tmp_path):
    code = (
        "import featviz as fv, sys\n"
        "def interrupt(*_):\n"
        "    import featviz as fv\n"
        "    def progress(done, steps):\n"
        "        if done == 3: raise KeyboardInterrupt\n"
        "    return progress\n"
        "from featviz.cli import main\n"
        "fv.progress_bar = interrupt\n"
        "sys.exit(main(['render', 'stage1:3', '--steps', '9', '-o', 'a.png']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stdout.split() == ["a.png"]
    assert done.stderr == "stopped at step 3 of 9\n"
    assert fv.Recipe.of(tmp_path / "a.png").until == 3


def test_replaying_a_stopped_image_over_itself(tmp_path, capsys):
    fv.render(fv.load(device="cpu"), "stage1:3", steps=9, until=3).save("a.png")
    assert main(["replay", "a.png", "-o", "a.png", "--quiet"]) == 0
    assert printed(capsys)[0] == ["a.png", "the same as the image, to the byte"]


@pytest.mark.parametrize(
    "words",
    [
        ["render", "stage1:0", "-o", "a.png"],
        ["texture", "box", "stage1:0", "--view", "32", "--views", "1", "-o", "box"],
        ["examples", "photos", "--layer", "stage1", "--channels", "0", "-o", "a.png"],
        ["embeddings", "photos", "a.png", "--layer", "stage1", "--render", "a2.png"],
    ],
    ids=lambda words: words[0],
)
def test_a_render_that_ctrl_c_stops_exits_with_130_after_its_files_are_written(words, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        save_image(np.random.default_rng(ord(name)).integers(0, 255, (64, 64, 3), np.uint8), Path(f"photos/{name}.png"))
    stopped = fv.render

    def render(*given, **named):
        return stopped(*given, **{**named, "steps": 4, "until": 2, "size": 32})

    monkeypatch.setattr(fv, "render", render)
    assert main([*words, "--quiet"]) == 130
    assert [file for file in tmp_path.iterdir() if file.name != "photos"]


def test_an_image_whose_scoring_was_stopped_is_saved_and_replayed(tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("featviz.engine.chunks.Chunks.score", interrupt)
        assert main(["render", "stage1:0", "--steps", "3", "--size", "32", "-o", "a.png", "--quiet"]) == 130
    assert printed(capsys)[1][-1] == "stopped at step 3 of 3" and fv.Recipe.of("a.png").until == 3
    assert main(["replay", "a.png", "--quiet"]) == 0
    assert "the same as the image, to the byte" in printed(capsys)[0]


def test_an_ignored_signal_stays_ignored(tmp_path):
    """As `nohup` does."""
    (tmp_path / "mine.py").write_text(SELF_TERMINATING.format(signal="SIGHUP"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        words = ["render", "stopped", "--own", "mine.py:stopped", "--steps", "8", "-o", "a.png", "--quiet"]
        assert main(words) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_stderr_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["render", "logit:moon", "--steps", "2", "--size", "16", "-o", "a.png"]) == 0
    assert Path("a.png").is_file()
