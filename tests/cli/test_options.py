"""The command line: its options, their defaults, and the help."""

import inspect
import re
from pathlib import Path

import pytest
import toys
import typer
from command_line import COMMANDS, help_of, printed

import featviz as fv
from featviz.cli import app, main
from featviz.cli.options import JudgeOptions, PageStepsOptions, StepsOptions
from featviz.cli.parsing import (
    find_classes,
    read_channels,
    read_class_names,
    read_image_size,
    read_numbers,
    read_range,
    read_size,
)


def test_render_has_the_defaults_of_the_functions():
    given = {name: each.default for name, each in inspect.signature(COMMANDS["render"]).parameters.items()}
    wanted = {name: each.default for name, each in inspect.signature(fv.render).parameters.items()}
    assert {name: given[name] for name in ("quality", "steps", "lr", "batch", "seed", "size")} == {
        name: wanted[name] for name in ("quality", "steps", "lr", "batch", "seed", "size")
    }
    for name in ("param", "transforms", "optimizer"):
        assert given[name] is wanted[name] is None


FUNCTIONS = {
    name: getattr(fv, name)
    for name in ("gallery", "sweep", "unit", "atlas", "blocks", "dream", "examples", "evidence", "circuit", "diff")
}
FUNCTIONS["explain"] = fv.compare  # several methods side by side
FUNCTIONS["dictionary"] = fv.fit_dictionary
FUNCTIONS["concept"] = fv.Concept.from_photographs
FUNCTIONS["accentuate"] = fv.accentuate


@pytest.mark.parametrize("command", FUNCTIONS)
def test_options_have_the_names_and_defaults_of_the_arguments(command):
    given = {name: each.default for name, each in inspect.signature(COMMANDS[command]).parameters.items()}
    wanted = {name: each.default for name, each in inspect.signature(FUNCTIONS[command]).parameters.items()}
    read_from_text = {"classes", "channels", "param", "output", "backend", "steps", "progress"}
    read_from_text |= {"match_weight"}  # None, to tell whether it was given; its help has the default
    read_from_text |= {"image"} if command == "explain" else set()  # which may be --text instead
    shared = (given.keys() & wanted.keys()) - read_from_text
    assert "seed" in shared or command in ("explain", "examples", "evidence")
    assert {name: given[name] for name in shared} == {name: wanted[name] for name in shared}
    if command in ("gallery", "sweep", "unit", "circuit"):
        assert given["quality"] == wanted["quality"] and given["steps"] is wanted["steps"] is None
    if command in ("atlas", "blocks", "diff"):
        assert given["quality"] is given["steps"] is None
        assert f"Default: those of --quality, or else {wanted['steps']}." in help_of(command)


NETWORK = (
    "model",
    "weights",
    "device",
    "input_size",
    "mean",
    "std",
    "channel_order",
    "layout",
    "head",
    "outputs",
    "class_names",
)
LOADING = (
    "render",
    "dream",
    "accentuate",
    "gallery",
    "sweep",
    "explain",
    "examples",
    "evidence",
    "atlas",
    "blocks",
    "circuit",
    "dictionary",
    "concept",
    "unit",
    "diff",
    "embeddings",
    "layers",
    "doctor",
)
RENDERING = ("render", "gallery", "sweep", "examples", "atlas", "blocks", "circuit", "unit", "diff")


def test_commands_share_the_options_of_networks_judges_and_backends():
    given = {name: inspect.signature(command).parameters for name, command in COMMANDS.items()}
    for name in LOADING:
        assert given[name].keys() & set(NETWORK) == set(NETWORK) - (
            {"weights"} if name in ("diff", "layers") else set()
        )
    load = inspect.signature(fv.load).parameters
    for command in (given["render"], given["explain"]):
        arguments = [name.replace("class_names", "classes") for name in NETWORK]
        assert [command[name].default for name in NETWORK] == [load[name].default for name in arguments]
    for name in ("diff", "gallery", "judge", "unit"):
        assert {f"judge_{option}" for option in NETWORK[1:] if option != "device"} | {"judge"} <= given[name].keys()
    for name in ("gallery", "sweep", "atlas", "blocks", "circuit", "diff"):
        assert {"backend", "address", "workers"} <= given[name].keys()
    for name in RENDERING:
        assert {"size", "quality", "steps"} <= given[name].keys()
    assert [name for name in LOADING if "size" in given[name]] == list(RENDERING)


def test_the_help_states_the_steps_of_the_presets():
    counts = [preset.steps for preset in fv.PRESETS.values()]
    whole = "Quality preset: draft (smaller images, {} steps), usual ({}), best ({}).".format(*counts)
    steps_only = "Number of steps by quality preset: draft ({}), usual ({}), best ({}).".format(*counts)
    assert list(fv.PRESETS) == ["draft", "usual", "best"]
    for name in RENDERING:
        assert (steps_only if name in ("atlas", "blocks", "diff") else whole) in help_of(name)


