"""The command line: messages about bad input."""

import imageio.v3 as iio
import numpy as np
import pytest
from command_line import OWN, QUICK, printed

import featviz as fv
from featviz.cli import main
from featviz.engine.monitor import NOT_FINITE_AT_START


def test_an_unknown_option_is_refused_and_words_after_dashes_are_kept(tmp_path, capsys):
    assert main(["render", "stage1:3", "-x"]) == 2
    assert printed(capsys)[1] == ["featviz: No such option: -x (featviz render --help)"]
    (tmp_path / "-a.png").write_bytes(b"no image")
    assert main(["replay", "--", "-a.png"]) == 2
    assert printed(capsys)[1] == ["featviz: cannot read -a.png as an image; give a PNG, JPEG or WebP file"]


BAD = [
    (["render", "stage1:3", "--model", "resnet5"], "no model 'resnet5'; nearest: 'resnet50', 'resnet152', 'resnet34' (list all: featviz models)"),
    (["render", "stag1:3"], "no layer 'stag1' in motifnet; nearest: 'stage1', 'stage3.1', 'stage2.1' (list all: featviz layers --model motifnet)"),
    (["render", "stage1:32"], "no channel 32 in 'stage1'; it has 32, 0 to 31"),
    (["render", "stage1:3@32,0"], "no position @32,0 in 'stage1'; at this size its map has rows 0 to 31 and columns 0 to 31"),
    (["render", "--class", "spirl"], "no class 'spirl'; nearest: 'spiral', 'smiley', 'star'"),
    (["render", "stage1:3", "--weights", "no.pt"], "no weights file no.pt; give a safetensors or state_dict file"),
    (["render", "logit:3", "--size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
    (["render", "stage1:3", "--size", "0"], "size must be at least 1 px on each side, got 0 x 0"),
    (["render", "stage1:3", "--size", "1000000"], "size must be at most 65536 px on each side, got 1000000"),
    (["render", "stage1:3", "--size", "65536", "--batch", "9999"], "out of memory with 9999 images of 65536 x 65536 px; give a smaller size"),
    (["render", "stage1:3", "--size", "big"], "a size must be px as 224, height and width as 160x320, or three lengths as 16x64x64, got 'big'"),
    (["render", "stage1:3", "--mean", "a"], "numbers must be separated by commas, as 0.5,0.5,0.5, got 'a'"),
    (["render", "stage1:3", "-o", "no/a.png"], "cannot write no/a.png: there is no folder no; make it first"),
    (["render", "stage1:3", "-o", "a.gif"], "cannot write a.gif: .gif is for video; for images end it in .png, .jpg, .jpeg, .webp or .npy"),
    (["render", "stage1:3", "--steps", "-1"], "steps must be >= 0, got -1 (default 512; 0 returns the start)"),
    (["render", "stage1:3", "--batch", "0"], "batch must be a whole number in [1, 65536], got 0"),
    (["render", "stage1:3", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["judge", "a.png", "--judge", "motifnt"], "no model 'motifnt'; nearest: 'motifnet', 'motifvit', 'mobilenet_v2' (list all: featviz models)"),
    (["render", "stage1:3", "--lr", "0"], "lr must be > 0, got 0.0 (default 0.12)"),
    (["render", "stage1:3", "--optimizer", "ascent", "--lr", "2"], "lr needs the optimizer adam, got Ascent(lr=1.0); give the rate there, as in Ascent(lr=2.0)"),
    (["render", "stage1:3", "--seed", "-1"], "seeds must be in [0, 2**63), got -1 to -1"),
    (["render", "stage1:3", "--device", "tpu"], "no device 'tpu' found; give auto, cpu, cuda or mps"),
    (["render", "stage1:3", "--param", "fourir"], "there is no 'fourir' in param; nearest: 'Fourier'"),
    (["render", "stage1:3", "--transforms", "standrd"], "there is no 'standrd' in transforms; nearest: 'STANDARD', 'GaussianBlur', 'Pad'"),
    (["render", "stage1:3", "--param", "plain"], "Plain() is not a param; use e.g. param.Image(size=224) or a spatial part such as param.Pixel()"),
    (["render", "stage1:3", "--param", "Fourier(prior='no.json')"], "no file no.json; create it with: featviz fit-prior FOLDER -o no.json"),
    (["render", "stage1:3", "--param", "Fourier(prior='plain.png')"], "plain.png is not a prior; create one with: featviz fit-prior FOLDER"),
    (["render", "stage1:3", "--param", "Masked('plain.png')"], "Masked keeps an image outside of its mask and needs one to start from; use start=, or --start"),
    (["render", "stage1:3", "--start", "no.png"], "no file no.png; check the path"),
    (["render", "stage1:3", "--start", "plain.png", "--size", "32x64"], "start must have the aspect ratio of the image, 32 x 64 px, got 4 x 4 px; crop it first"),
    (["render", "stage1:3", "--match-weight", "5"], "--match-weight needs --match; give a folder of photographs, or batch-norm"),
    (["gallery", "--match-weight", "5"], "--match-weight needs --match; give a folder of photographs, or batch-norm"),
    (["sweep", "--layer", "stage1", "--match-weight", "5"], "--match-weight needs --match; give a folder of photographs, or batch-norm"),
    (["gallery", "--workers", "3"], "--workers is about a Ray cluster; give --backend ray as well"),
    (["sweep", "--layer", "stage1", "--address", "auto"], "--address is about a Ray cluster; give --backend ray as well"),
    (["gallery", "--judge-mean", "0.5"], "--judge-mean describes the judge; give --judge MODEL as well"),
    (["unit", "stage1:3", "--photographs", ".", "-o", "../no.html", "--judge-input-size", "32"], "--judge-input-size describes the judge; give --judge MODEL as well"),
    (["dream", "plain.png", "stage1", "--zoom", "1.1", "--pan", "nan,1", "-o", "a.gif"], "each number of pan must be a finite number in [-1, 1], got nan"),
    (["dream", "plain.png", "stage1", "--zoom", "1.1", "--pan", "0,2", "-o", "a.gif"], "each number of pan must be in [-1, 1], got 2.0"),
    (["dream", "plain.png", "stage1", "--zoom", "1.1", "--fps", "1e-9", "-o", "a.gif"], "fps must be in [0.01, 1000], got 1e-09 (default 24)"),
    (["dream", "https://example.com/x.png", "stage1"], "no file https:/example.com/x.png; check the path"),
    (["render", "stage1:3 + 1e308*stage1", "--quiet"], NOT_FINITE_AT_START),
    (["render", "stage1:3", "--at", "0"], "--at needs a param of any size, such as cppn, got fourier; its images have a fixed size"),
    (["render", "stage1:3", "--param", "cppn", "--at", "0"], "size must be at least 1 px on each side, got 0 x 0"),
    (["render", "stage1:3", "--param", "cppn", "--at", "48x0"], "size must be at least 1 px on each side, got 48 x 0"),
    (["render", "stage1:3", "--at", "100"], "--at needs a param of any size, such as cppn, got fourier; its images have a fixed size"),
    (["render", "match(stage1, no.png)"], "no file no.png; check the path"),
    (["render", "diversity(stage1)"], "diversity(stage1) compares images of a batch, and there is one; use batch=4, or --batch 4"),
    (["render", "opacity"], "the image has no alpha channel; use param=param.Alpha(), or --param alpha"),
    (["fit-prior", "nowhere"], "no folder nowhere; give a folder of images"),
    (["fit-prior", ".", "-o", "prior.png"], "cannot write prior.png: end it in .json"),
    (["render", "stage1:3", "--transforms", "jitter"], "'jitter' needs arguments; write it as a call, Jitter(...)"),
    (["render", "stage1:3", "--transforms", "(Jitter(99),)"], "Jitter(px=99) leaves nothing of 64 x 64 px; use fewer px or a larger image"),
    (["render", "stage1:3", "--precision", "float16"], "--precision must be auto, float32 or bfloat16, got 'float16'"),
    (["render", "spiral"], "no layer 'spiral' in motifnet; a class is addressed as logit:spiral"),
    (["render", "Spirl - tv"], "no layer 'Spirl' in motifnet; a class is addressed as logit:spiral"),
    (["render", "stage9:1"], "no layer 'stage9' in motifnet; nearest: 'stage3', 'stage2', 'stage1' (list all: featviz layers --model motifnet)"),
    (["render", "stage1:3", "--optimizer", "adm"], "there is no 'adm' in optimizers; nearest: 'Adam'"),
    (["render"], "nothing to render; give an objective such as stage2:5, or --class NAME"),
    (["render", "stage1:3", "--model", "no.py:net"], "no file no.py; give path/to/file.py:factory"),
    (["render", "stage1:3", "--model", "no.such:net"], "no module 'no.such'; give path/to/file.py:net or package.module:net"),
    (["render", "stage1:3", "--model", "broken.py"], "broken.py is a file; name the function in it that returns the network: broken.py:factory"),
    (["replay", "no.png"], "no file no.png; check the path"),
    (["replay", "plain.png"], "plain.png holds no recipe; give a file of a render, or of a dream on an image, as it was saved"),
    (["replay", "broken.png"], "cannot read broken.png as an image; give a PNG, JPEG or WebP file"),
    (["gallery", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["atlas", ".", "--layer", "stage2", "--quality", "fine"], "quality must be one of draft, usual, best, got 'fine'"),
    (["sweep", "--layer", "stage2", "--backend", "spark"], "backend must be local or ray, got 'spark'"),
    (["gallery", "--pair", "heart"], "cannot read the pair 'heart'; give two classes as ONE:OTHER"),
    (["layers", "--input-size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
    (["explain", "plain.png", "--input-size", "4"], "motifnet does not accept images of 4x4 px; the smallest square that it accepts is 8x8"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gives_one_line_and_status_2_and_writes_nothing(arguments, message, tmp_path, capsys):
    iio.imwrite(tmp_path / "plain.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    before = sorted(tmp_path.iterdir())
    assert main([*arguments, "--quiet"] if {"replay", "stage1:3", "logit:3"} & {*arguments} else arguments) == 2
    out, err = printed(capsys)
    assert out == []
    assert err == [f"featviz: {message}"]
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message", "help_command"),
    [
        (["rendr"], "No such command 'rendr'", "featviz --help"),
        (["render", "--stps", "3"], "No such option: --stps", "featviz render --help"),
        (["render", "stage1:3", "--steps", "many"], "Invalid value for '--steps'", "featviz render --help"),
        (["dream", "plain.png", "--size", "32"], "No such option: --size", "featviz dream --help"),
        (["fit-prior"], "Missing argument", "featviz fit-prior --help"),
        (["judge", "a.png"], "Missing option '--judge'", "featviz judge --help"),
    ],
)
def test_usage_errors_name_the_help(arguments, message, help_command, capsys):
    assert main(arguments) == 2
    (line,) = printed(capsys)[1]
    assert line.startswith(f"featviz: {message}") and line.endswith(f" ({help_command})")


def test_an_unknown_model_of_timm_is_reported(capsys):
    pytest.importorskip("timm")
    assert main(["render", "stage1:3", "--model", "timm/nothing_here"]) == 2
    (line,) = printed(capsys)[1]
    assert line.startswith("featviz: no model 'nothing_here' in timm; nearest: ")


def test_a_syntax_error_in_an_objective_is_marked_by_a_caret(capsys):
    assert main(["render", "stage1:3 + * 2"]) == 2
    assert printed(capsys)[1] == [
        "featviz: cannot parse the objective: expected layer:channel, logit:class or a number here",
        "  stage1:3 + * 2",
        "             ^",
    ]


def test_an_infinite_number_in_an_objective_is_marked_by_a_caret(capsys):
    assert main(["render", "stage1:3 - 1e400*tv"]) == 2
    assert printed(capsys)[1] == [
        "featviz: cannot parse the objective: the number is too large",
        "  stage1:3 - 1e400*tv",
        "             ^",
    ]


def test_errors_of_user_code_give_one_line_or_a_traceback(tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def net():\n    raise KeyError('mine')\n")
    (tmp_path / "mine.py").write_text(OWN)
    assert main(["render", "x", "--model", "broken.py:net"]) == 1
    assert printed(capsys)[1] == [
        "featviz: KeyError: 'mine', while running broken.py:net (add --debug for a traceback)"
    ]
    with pytest.raises(KeyError):
        main(["render", "x", "--model", "broken.py:net", "--debug"])
    assert main(["render", "x", "--model", "mine.py:nothing"]) == 2
    assert printed(capsys)[1] == ["featviz: mine.py:nothing returned int; return an nn.Module or a featviz.Network"]
    assert main(["render", "0:1", "--model", "mine.py:bare"]) == 2
    assert printed(capsys)[1] == [
        "featviz: mine.py:bare returned a bare module, which needs input_size, mean and std (--input-size 32 "
        "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5; for a judge --judge-input-size …); or return a featviz.Network"
    ]


def test_an_unwritable_folder_is_reported_before_the_render(monkeypatch, capsys):
    import featviz.io.files as files

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(fv, "render", None)
    assert main(["render", "stage1:3", "-o", "a.png"]) == 2
    assert printed(capsys)[1] == ["featviz: cannot write to the folder .: Permission denied"]


def test_values_that_are_no_objective_are_reported(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("def plain(acts):\n    return 3\n")
    assert main(["render", "plain", "--own", "mine.py:plain", *QUICK]) == 2
    assert printed(capsys)[1] == [
        "featviz: 'plain' is not an objective; decorate the function with @objectives.objective('layer')"
    ]
    assert main(["render", "3", *QUICK]) == 2
    assert printed(capsys)[1] == ["featviz: '3' is only a number; name a unit, e.g. layer:channel or logit:class"]


def test_an_unreadable_amount_of_memory_is_reported(capsys):
    assert main(["render", "stage2:1", "--max-memory", "lots", *QUICK]) == 2
    wanted = "featviz: max_memory must be a number of bytes > 0, or text such as 800MB or 4GB, got 'lots'"
    assert printed(capsys)[1] == [wanted]
