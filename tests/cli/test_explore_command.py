"""`featviz explore`, as a process: it prints its address, serves until Ctrl-C, and says what is wrong in one line."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import featviz as fv
from featviz.cli import main

ROOT = Path(__file__).parents[2]
CODE = """
import signal, sys
from featviz.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background processes ignore it
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", CODE, "explore"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(tmp_path, stop):
    command = [*COMMAND, "--no-browser", "-o", "kept"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", url), process.stderr.read()
            assert httpx.get(f"{url}api/about", timeout=60).json()["model"] == "motifnet"
            process.send_signal(stop)
            assert process.wait(30) == 0
            assert (process.stdout.read(), process.stderr.read()) == ("", "")
        finally:
            process.kill()
    assert (tmp_path / "kept").is_dir()


def test_a_port_in_use_is_one_clear_line(capsys, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["explore", "--port", str(port), "--no-browser", "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"featviz: cannot open port {port}: Address already in use; give another one with --port, or leave it out for "
        "any free one\n"
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "phraselstm"],
         "phraselstm reads text, and explore works on images; use explain, compare, attention or embeddings"),
        (["--port", "70000"], "port must be in 0…65535, got 70000 (default 0, any free one)"),
        (["-o", "memory://x"], "explore keeps its images in a folder of this machine, got memory://x"),
        (["--photographs", "none"], "no folder none; give a folder of images"),
    ],
)  # fmt: skip
def test_bad_options_are_one_clear_line(words, line, capsys):
    assert main(["explore", "--no-browser", *words]) == 2
    assert capsys.readouterr().err == f"featviz: {line}\n"


def test_without_the_extra_it_says_how_to_install_it():
    code = "import sys; sys.modules['uvicorn'] = None; from featviz.cli import main; sys.exit(main(['explore']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "featviz: Starlette and uvicorn are not installed; run: pip install 'featviz[explore]'\n"


def test_a_notebook_shows_the_page(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    with fv.explore(fv.load("motifnet"), output=tmp_path) as running:
        assert opened == []
        shown = running._repr_html_()
        assert shown.startswith(f'<iframe src="{running.url}" title="featviz explore" ')
        running.url = '"><script>'
        assert "<script>" not in running._repr_html_()
    with fv.explore(fv.load("motifnet"), output=tmp_path, open_browser=True) as running:
        assert opened == [running.url]


def test_networks_have_folders_of_their_own():
    from featviz.apps.explore.explore import default_output

    net = fv.load("motifnet")
    folder = default_output(net)
    assert folder.parent == Path(os.environ["XDG_CACHE_HOME"]) / "featviz" / "explore"
    assert folder != default_output(net.with_input(size=32)) and folder == default_output(fv.load("motifnet"))