def test_explain_lists_all_methods():
    named = [
        name.lower() for name in fv.methods.__all__ if inspect.isclass(getattr(fv.methods, name)) or name.isupper()
    ]
    assert f"Available: {', '.join(sorted(named)[:-1])} and {sorted(named)[-1]}." in help_of("explain")


def test_summaries_are_not_cut_in_narrow_terminals(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "50")
    text = help_of()
    for command in COMMANDS.values():
        assert " ".join(command.__doc__.partition("\n\n")[0].split()) in text


def test_the_help_fits_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    summaries = capsys.readouterr().out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in summaries] == [name.replace("_", "-") for name in COMMANDS]
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in summaries)


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert printed(capsys)[0] == [f"featviz {fv.__version__}"]
    assert main([]) == 0
    text = "\n".join(printed(capsys)[0])
    assert "Examples:" in text and "featviz render --class spiral" in text
    for command in COMMANDS:
        assert main([command.replace("_", "-"), "--help"]) == 0


def test_a_number_is_a_class_index_unless_it_is_a_class_name():
    numbered = toys.plain(classes=("3", "4", "c", "d", "e"))
    assert find_classes(numbered, ["3", "0", "c"]) == [fv.objectives.Logit(name) for name in ("3", 0, "c")]
    assert find_classes(numbered, None) == []


def test_text_of_options():
    assert read_size(None) is None and read_size("224") == 224 and read_size("160X320") == (160, 320)
    assert read_size("16x64x32") == (16, 64, 32) and read_image_size("224") == 224
    with pytest.raises(fv.SettingError, match="^the size of an image must be px as 224, or height and width"):
        read_image_size("16x64x32")
    assert read_range("-1,1") == (-1.0, 1.0) and read_range(None) is None
    with pytest.raises(fv.SettingError, match="^a range must be the lowest and the highest value, as -1,1, got '1'$"):
        read_range("1")
    assert read_numbers(None) is None and read_numbers("0.5, 1,2e-1") == (0.5, 1.0, 0.2)
    assert read_channels("0-2, 40,7-7") == [0, 1, 2, 40, 7]
    for text in ("1x2x3x4", "", "x", "-4", "4.0"):
        wanted = "a size must be px as 224, height and width as 160x320, or three lengths as 16x64x64"
        message = f"{wanted}, got {text!r}"
        with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
            read_size(text)
    with pytest.raises(fv.SettingError, match="^cannot read the channels '1-'; give numbers as 0-15,40, or all$"):
        read_channels("1-")
    message = "cannot read the channels '5-2'; give the smaller number first, as 2-5"
    with pytest.raises(fv.SettingError, match=f"^{message}$"):
        read_channels("5-2")


def test_pages_take_the_steps_of_a_quality_preset_unless_they_are_given():
    assert PageStepsOptions().settings == {}
    assert PageStepsOptions(steps=3).settings == PageStepsOptions(quality="best", steps=3).settings == {"steps": 3}
    assert PageStepsOptions(quality="draft").settings == {"steps": fv.PRESETS["draft"].steps}


def test_other_commands_take_the_whole_preset():
    assert StepsOptions().settings == {"quality": "usual", "steps": None}
    assert StepsOptions(quality="draft", steps=3).settings == {"quality": "draft", "steps": 3}
    with pytest.raises(fv.SettingError, match="^quality must be one of draft, usual, best, got 'fine'$"):
        _ = StepsOptions(quality="fine", steps=3).settings


def test_options_that_commands_share_are_spelled_once():
    helps = [
        option.help
        for command in typer.main.get_command(app).commands.values()
        for option in command.params
        if getattr(option, "help", None)
    ]
    shared = {text for text in helps if helps.count(text) >= 3 and text != "Show this message and exit."}
    folder = Path(fv.__file__).parent / "cli"
    joined = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text() for file in folder.glob("*.py")))
    assert len(shared) > 20 and {text for text in shared if joined.count(f'"{text}"') > 1} == set()


def test_a_judge_is_loaded_from_its_own_options():
    options = JudgeOptions(judge_input_size="72", judge_channel_order="bgr", judge_weights="none")
    judge = options.load("motifnet", "cpu")
    assert (judge.size, judge.input.channel_order, judge.weights) == ((72, 72), "BGR", "none")


@pytest.mark.parametrize("name", ["c.csv", "c.tsv"])
def test_tables_of_class_names_and_repeated_indices_are_refused(name, tmp_path):
    (tmp_path / name).write_text("0,ant\n1,bee\n")
    with pytest.raises(fv.SettingError) as caught:
        read_class_names(tmp_path / name)
    message = f"{tmp_path / name} is a table; give class names as one name per line (.txt), or as JSON"
    assert str(caught.value) == message
    (tmp_path / "c.json").write_text('{"0": "ant", "0": "bee"}')
    with pytest.raises(fv.SettingError, match="^cannot read class names from"):
        read_class_names(tmp_path / "c.json")
