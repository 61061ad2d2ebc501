"""`featviz explain --text`: the words of a text on the command line."""

import re
from pathlib import Path

import pytest
from PIL import Image

import featviz as fv
from featviz.cli import main
from featviz.io import read_report

ROOT = Path(__file__).parents[2]
NETS = re.search(r"```python\n(# nets\.py.*?)```", (ROOT / "docs" / "text.md").read_text(), re.DOTALL)[1]
MODEL = ["--model", "nets.py:make", "--quiet"]
TEXT = "The film was not good"


@pytest.fixture(autouse=True)
def nets(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)


def test_a_text_is_printed_and_drawn(tmp_path, capsys):
    assert main(["explain", "--text", TEXT, "logit:positive", "--method", "inputxgradient", *MODEL]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert re.fullmatch(r"logit:positive = -?\d\.\d+, by inputxgradient", lines[0])
    assert [line.split()[0] for line in lines[1:6]] == TEXT.lower().split()
    assert lines[6:] == ["", "text-explained.png"]
    assert err == ""
    assert read_report(tmp_path / "text-explained.png")["explained"][0][0]["model"] == "nets.py:make"
    found = fv.explain(fv.load("nets.py:make"), TEXT, "logit:positive", "inputxgradient")
    assert [float(line.split()[1]) for line in lines[1:6]] == pytest.approx(found.relevance.tolist(), rel=1e-2)


def test_several_texts_and_methods_go_into_one_page(tmp_path, capsys):
    texts = ["--text", TEXT, "--text", "bad"]
    chosen = ["--method", "gradient", "--method", "gradcam", "--class", "negative"]
    assert main(["explain", *texts, *chosen, "-o", "page.html", *MODEL]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "page.html"
    page = (tmp_path / "page.html").read_text()
    assert page.count("<section>") == 4
    assert page.count(">good</span>") == page.count(">bad</span>") == 2


def test_a_second_run_writes_a_second_file(tmp_path):
    for _ in range(2):
        assert main(["explain", "--text", TEXT, "--method", "gradient", *MODEL]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["text-explained-2.png", "text-explained.png"]


@pytest.mark.parametrize(
    ("environment", "colored"),
    [({"COLORTERM": "truecolor"}, True), ({}, False), ({"COLORTERM": "truecolor", "NO_COLOR": "1"}, False)],
)
def test_colours_only_where_the_terminal_has_them(environment, colored, monkeypatch, capsys):
    from featviz.cli import explain

    for name in ("COLORTERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not explain._has_true_color()  # no terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert explain._has_true_color() == colored


@pytest.mark.parametrize("negated", ["-logit:positive", "logit:positive - logit:negative"])
def test_the_first_objective_is_no_image(negated, capsys):
    assert main(["explain", "--text", TEXT, negated, "lstm:3", "--method", "gradient", *MODEL]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if ", by gradient" in line]
    assert len(titles) == 2
    assert titles[1].startswith("lstm:3 = ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*MODEL], 'give an image, or --text "..." for a network that reads text'),
        (["cat.png", *MODEL], 'nets.py:make reads text; give --text "..." in place of an image'),
        (["cat.png", "--text", TEXT, *MODEL], "give either an image or --text, got cat.png and --text"),
        (
            ["--text", TEXT, "--quiet"],
            "motifnet reads images; give an image in place of --text, or a network that reads text as --model "
            "FILE.py:FACTORY",
        ),
        (["--text", "", *MODEL], "the text is empty; give at least one word"),
        (
            ["--text", "good " * 70, *MODEL],
            "the text has 70 tokens, and the network takes at most 64; shorten it",
        ),
        (["--text", TEXT, "logit:great", *MODEL], "no class 'great'; nearest: 'negative'"),
        (
            ["--text", TEXT, "-o", "a.gif", *MODEL],
            "cannot write a.gif: end it in .html, .png, .jpg, .jpeg, .webp",
        ),
        (
            ["--text", TEXT, "--input-size", "32", *MODEL],
            "nets.py:make reads text, which has no input_size; leave out input_size",
        ),
        (
            ["--text", TEXT, "--method", "attention", *MODEL],
            "nets.py:make has no attention over its tokens; use e.g. GradCAM",
        ),
    ],
)
def test_wrong_combinations_give_one_line(arguments, message, tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "cat.png")
    before = sorted(tmp_path.iterdir())
    assert main(["explain", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message is None or lines == [f"featviz: {message}"]
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize("command", [["render", "logit:positive"], ["doctor"], ["gallery", "-o", "page"]])
def test_other_commands_say_that_they_work_on_images(command, capsys):
    assert main([*command, "--model", "nets.py:make", *(["--quiet"] if command[0] != "doctor" else [])]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"featviz: nets.py:make reads text, and {command[0]} works on images; "
        "use explain, compare, attention or embeddings"
    ]


def test_layers_of_a_network_that_reads_text(capsys):
    assert main(["layers", "--model", "nets.py:make"]) == 0
    assert "lstm" in capsys.readouterr().out
