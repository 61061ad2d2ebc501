"""Networks broken on purpose, and the flag that cures each."""

import pytest
import torch
from test_judge import drawings
from torch import nn

import featviz as fv
from featviz.apps.doctor.dead_leaves import dead_leaves
from featviz.cli import main
from featviz.io import read_photographs
from featviz.param.spectrum import slope

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Changed(nn.Module):
    """Does something to its input before, or to its output after."""

    def __init__(self, module, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.module, self.before, self.after = module, before, after

    def forward(self, x):
        return self.after(self.module(self.before(x)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return drawings(tmp_path_factory.mktemp("folder") / "drawings", 64)


class Softened(nn.Module):
    """Puts out probabilities without a layer that puts out logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.table = nn.Conv2d(3, 8, 3), nn.Parameter(torch.randn(8, 5))

    def forward(self, x):
        return (self.conv(x).mean((2, 3)) @ self.table).softmax(1)


def broken(motifnet, **changes):
    return fv.Network(Changed(motifnet.module, **changes), size=64, classes=motifnet.classes, **HALF)


def cures(diagnosis):
    return {finding.about: finding.cure for finding in diagnosis if finding.cure}


def test_a_healthy_network_needs_nothing(motifnet, folder):
    for photographs in (None, folder):
        diagnosis = fv.doctor(motifnet, photographs=photographs)
        assert diagnosis.healthy and cures(diagnosis) == {}
        assert {finding.about for finding in diagnosis} >= {"output", "input range", "size", "starts"}


def test_photographs_of_few_kinds_accuse_nobody(motifnet, tmp_path):
    """Of nonsense the network says more different things, but the batch norms speak against that."""
    assert fv.doctor(motifnet, photographs=drawings(tmp_path / "drawings", kinds=3)).healthy


def small(norm=None, outputs=27):
    """A network that was never trained."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), norm or nn.Identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return fv.Network(nn.Sequential(*layers, nn.Linear(8, outputs)), size=64, **HALF)


def range_of(diagnosis):
    (told,) = (str(finding) for finding in diagnosis if finding.about == "input range")
    return told


def test_what_tells_nothing_accuses_nobody(motifnet, folder, tmp_path):
    """Neither answers of a network that knows nothing, nor batch norms that are off, or keep no account."""
    off = nn.BatchNorm2d(8)
    nn.init.zeros_(off.weight)  # as those that residual networks begin their training with
    nothing = "?     input range  nothing tells whether it is right"
    for network in (small(), small(outputs=1), small(off), small(nn.BatchNorm2d(8, track_running_stats=False))):
        assert range_of(fv.doctor(network, photographs=folder)) == nothing
    assert range_of(fv.doctor(small())) == nothing + "; --photographs FOLDER might"
    motifvit = fv.load("motifvit", device="cpu").with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    assert range_of(fv.doctor(motifvit, photographs=drawings(tmp_path / "one", 1))) == (
        "?     input range  no range in use fits the first batch norms; "
        "give --mean and --std as in training, or photographs of its kind"
    )


def test_a_wrong_range_is_seen_in_answers_alone(motifnet, folder, monkeypatch):
    """As where there are no batch norms."""
    monkeypatch.setattr("featviz.apps.doctor.input_range._mismatch", lambda network, images: None)
    assert fv.doctor(motifnet, photographs=folder).healthy
    wrong = motifnet.with_input(mean=(0.485, 0.456, 0.406), std=(0.003922,) * 3)
    (finding,) = (one for one in fv.doctor(wrong, photographs=folder) if one.cure)
    assert finding.what.startswith("the answers to the photographs say that it expects ")


def test_a_wrong_mean_is_seen_in_batch_norms(motifnet, folder):
    wrong = motifnet.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    cure = "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    assert cures(fv.doctor(wrong, photographs=folder)) == {"input range": cure}
    told = range_of(fv.doctor(wrong))
    assert told.startswith("cure  input range  the first batch norms say that it is wrong, and photographs would tell")
    assert cure in told.partition(": ")[2].split(" or ")


def test_bytes_for_pixels(motifnet, folder):
    wrong = broken(motifnet, before=lambda x: (x / 255 - 0.5) / 0.5)
    cure = "--mean 0,0,0 --std 0.003922,0.003922,0.003922"
    assert cures(fv.doctor(wrong))["input range"].startswith(cure)
    assert cures(fv.doctor(wrong, photographs=folder)) == {"input range": cure}
    assert fv.doctor(wrong.with_input(mean=(0.0,) * 3, std=(0.003922,) * 3), photographs=folder).healthy


def test_answers_that_hardly_differ_tell_nothing(folder):
    near = fv.load("motifvit", device="cpu").with_input(mean=(0.5,) * 3, std=(0.6,) * 3)
    assert range_of(fv.doctor(near, photographs=folder)) == (
        "?     input range  the answers to the photographs hardly tell whether it is right; "
        "they say a little more with --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    )


def normed(folder, *, before=lambda x: x):
    """A small grey network whose batch norm has kept what drawings are like in MNIST's range."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = Changed(nn.Sequential(*layers, nn.Linear(8, 10)), before=before)
    images = torch.stack([image for _, image in read_photographs(folder, size=28, channels=1)])
    with torch.no_grad():
        module.train()((images - 0.1307) / 0.3081)
    return fv.Network(module, size=28, mean=(0.1307,), std=(0.3081,))


def test_the_range_of_grey_digits(folder):
    right = normed(folder)
    assert fv.doctor(right, photographs=folder).healthy
    wrong = fv.doctor(right.with_input(mean=(0.5,), std=(0.5,)), photographs=folder)
    assert cures(wrong) == {"input range": "--mean 0.1307 --std 0.3081"}


def test_a_range_in_which_nothing_is_a_number_fits_not(folder):
    right = normed(folder, before=lambda x: torch.exp(3 * x))
    assert range_of(fv.doctor(right, photographs=folder)) == (
        "ok    input range  the first batch norms say that it is right"
    )


def test_blue_for_red(motifnet, tmp_path):
    """Where red is all that it looks at, and there is little blue in the photographs."""
    folder = drawings(tmp_path / "drawings", light=(1.0, 0.7, 0.1))
    wrong = broken(motifnet, before=lambda x: x[:, 2:].expand(-1, 3, -1, -1))
    cure = {"input range": "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --order BGR"}
    assert cures(fv.doctor(wrong, photographs=folder)) == cure
    right = broken(motifnet, before=lambda x: x[:, :1].expand(-1, 3, -1, -1))
    back = {"input range": "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --order RGB"}
    assert cures(fv.doctor(right.with_input(order="BGR"), photographs=folder)) == back
    cured = wrong.with_input(order="BGR")
    assert fv.doctor(cured, photographs=folder).healthy
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    red = motifnet.capture(image[:, :1].expand(-1, 3, -1, -1), [""])[""]
    assert torch.equal(cured.capture(image, [""])[""], red)


def test_channels_last(motifnet):
    wrong = broken(motifnet, before=lambda x: x.permute(0, 3, 1, 2))
    assert cures(fv.doctor(wrong)) == {"input": "--layout NHWC"}
    cured = wrong.with_input(layout="NHWC")
    assert fv.doctor(cured).healthy
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(cured.capture(image, [""])[""], motifnet.capture(image, [""])[""], atol=1e-5)
    rendering = fv.render(cured, "logit:spiral", steps=24)
    assert rendering.history[-4:].mean() > rendering.history[:4].mean()


def test_grey_input_and_another_size(motifnet):
    grey = broken(motifnet, before=lambda x: x[:, :1].expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :, :0])
    assert cures(fv.doctor(grey)) == {"input": "--mean 0.5 --std 0.5"}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4))
    small = fv.Network(flat, size=64, **HALF)
    assert cures(fv.doctor(small)) == {"input": "--size 28"}
    never = fv.Network(nn.Linear(7, 7, bias=False), size=64, **HALF)
    assert cures(fv.doctor(never)) == {"input": "give what it was trained on: --size, --mean and --std"}

    def check(x):
        if x.shape[-1] != 28:
            raise AssertionError
        return x

    (told,) = fv.doctor(fv.Network(Changed(nn.Flatten(), before=check), size=64, **HALF)).findings
    assert str(told) == "cure  input        it does not take 3 channels of 64 x 64 px (AssertionError): --size 28"


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_a_mistake_of_the_author_is_no_wrong_shape(kind):
    def fail(x):
        raise kind("the author's own mistake")

    with pytest.raises(kind, match="the author's own mistake"):
        fv.doctor(fv.Network(Changed(nn.Flatten(), before=fail), size=8, **HALF))


def test_a_shape_that_brings_out_a_mistake_is_passed_over():
    def take(x):
        if x.shape[-1] == 32:
            raise ZeroDivisionError
        if x.shape[-1] != 128:
            raise RuntimeError(f"no {x.shape[-1]} px")
        return x

    other = fv.Network(Changed(nn.Flatten(), before=take), size=64, **HALF)
    assert cures(fv.doctor(other))["input"] == "--size 128"


def test_memory_that_is_short_is_no_wrong_shape():
    def fail(x):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fv.doctor(fv.Network(Changed(nn.Flatten(), before=fail), size=8, **HALF))


def test_odd_outputs(motifnet):
    soft = fv.doctor(broken(motifnet, after=lambda y: y.softmax(1)))
    assert cures(soft) == {"output": "for logit:N give module:N"}
    nan = fv.doctor(broken(motifnet, after=lambda y: y * float("nan")))
    assert cures(nan) == {"output": "check its weights, and --mean and --std"}
    ends = fv.Network(nn.Sequential(motifnet.module, nn.Sigmoid()), size=64, **HALF)
    assert cures(fv.doctor(ends)) == {"output": "for logit:N give 0:N"}
    logs = broken(motifnet, after=lambda y: torch.log_softmax(y, 1))
    assert cures(fv.doctor(logs)) == {"output": "for logit:N give module:N"}
    deep = fv.Network(Changed(nn.Sequential(motifnet.module, nn.Softmax(1))), size=64, **HALF)
    assert cures(fv.doctor(deep)) == {"output": "for logit:N give module.0:N"}
    (finding,) = (one for one in fv.doctor(fv.Network(Softened(), size=32, **HALF)) if one.cure)
    assert finding.cure == "let the module return its logits"
    maps = fv.Network(nn.Conv2d(3, 4, 3), size=32, **HALF)
    (output, *_) = fv.doctor(maps)
    assert output.what == "it puts out 4 x 30 x 30 for an image; there is no logit:"
    both = fv.combine(one=motifnet, other=fv.load("motifnet", device="cpu"))
    (output, *_) = fv.doctor(both)
    assert output.what == "those of one, other; address their classes as logit:NAME@one"
    named = fv.Network(motifnet.module, size=64, classes=["a", "b"], **HALF)
    assert cures(fv.doctor(named)) == {"output": "give classes= in output order"}


def test_activations_that_overwrite_and_those_without_a_name(net):
    told = [finding.what for finding in fv.doctor(net) if finding.about == "activations"]
    assert told == ["1 overwrite their input; layers are captured before they do"]

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.act = nn.GELU()

        def forward(self, x):
            return torch.relu(self.act(self.conv(x))).mean((2, 3))

    found = fv.doctor(fv.Network(Functional(), size=32, **HALF))
    told = [finding.what for finding in found if finding.about == "activations"]
    assert told == ["it calls relu as a function, which no layer names; address the block around"]


@pytest.mark.parametrize(
    ("bias", "cure"),
    [(-0.1, '--param "Fourier(std=0.25)", a louder start'), (-50.0, "check its weights, and --mean and --std")],
)
def test_dead_starts_are_told(bias, cure):
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    nn.init.constant_(dead[0].bias, bias)
    assert cures(fv.doctor(fv.Network(dead, size=32, **HALF)))["starts"] == cure


def test_a_branch_that_a_louder_start_wakes_is_woken():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
            nn.init.constant_(self.conv.bias, -0.1)

        def forward(self, x):
            return x + self.relu(self.conv(x))

    diagnosis = fv.doctor(fv.Network(Residual(), size=32, **HALF))
    assert cures(diagnosis) == {"starts": '--param "Fourier(std=0.25)", a louder start'}


def test_a_branch_that_begins_with_nothing_is_no_dead_start():
    """As the last batch norm of a residual block often does."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x):
            return x + self.norm(self.conv(x))

    diagnosis = fv.doctor(fv.Network(Residual(), size=32, **HALF))
    (told,) = (str(finding) for finding in diagnosis if finding.about == "starts")
    assert (
        told == "?     starts       nothing in norm answers to noise, quiet or loud, but the network's last layer does"
    )


@pytest.mark.parametrize("side", [14, 16])
def test_sizes_that_are_multiples_are_found(side):
    def divide(x):
        assert x.shape[-1] % side == 0
        return x

    diagnosis = fv.doctor(fv.Network(Changed(nn.Conv2d(3, 4, 3), before=divide), size=112, **HALF))
    assert f"takes squares from {side} px" in [finding.what for finding in diagnosis]


def test_photographs_are_taken_from_all_over_the_folder(motifnet, tmp_path):
    """The first ones by name are of one class where each has a folder of its own."""
    motifvit = fv.load("motifvit", device="cpu").with_input(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    for name, count, kinds in (("a", 64, 1), ("b", 63, 27)):
        drawings(tmp_path / name, count, kinds=kinds)
    assert "expects pixels from -1 to 1" in range_of(fv.doctor(motifvit, photographs=tmp_path))


def test_units_that_are_off_when_a_render_begins_are_counted(motifnet):
    (told,) = (finding.what for finding in fv.doctor(motifnet) if finding.about == "starts")
    assert "is off when a render begins; such units are woken" in told


def test_dead_leaves_have_the_spectrum_of_photographs():
    leaves = dead_leaves(8, 3, (128, 128))
    assert leaves.min() >= 0 and leaves.max() <= 1
    assert 1.0 < slope(leaves).mean() < 1.8
    assert slope(torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))).mean() < 0.2


def test_the_command(folder, capsys):
    assert main(["doctor", "--device", "cpu"]) == 0
    assert all(line.startswith("ok ") for line in capsys.readouterr().out.splitlines())
    arguments = ["doctor", "--mean", "0,0,0", "--std", "1,1,1", "--photographs", str(folder), "--device", "cpu"]
    assert main(arguments) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("cure"))
    assert line.endswith("--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")
    assert main(["doctor", "--order", "RBG"]) == 2
    assert capsys.readouterr().err == (
        "featviz: there is no order 'RBG' with layout 'NCHW'; give RGB or BGR and NCHW or NHWC\n"
    )
    assert main(["doctor", "--photographs", "nowhere"]) == 2
    assert capsys.readouterr().err == "featviz: no folder nowhere\n"
