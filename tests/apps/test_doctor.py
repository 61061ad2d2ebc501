"""Networks with a mistake, and the options that fix it."""

import pytest
import torch
import toys
from test_judge import drawings
from torch import nn

import featviz as fv
from featviz.apps.doctor.dead_leaves import dead_leaves
from featviz.apps.doctor.normalisation import _is_surely_more
from featviz.cli import main
from featviz.io import read_photographs
from featviz.param.spectrum import slope

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


class Changed(nn.Module):
    """Changes the input or the output of a module."""

    def __init__(self, module, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.module, self.before, self.after = module, before, after

    def forward(self, x):
        return self.after(self.module(self.before(x)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return drawings(tmp_path_factory.mktemp("folder") / "drawings", 64)


class Softened(nn.Module):
    """Outputs probabilities, and has no layer that outputs logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.table = nn.Conv2d(3, 8, 3), nn.Parameter(torch.randn(8, 5))

    def forward(self, x):
        return (self.conv(x).mean((2, 3)) @ self.table).softmax(1)


def broken(motifnet, **changes):
    return fv.Network(Changed(motifnet.module, **changes), size=64, classes=motifnet.classes, **HALF)


def fixes(diagnosis):
    return {finding.check: finding.fix for finding in diagnosis if finding.fix}


def test_a_healthy_network_needs_no_fix(motifnet, folder):
    for photographs in (None, folder):
        diagnosis = fv.doctor(motifnet, photographs=photographs)
        assert diagnosis.healthy and fixes(diagnosis) == {}
        assert {finding.check for finding in diagnosis} >= {"output", "input range", "size", "dead units"}


def test_photographs_of_few_classes_raise_no_false_alarm(motifnet, tmp_path):
    """With a wrong normalisation the predictions differ more, but it does not fit the batch-norm statistics."""
    assert fv.doctor(motifnet, photographs=drawings(tmp_path / "drawings", kinds=3)).healthy


def small(norm=None, outputs=27):
    """A network that was never trained."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), norm or nn.Identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return fv.Network(nn.Sequential(*layers, nn.Linear(8, outputs)), size=64, **HALF)


def line_of(diagnosis, check):
    (line,) = (str(finding) for finding in diagnosis if finding.check == check)
    return line


def test_uninformative_networks_raise_no_false_alarm(motifnet, folder, tmp_path):
    """Networks that are untrained, or whose batch norms have weight 0 or no running statistics."""
    off = nn.BatchNorm2d(8)
    nn.init.zeros_(off.weight)  # the usual initialisation of the last batch norm of a residual block
    unknown = "note  input range  the normalisation could not be checked"
    for network in (small(), small(outputs=1), small(off), small(nn.BatchNorm2d(8, track_running_stats=False))):
        assert line_of(fv.doctor(network, photographs=folder), "input range") == unknown
    assert line_of(fv.doctor(small()), "input range") == unknown + "; --photographs FOLDER may help"
    motifvit = fv.load("motifvit", device="cpu").with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    assert line_of(fv.doctor(motifvit, photographs=drawings(tmp_path / "one", 1)), "input range") == (
        "note  input range  no common normalisation fits the first batch-norm layers; "
        "give --mean and --std as in training, or photographs like those it was trained on"
    )


def test_a_wrong_normalisation_is_found_by_predictions_alone(motifnet, folder, monkeypatch):
    """As in a network without batch norms."""
    monkeypatch.setattr("featviz.apps.doctor.normalisation._mismatch", lambda network, images: None)
    assert fv.doctor(motifnet, photographs=folder).healthy
    wrong = motifnet.with_input(mean=(0.485, 0.456, 0.406), std=(0.003922,) * 3)
    (finding,) = (one for one in fv.doctor(wrong, photographs=folder) if one.fix)
    assert finding.text.startswith("the predictions on the photographs indicate pixels in [-1, 1]")


def test_a_wrong_normalisation_is_found_by_batch_norms(motifnet, folder):
    wrong = motifnet.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    fix = "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    assert fixes(fv.doctor(wrong, photographs=folder)) == {"input range": fix}
    line = line_of(fv.doctor(wrong), "input range")
    start, _, options = line.partition(": ")
    assert start == (
        "fix   input range  the first batch-norm layers do not fit the given normalisation; "
        "give --photographs FOLDER to find out which of the following does"
    )
    assert fix in options.split(" or ")


@pytest.mark.long
def test_pixels_in_0_to_255(motifnet, folder):
    wrong = broken(motifnet, before=lambda x: (x / 255 - 0.5) / 0.5)
    fix = "--mean 0,0,0 --std 0.003922,0.003922,0.003922"
    assert fixes(fv.doctor(wrong))["input range"].startswith(fix)
    assert fixes(fv.doctor(wrong, photographs=folder)) == {"input range": fix}
    assert fv.doctor(wrong.with_input(mean=(0.0,) * 3, std=(0.003922,) * 3), photographs=folder).healthy


def test_predictions_that_hardly_differ_are_a_note(folder):
    near = fv.load("motifvit", device="cpu").with_input(mean=(0.5,) * 3, std=(0.67,) * 3)
    assert line_of(fv.doctor(near, photographs=folder), "input range") == (
        "note  input range  the predictions on the photographs do not tell clearly whether the normalisation is right; "
        "they are slightly more informative with --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"
    )


def normed(folder, *, before=lambda x: x):
    """A small grey network whose batch norm has the running statistics of drawings with MNIST's normalisation."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = Changed(nn.Sequential(*layers, nn.Linear(8, 10)), before=before)
    images = torch.stack([image for _, image in read_photographs(folder, size=28, channels=1)])
    with torch.no_grad():
        module.train()((images - 0.1307) / 0.3081)
    return fv.Network(module, size=28, mean=(0.1307,), std=(0.3081,))


def test_the_normalisation_of_mnist(folder):
    right = normed(folder)
    assert fv.doctor(right, photographs=folder).healthy
    wrong = fv.doctor(right.with_input(mean=(0.5,), std=(0.5,)), photographs=folder)
    assert fixes(wrong) == {"input range": "--mean 0.1307 --std 0.3081"}


def test_a_normalisation_with_infinite_activations_does_not_fit(folder):
    right = normed(folder, before=lambda x: torch.exp(3 * x))
    assert line_of(fv.doctor(right, photographs=folder), "input range") == (
        "ok    input range  the first batch-norm layers fit the given normalisation"
    )


@pytest.mark.long
def test_bgr_instead_of_rgb(motifnet, tmp_path):
    """A network that sees red only, and photographs with little blue."""
    folder = drawings(tmp_path / "drawings", light=(1.0, 0.7, 0.1))
    wrong = broken(motifnet, before=lambda x: x[:, 2:].expand(-1, 3, -1, -1))
    fix = {"input range": "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --channel-order BGR"}
    assert fixes(fv.doctor(wrong, photographs=folder)) == fix
    right = broken(motifnet, before=lambda x: x[:, :1].expand(-1, 3, -1, -1))
    back = {"input range": "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --channel-order RGB"}
    assert fixes(fv.doctor(right.with_input(channel_order="BGR"), photographs=folder)) == back
    fixed = wrong.with_input(channel_order="BGR")
    assert fv.doctor(fixed, photographs=folder).healthy
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    red = motifnet.capture(image[:, :1].expand(-1, 3, -1, -1), [""])[""]
    assert torch.equal(fixed.capture(image, [""])[""], red)


def test_channels_last(motifnet):
    wrong = broken(motifnet, before=lambda x: x.permute(0, 3, 1, 2))
    assert fixes(fv.doctor(wrong)) == {"input": "--layout NHWC"}
    fixed = wrong.with_input(layout="NHWC")
    assert fv.doctor(fixed).healthy
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fixed.capture(image, [""])[""], motifnet.capture(image, [""])[""], atol=1e-5)
    rendering = fv.render(fixed, "logit:spiral", steps=24)
    assert rendering.history[-4:].mean() > rendering.history[:4].mean()


def test_other_channels_and_sizes(motifnet):
    grey = broken(motifnet, before=lambda x: x[:, :1].expand(-1, 3, -1, -1) if x.shape[1] == 1 else x[:, :, :0])
    assert fixes(fv.doctor(grey)) == {"input": "--mean 0.5 --std 0.5"}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4))
    small = fv.Network(flat, size=64, **HALF)
    assert fixes(fv.doctor(small)) == {"input": "--input-size 28"}
    never = fv.Network(nn.Linear(7, 7, bias=False), size=64, **HALF)
    assert fixes(fv.doctor(never)) == {"input": "give --input-size, --mean and --std as in training"}

    def check(x):
        if x.shape[-1] != 28:
            raise AssertionError
        return x

    (finding,) = fv.doctor(fv.Network(Changed(nn.Flatten(), before=check), size=64, **HALF)).findings
    assert str(finding) == (
        "fix   input        the module does not accept 3 channels of 64x64 px (AssertionError): --input-size 28"
    )


@pytest.mark.parametrize("kind", [RuntimeError, KeyError])
def test_an_error_that_no_shape_avoids_is_raised(kind):
    def fail(x):
        raise kind("the author's own mistake")

    with pytest.raises(kind, match="the author's own mistake"):
        fv.doctor(fv.Network(Changed(nn.Flatten(), before=fail), size=8, **HALF))


def test_shapes_that_raise_other_errors_are_skipped():
    def take(x):
        if x.shape[-1] == 32:
            raise ZeroDivisionError
        if x.shape[-1] != 128:
            raise RuntimeError(f"no {x.shape[-1]} px")
        return x

    other = fv.Network(Changed(nn.Flatten(), before=take), size=64, **HALF)
    assert fixes(fv.doctor(other))["input"] == "--input-size 128"


def test_out_of_memory_is_raised():
    def fail(x):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        fv.doctor(fv.Network(Changed(nn.Flatten(), before=fail), size=8, **HALF))


@pytest.mark.filterwarnings("ignore:.*class names, so names may:featviz.FeatvizWarning")
def test_outputs_that_are_no_logits(motifnet):
    soft = fv.doctor(broken(motifnet, after=lambda y: y.softmax(1)))
    assert fixes(soft) == {"output": "use module:N instead of logit:N"}
    nan = fv.doctor(broken(motifnet, after=lambda y: y * float("nan")))
    assert fixes(nan) == {"output": "check the weights, and --mean and --std"}
    ends = fv.Network(nn.Sequential(motifnet.module, nn.Sigmoid()), size=64, **HALF)
    assert fixes(fv.doctor(ends)) == {"output": "use 0:N instead of logit:N"}
    logs = broken(motifnet, after=lambda y: torch.log_softmax(y, 1))
    assert fixes(fv.doctor(logs)) == {"output": "use module:N instead of logit:N"}
    deep = fv.Network(Changed(nn.Sequential(motifnet.module, nn.Softmax(1))), size=64, **HALF)
    assert fixes(fv.doctor(deep)) == {"output": "use module.0:N instead of logit:N"}
    (finding,) = (one for one in fv.doctor(fv.Network(Softened(), size=32, **HALF)) if one.fix)
    assert finding.fix == "return logits from the module"
    maps = fv.Network(nn.Conv2d(3, 4, 3), size=32, **HALF)
    (output, *_) = fv.doctor(maps)
    assert output.text == "4 x 30 x 30 per image; layers can be addressed, but not classes (logit:)"
    both = fv.combine(one=motifnet, other=fv.load("motifnet", device="cpu"))
    (output, *_) = fv.doctor(both)
    assert output.text == "logits of one, other; address a class as logit:CLASS@one"
    named = fv.Network(motifnet.module, size=64, classes=["a", "b"], **HALF)
    assert fixes(fv.doctor(named)) == {"output": "give classes= with one name per output, in output order"}


def test_activations_in_place_and_as_functions(net):
    assert line_of(fv.doctor(net), "activations") == (
        "ok    activations  1 work in place; the outputs of layers are captured before they are overwritten"
    )

    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.act = nn.GELU()

        def forward(self, x):
            return torch.relu(self.act(self.conv(x))).mean((2, 3))

    found = fv.doctor(fv.Network(Functional(), size=32, **HALF))
    assert line_of(found, "activations") == (
        "ok    activations  relu called as a function, so no layer is named after it; address the enclosing block"
    )


@pytest.mark.parametrize(
    ("bias", "fix"),
    [
        (-0.1, 'start from stronger noise, --param "Fourier(std=0.25)"'),
        (-50.0, "check the weights, and --mean and --std"),
    ],
)
def test_layers_that_are_inactive_on_the_initial_noise(bias, fix):
    torch.manual_seed(0)
    dead = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    nn.init.constant_(dead[0].bias, bias)
    assert fixes(fv.doctor(fv.Network(dead, size=32, **HALF)))["dead units"] == fix


def test_a_branch_that_stronger_noise_activates():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()
            nn.init.constant_(self.conv.bias, -0.1)

        def forward(self, x):
            return x + self.relu(self.conv(x))

    diagnosis = fv.doctor(fv.Network(Residual(), size=32, **HALF))
    assert fixes(diagnosis) == {"dead units": 'start from stronger noise, --param "Fourier(std=0.25)"'}


def test_a_branch_that_is_initialised_to_zero_is_a_note():
    """As the last batch norm of a residual block often is."""

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            nn.init.zeros_(self.norm.weight)

        def forward(self, x):
            return x + self.norm(self.conv(x))

    diagnosis = fv.doctor(fv.Network(Residual(), size=32, **HALF))
    assert line_of(diagnosis, "dead units") == (
        "note  dead units   all channels of norm are inactive on initial noise of any strength, "
        "but the last layer responds to it"
    )


def test_a_network_without_a_gradient_needs_a_fix(net):
    found = [str(each) for each in fv.doctor(toys.network(toys.Blocked())) if each.check == "gradient"]
    assert found == [
        "fix   gradient     no gradient reaches the image from any layer: let forward compute without torch.no_grad, "
        "torch.inference_mode, detach and numpy"
    ]
    assert not [each for each in fv.doctor(net) if each.check == "gradient"]
    masks = Changed(nn.Conv2d(3, 8, 3), after=lambda y: y.argmax(1, keepdim=True).float())
    found = [str(each) for each in fv.doctor(fv.Network(masks, size=32, **HALF)) if each.check == "gradient"]
    assert found == ["note  gradient     no gradient reaches the image from 1 layer, such as the output"]


@pytest.mark.parametrize("side", [14, 16])
def test_the_smallest_accepted_size_may_be_a_multiple(side):
    def divide(x):
        assert x.shape[-1] % side == 0
        return x

    diagnosis = fv.doctor(fv.Network(Changed(nn.Conv2d(3, 4, 3), before=divide), size=112, **HALF))
    assert line_of(diagnosis, "size") == f"ok    size         the smallest square it accepts is {side}x{side} px"


def test_photographs_are_spread_over_the_folder(motifnet, tmp_path):
    """The first ones by name are of one class where each class has a folder."""
    motifvit = fv.load("motifvit", device="cpu").with_input(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    for name, count, kinds in (("a", 64, 1), ("b", 63, 27)):
        drawings(tmp_path / name, count, kinds=kinds)
    assert "indicate pixels in [-1, 1]" in line_of(fv.doctor(motifvit, photographs=tmp_path), "input range")


def test_channels_that_are_inactive_on_the_initial_noise_are_counted(motifnet):
    line = line_of(fv.doctor(motifnet), "dead units")
    assert line.endswith(") are inactive on the initial noise; a render redirects gradients to them")


def test_channels_that_never_activate_on_photographs_are_a_note(tmp_path):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    layers[0].bias.data = torch.tensor([0.0, 0.0, -50.0, -50.0])
    lines = str(fv.doctor(fv.Network(layers, size=32, **HALF), photographs=drawings(tmp_path / "drawings", 12)))
    assert lines.splitlines()[-1] == (
        "note  dead units   2 channels of 1 never activate on these photographs; their images will be noise"
    )


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
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("fix"))
    assert line.endswith("--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5")
    assert main(["doctor", "--channel-order", "RBG"]) == 2
    assert capsys.readouterr().err == "featviz: channel_order must be RGB or BGR, got 'RBG'\n"
    assert main(["doctor", "--photographs", "nowhere"]) == 2
    assert capsys.readouterr().err == "featviz: no folder nowhere; give a folder of images\n"


def test_a_gain_must_hold_in_nearly_all_samples_of_the_photographs():
    generator = torch.Generator().manual_seed(0)
    right = torch.eye(10)[torch.arange(40) % 10] * 0.8 + 0.02
    unsure = right.clone()
    unsure[::2] = 0.1  # half of the photographs are not recognised
    assert _is_surely_more(right, unsure) and not _is_surely_more(unsure, right)
    by_chance = [torch.rand(40, 10, generator=generator).pow(4) for _ in range(2)]
    one, other = (each / each.sum(1, keepdim=True) for each in by_chance)
    assert not _is_surely_more(one, other) and not _is_surely_more(other, one)
    assert _is_surely_more(right, None) and not _is_surely_more(None, right)


class OwnStatistics(nn.Module):
    """Normalises with the statistics of the batch."""

    def __init__(self, tracks):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=tracks)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("tracks", [True, False])
def test_an_output_that_depends_on_other_images_is_reported(tracks):
    found = [each for each in fv.doctor(toys.network(OwnStatistics(tracks))).findings if each.check == "batch"]
    assert len(found) == (not tracks)
    assert not found or "depends on the other images of its batch" in found[0].text
