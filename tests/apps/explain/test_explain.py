"""Attribution end to end: every method on every kind of network, comparisons, files and commands."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz import methods
from featviz.apps.explain.methods import train_scouter
from featviz.cli import main
from featviz.engine import fingerprint, parse_repr, parse_value
from featviz.io import contact_sheet, read_photograph, read_report
from featviz.network.bundled import MOTIFS

PUBLIC = {name: getattr(methods, name) for name in methods.__all__ if name not in ("Scouter", "train_scouter")}
METHODS = {name: value() if isinstance(value, type) else value for name, value in PUBLIC.items()}
FASTER = {
    "IntegratedGradients": methods.IntegratedGradients(steps=8),
    "FeatureAblation": methods.FeatureAblation(16),
    "Occlusion": methods.Occlusion(16),
    "RISE": methods.RISE(8),
}
ATTENTION = ("Attention", "Rollout", "GradientRollout")
NOT_APPLICABLE = {
    *((name, model) for name in ATTENTION for model in ("motifnet", "ChannelsLast", "Plain")),
    ("CAM", "motifvit"),
    ("LRP", "motifvit"),
    ("LRP", "ChannelsLast"),
}
SIDE = 64


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture(scope="module")
def mosaic():
    """A spiral, a star, bricks and an eye."""
    labels = torch.tensor([MOTIFS.index(name) for name in ("spiral", "star", "bricks", "eye")])
    drawn = draw(labels, (SIDE, SIDE), torch.Generator().manual_seed(7))
    return torch.cat([torch.cat([drawn[0], drawn[1]], 2), torch.cat([drawn[2], drawn[3]], 2)], 1)


def state(network):
    module = network.module
    hooks = sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in module.modules()
    )
    flags = [weight.requires_grad for weight in module.parameters()] + [part.training for part in module.modules()]
    return hooks, flags, [weight.grad for weight in module.parameters()], network.fingerprint


@pytest.mark.filterwarnings("ignore:.*miss the guaranteed sum.*:featviz.FeatvizWarning")  # few steps, no sum of 0
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("model", ["motifnet", "motifvit", "ChannelsLast", "Plain"])
def test_every_method_applies_or_gives_the_reason(name, model, motifnet, motifvit):
    given = {"motifnet": motifnet, "motifvit": motifvit}
    network = given.get(model) or toys.network(getattr(toys, model)(), classes={1: "b"})
    before = state(network)
    images = torch.rand(2, 3, *network.size, generator=torch.Generator().manual_seed(0))
    method = FASTER.get(name, METHODS[name])
    if (name, model) in NOT_APPLICABLE:
        with pytest.raises(fv.SettingError) as error:
            fv.explain(network, images, "logit:1", method)
        assert "\n" not in str(error.value) and len(str(error.value)) < 160
    else:
        found = fv.explain(network, images, "logit:1", method)
        assert found.map.shape == (2, *network.size) and torch.isfinite(found.map).all()
        assert found.overlay().shape == (2, 3, *network.size)
        assert torch.equal(found.map, fv.explain(network, images, "logit:1", method).map)
    assert state(network) == before


GUIDE = (Path(__file__).parents[3] / "docs" / "explain.md").read_text()


def test_the_guide_lists_every_method():
    assert [name for name in methods.__all__ if f"`{name}`" not in GUIDE] == []


def test_the_command_in_the_guide_works(mosaic, tmp_path):
    (tmp_path / "docs").mkdir()
    Image.fromarray((mosaic.permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "docs" / "chelsea.webp")
    (command,) = (line for line in GUIDE.splitlines() if line.startswith("featviz "))
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / "chelsea-explained.png").is_file()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_rebuilt_from_its_repr_and_name(name):
    method = METHODS[name]
    assert parse_repr(repr(method), PUBLIC) == method
    assert parse_value(name.lower(), methods) == method


@pytest.mark.parametrize(
    ("method", "least"),
    [("gradcam", 0.6), ("cam", 0.6), ("guidedgradcam", 0.7), ("classattention", 0.6), ("LRP('alphabeta')", 0.4)],
)
def test_methods_find_the_motif_in_a_mosaic(motifnet, mosaic, method, least):
    """By chance, a quarter of the mosaic would get 0.25 of the positive contributions."""
    shares = []
    for i, name in enumerate(("spiral", "star", "bricks", "eye")):
        found = fv.explain(motifnet, mosaic, f"logit:{name}", method).map[0].relu()
        quarter = found[SIDE * (i // 2) :][:SIDE, SIDE * (i % 2) :][:, :SIDE]
        shares.append((quarter.sum() / found.sum()).item())
    assert sum(shares) / 4 > least, shares


def test_clear_assigns_positions_to_the_right_classes(motifnet, mosaic):
    found = fv.explain(motifnet, mosaic, None, methods.CLEAR(8))
    right = 0
    for i, name in enumerate(("spiral", "star", "bricks", "eye")):
        if name in found.class_names:
            rows, columns = slice(SIDE * (i // 2), SIDE * (i // 2 + 1)), slice(SIDE * (i % 2), SIDE * (i % 2 + 1))
            labels, strength = found.labels[0, rows, columns], found.map[0, rows, columns]
            weights = [strength[labels == k].sum().item() for k in range(len(found.class_names))]
            right += found.class_names[weights.index(max(weights))] == name
    assert right >= 3


@pytest.mark.slow
@pytest.mark.long
def test_integrated_gradients_are_complete_and_lrp_conserves_on_trained_networks(motifnet, shared):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    resnet = fv.load(f"{shared}/models/models.py:cifar10_resnet56", input_size=32, mean=mean, std=std, device="cpu")
    mobilenet = fv.load("mobilenet_v2", weights=f"{shared}/models/mobilenet_v2.safetensors", device="cpu")
    for network in (motifnet, resnet, mobilenet):
        for method in ("integratedgradients", "LRP('zplus')"):
            found = fv.explain(network, shared / "images" / "cat.jpg", None, method)
            assert found.delta.abs().max() < 0.01, (network, method)
    both = (fv.explain(mobilenet, shared / "images" / "cat.jpg", None, method).map for method in ("cam", "gradcam"))
    scaled = [found.relu() / found.max() for found in both]
    assert torch.corrcoef(torch.stack([one.flatten() for one in scaled]))[0, 1] > 0.98


def test_random_weights_change_grad_cam_more_than_guided_backprop(motifnet, mosaic):
    """Adebayo et al. 2018: guided backpropagation hardly depends on the weights of the upper layers."""
    import copy

    module = copy.deepcopy(motifnet.module)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module.head.reset_parameters()
    spec = motifnet.input
    other = fv.Network(module, size=64, mean=spec.mean, std=spec.std, classes=motifnet.classes)

    def rank_correlation(method):
        one, two = (fv.explain(net, mosaic, "logit:star", method).map.abs().flatten() for net in (motifnet, other))
        return torch.corrcoef(torch.stack([one.argsort().argsort().float(), two.argsort().argsort().float()]))[0, 1]

    assert rank_correlation("gradcam") < 0.7 < 0.8 < rank_correlation("guidedbackprop")


def test_neurons_are_explained_as_classes_are(motifnet, mosaic):
    active = motifnet.capture(mosaic[None], ["stage2"])["stage2"][0, 5, :8, :8]
    y, x = divmod(int(active.argmax()), 8)
    found = fv.explain(motifnet, mosaic, f"stage2:5@{y},{x}", "gradient")
    assert found.map[0, :64, :64].max() > 0
    assert found.map[0, 64:, 64:].max() == 0  # outside of the neuron's receptive field
    assert found.target == f"stage2:5@{y},{x}" and found.score[0].item() == pytest.approx(active.max().item(), rel=1e-4)


def test_grey_images_and_networks_without_class_names():
    network = toys.network(toys.Plain(1), mean=(0.5,), std=(0.5,))
    found = fv.explain(network, torch.rand(1, 24, 40), None, "gradcam")
    assert found.map.shape == (1, 24, 40) and found.target.startswith("logit:")
    assert found.overlay().shape == (1, 3, 24, 40)


def test_saved_files_hold_the_recipe_of_the_map(motifnet, mosaic, tmp_path):
    found = fv.explain(motifnet, mosaic, "logit:star", "LRP('zplus')")
    path = found.save(tmp_path / "a.png")
    with pytest.raises(
        fv.RecipeError, match=r"a.png is an explanation, which cannot be replayed; run featviz explain again$"
    ):
        fv.replay(path)
    ((recipe,),) = read_report(path)["explained"]
    assert (recipe["model"], recipe["target"]) == ("motifnet", "Logit(name='star', network='')")
    assert parse_repr(recipe["method"], PUBLIC) == methods.LRP("zplus")
    assert found._repr_png_().startswith(b"\x89PNG")
    assert repr(found).startswith(
        "<LRP('zplus') of logit:star: 1 x 128x128 px, contributions miss the guaranteed sum by 0.0"
    )
    sheet = fv.compare(motifnet, mosaic, ["logit:star", "stage2:5"], ["cam", "clear", methods.Gradient()])
    assert sheet.methods == ("cam", "clear", "Gradient")
    assert sheet.problems == {"cam of stage2:5": "CAM needs a class logit as target, got stage2:5; use GradCAM"}
    assert [one is None for one in sheet.rows[1]] == [True, False, False]
    assert len(read_report(sheet.save(tmp_path / "b.png"))["explained"]) == 2


@pytest.mark.long
def test_clear_compares_the_likely_classes_of_each_image(motifnet, mosaic):
    """What an image is explained by does not depend on the others of its batch."""
    two = torch.stack([mosaic, mosaic.flip(0).roll(30, -1)])
    both = fv.explain(motifnet, two, None, methods.CLEAR(3))
    for i, image in enumerate(two):
        alone = fv.explain(motifnet, image, None, methods.CLEAR(3))
        assert torch.allclose(both.map[i], alone.map[0], atol=1e-5)
        named = [[found.class_names[k] for k in found.labels[j].flatten()] for found, j in ((both, i), (alone, 0))]
        strong = (alone.map[0] > 1e-3 * alone.map.max()).flatten().tolist()
        assert [a for a, kept in zip(named[0], strong, strict=True) if kept] == [
            a for a, kept in zip(named[1], strong, strict=True) if kept
        ]


def test_the_recipe_of_several_images_names_each_target_and_all_images(motifnet, mosaic):
    images = torch.stack([torch.rand_like(mosaic), mosaic, mosaic.flip(-1)])
    found = fv.explain(motifnet, images, ["logit:star", "stage2:5", "logit:star"], "gradient")
    star, channel, _ = found.recipe["target"]
    assert "star" in star and "stage2" in channel and found.recipe["target"] == [star, channel, star]
    assert found.recipe["images"] == fingerprint(images)
    assert found.target == "logit:star, stage2:5, logit:star"


def test_warnings_name_the_line_of_the_caller(motifnet, mosaic):
    with pytest.warns(fv.FeatvizWarning) as caught:
        fv.explain(motifnet, mosaic, "logit:star", methods.IntegratedGradients(steps=2))
    assert {each.filename for each in caught} == {__file__}


def test_maps_of_one_method_compare_where_targets_read_the_same_layer(motifnet, mosaic):
    """Of logits, the weaker map is drawn paler; a channel of another layer has a scale of its own."""
    targets = ["logit:star", "0.25 * logit:star", "stage2:5"]
    found = fv.compare(motifnet, mosaic, targets, [methods.IntegratedGradients(steps=16)])
    strong, weak, other = (row[0] for row in found.rows)
    torch.testing.assert_close(weak.full_strength(), strong.full_strength() / 4, rtol=1e-3, atol=1e-6)
    shape = (*strong.to_bytes()[0].shape,)
    assert (found._cell(0, 0, shape) == strong.to_bytes()[0]).all()
    assert (found._cell(1, 0, shape) == weak.to_bytes(strong.full_strength())[0]).all()
    assert (found._cell(2, 0, shape) == other.to_bytes()[0]).all()
    saturation = [np.ptp(found._cell(i, 0, shape).astype(int), axis=2).mean() for i in range(2)]
    assert saturation[1] < 0.6 * saturation[0]


def test_a_refused_method_says_why_and_sheets_have_a_legend(motifnet, mosaic):
    found = fv.compare(motifnet, mosaic, ["stage2:5"], ["cam", "gradient"])
    cell = found._cell(0, 0, (256, 256))
    assert (cell < 100).any() and not (cell == 255).all(2).any()  # text, and not white
    plain = contact_sheet([cell, cell, cell], ["a", "b", "c"], columns=3)
    for sheet, above in ((found.sheet(), len(plain)), (found.rows[0][1].sheet(), 256)):
        legend = sheet[above:]
        red, blue = ((legend[..., i].astype(int) - legend[..., 2 - i]) > 100 for i in (0, 2))
        assert red.any() and blue.any() and np.nonzero(blue)[1].max() < np.nonzero(red)[1].min()


@pytest.mark.long
def test_a_slot_head_is_trained_and_explains_classes(motifnet, mosaic, tmp_path):
    def batches():
        generator = torch.Generator().manual_seed(0)
        for _ in range(60):
            labels = torch.randint(len(MOTIFS), (48,), generator=generator)
            yield draw(labels, (64, 64), generator), labels

    for against in (False, True):
        file = tmp_path / f"{against}.safetensors"
        assert train_scouter(motifnet, "stage3", batches(), file, against=against) > 0.8
        found = fv.explain(motifnet, mosaic, "logit:star", methods.Scouter(str(file)))
        assert found.map.shape == (1, 128, 128) and ((found.map <= 0).all() if against else (found.map >= 0).all())
    with pytest.raises(fv.SettingError, match="^Scouter needs a class as target, got stage2:5; use GradCAM$"):
        fv.explain(motifnet, mosaic, "stage2:5", methods.Scouter(file))
    other = fv.Network(Renamed(), size=64, **toys.HALF)
    with pytest.raises(
        fv.SettingError, match="does not fit Renamed: it needs 128 channels in 'stage3' and 27 classes$"
    ):
        fv.explain(other, torch.rand(3, 64, 64), "logit:1", methods.Scouter(file))


class Renamed(torch.nn.Module):
    """A network with a layer that has the name of one of motifnet's."""

    def __init__(self):
        super().__init__()
        self.stage3, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.stage3(x).mean((2, 3)))


BAD = [
    (["explain", "no.png"], "no file no.png; check the path"),
    (["explain", "plain.png", "--method", "gradcan"], "there is no 'gradcan' in methods; nearest: 'GradCAM', 'Gradient', 'GuidedGradCAM'"),
    (["explain", "plain.png", "--method", "LRP('zminus')"], "rule must be epsilon, gamma, zplus, alphabeta, flat, deep_taylor, epsilon_plus, epsilon_plus_flat, epsilon_gamma_box, epsilon_alpha2_beta1, epsilon_alpha2_beta1_flat, cp_lrp or attn_lrp, got 'zminus'"),
    (["explain", "plain.png", "--method", "IntegratedGradients('white')"], "baseline must be zero, blur, mean or pad, got 'white'"),
    (["explain", "plain.png", "--method", "NoiseTunnel(samples=0)"], "samples must be a whole number >= 1, got 0 (default 16)"),
    (["explain", "plain.png", "--method", "CLEAR(0)"], "classes must be a whole number >= 1, got 0 (default 5)"),
    (["explain", "plain.png", "--method", "rollout"], "motifnet has no attention over the whole image; use e.g. GradCAM"),
    (["explain", "plain.png", "--model", "motifvit", "--method", "LRP"], "LRP has no rule for layer_norm in motifvit; use LRP('attn_lrp') or GradCAM"),
    (["explain", "plain.png", "tv", "--method", "LRP"], "LRP needs a target that reads a layer, got tv"),
    (["explain", "plain.png", "--model", "motifvit", "--layer", "encoder.ln", "--method", "gradcam"], "logit:"),
    (["explain", "plain.png", "--method", "NoiseTunnel('cam')"], "method must be an attribution method, such as GradCAM(), got 'cam'"),
    (["explain", "plain.png", "--model", "motifvit", "--method", "Attention(9)"], "layer must be in [-4, 3], got 9; motifvit has 4 attention layers"),
    (["explain", "plain.png", "--model", "motifvit", "--method", "Attention(0, 9)"], "head must be in [0, 3] or None, got 9"),
    (["explain", "plain.png", "--method", "Scouter('no.safetensors')"], "cannot read no.safetensors as a SCOUTER head; train one with fv.methods.train_scouter"),
    (["explain", "plain.png", "stage2:999"], "no channel 999 in 'stage2'; it has 64, 0 to 63"),
    (["explain", "plain.png", "diversity(stage2)"], "the target must score a single image, got diversity(stage2), which compares several"),
    (["explain", "plain.png", "stage2:5", "--layer", "stage3", "--method", "gradcam"], "layer must have positions and not come after stage2:5, got 'stage3'; the last such layer is 'stage2'"),
    (["explain", "plain.png", "--layer", "stag", "--method", "gradcam"], "no layer 'stag' in motifnet"),
    (["explain", "plain.png", "--class", "sprial"], "no class 'sprial'; nearest: 'spiral'"),
    (["explain", "plain.png", "-o", "no/a.png"], "cannot write no/a.png: there is no folder no; make it first"),
    (["examples", "no", "--layer", "stage2"], "no folder no; give a folder of images"),
    (["examples", "good", "--layer", "stage2", "--channels", "99"], "no channel 99 in 'stage2'; it has 64, 0 to 63"),
    (["examples", "good", "--layer", "stage2", "--channels", "x"], "cannot read the channels 'x'; give numbers as 0-15,40, or all"),
    (["examples", "good", "--layer", "stage9"], "no layer 'stage9' in motifnet"),
    (["examples", ".", "--layer", "stage2"], "stage2-examples.png lies in ., and would be taken for photographs; give an output"),
    (["explain", "plain.png", "--method", "smoothgrad", "--layer", "stage3"], "none of the methods reads a single layer; leave out layer 'stage3', or add gradcam"),
    (["explain", "plain.png", "--class", "²"], "no class '²'"),
    (["examples", "bad", "--layer", "stage2"], "none of the 1 images in bad can be read; the first: cannot read"),
    (["evidence", "bad"], "none of the 1 images in bad can be read; the first: cannot read"),
    (["evidence", "no"], "no folder no; give a folder of images"),
    (["evidence", ".", "--top", "0"], "top must be >= 1, got 0 (default 5)"),
    (["evidence", ".", "--layer", "head"], "layer must have positions and not come after logit:0, got 'head'; the last such layer is 'stage3"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_invalid_input_gives_one_line_and_writes_nothing(arguments, message, tmp_path, capsys):
    Image.new("RGB", (64, 64), (90, 60, 200)).save(tmp_path / "plain.png")
    (tmp_path / "good").mkdir()
    Image.new("RGB", (64, 64), (90, 60, 200)).save(tmp_path / "good" / "a.png")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG no")
    before = sorted(tmp_path.rglob("*"))
    assert main([*arguments, *(["--quiet"] if arguments[0] != "explain" else [])]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"featviz: {message}"), lines
    assert sorted(tmp_path.rglob("*")) == before


def test_method_names_and_unusual_images(motifnet, mosaic, tmp_path):
    named = fv.compare(motifnet, mosaic, ["logit:star"], [methods.LRP("zplus"), methods.LRP(), methods.GradCAM, "cam"])
    assert named.methods == ("LRP(rule='zplus')", "LRP", "GradCAM", "cam")
    one, two = (fv.explain(motifnet, given, "logit:star").map for given in (mosaic, mosaic.numpy()))
    assert torch.equal(one, two)
    whole = fv.explain(motifnet, (255 * mosaic).round().byte(), "logit:star").map
    assert (whole - one).abs().max() < 0.05 * one.abs().max()  # 8 bits
    assert len(fv.compare(motifnet, torch.stack([mosaic, mosaic]), ["logit:star"], ["gradient"])) == 2
    Image.new("RGB", (150, 117), "white").save(tmp_path / "white.png")
    assert read_photograph(tmp_path / "white.png", size=64).max() == 1
    assert fv.compare(motifnet, tmp_path / "white.png", ["logit:star"], ["gradient"]).problems == {}
    Image.new("RGB", (4000, 20), (90, 60, 200)).save(tmp_path / "strip.png")
    assert fv.explain(motifnet, tmp_path / "strip.png").map.shape == (1, 64, 256)


def test_layers_without_gradient_are_reported(motifvit):
    with pytest.raises(
        fv.SettingError,
        match="logit:1 has no gradient at the positions of 'encoder.ln'; leave the layer out, or give an earlier one",
    ):
        fv.explain(motifvit, torch.rand(3, 64, 64), "logit:1", "gradcam", layer="encoder.ln")


def test_attention_does_not_depend_on_the_target(motifvit):
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = ("logit:1", "encoder.layers.encoder_layer_0:5")
    for method in ("attention", "rollout"):
        one, two = (fv.explain(motifvit, image, target, method).map for target in targets)
        torch.testing.assert_close(one, two)


def test_methods_apply_to_the_transformer_of_torchvision():
    import torchvision

    module = torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    network = fv.Network(module, size=32, **toys.HALF)
    with torch.no_grad():
        module.heads.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    for method in ("gradient", "integratedgradients", "gradcam", "attention", "rollout", "guidedbackprop", "clear"):
        assert fv.explain(network, torch.rand(3, 32, 32), "logit:1", method).map.abs().max() > 0


@pytest.mark.long
def test_networks_without_rectifiers_or_in_other_precisions(motifnet):
    linear = toys.network(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    )
    with pytest.raises(
        fv.SettingError, match="^Sequential has no rectifier, such as ReLU, before logit:1; use Gradient$"
    ):
        fv.explain(linear, torch.rand(3, 32, 32), "logit:1", "guidedbackprop")
    leaky = toys.network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.LeakyReLU(), torch.nn.Conv2d(4, 4, 3)))
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (
        fv.explain(leaky, image, "2:1", method).per_channel
        for method in (methods.Gradient(absolute=False), "deconvnet")
    )
    assert not torch.allclose(one, two)
    import copy

    spec = motifnet.input
    double = fv.Network(copy.deepcopy(motifnet.module).double(), size=64, mean=spec.mean, std=spec.std)
    for method in ("cam", "gradcam", "guidedgradcam", "integratedgradients"):
        one, two = (
            fv.explain(net, torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), "logit:1", method)
            for net in (double, motifnet)
        )
        torch.testing.assert_close(one.map.float(), two.map, atol=1e-4, rtol=1e-2)
        assert one.overlay().isfinite().all()


def test_combined_networks_give_reasons_for_methods_that_do_not_apply(motifnet, motifvit, tmp_path):
    both = fv.combine(one=motifnet, other=motifvit)
    (image,) = draw(torch.tensor([MOTIFS.index("star")]), (64, 64), torch.Generator().manual_seed(0))
    assert fv.explain(both, image, "logit:star@one", "gradcam", layer="one.stage3").map.abs().max() > 0
    sheet = fv.compare(both, image, ["logit:star@one"], ["gradient", "clear", "LRP"])
    assert [found is None for found in sheet.rows[0]] == [False, True, True]
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(
        fv.SettingError, match="^evidence needs a network with one head, got one, other; pass each network on its own$"
    ):
        fv.evidence(both, tmp_path)


def test_the_explain_command(tmp_path, capsys, mosaic):
    Image.fromarray((mosaic.permute(1, 2, 0) * 255).byte().numpy()).save(tmp_path / "four.png")
    words = ["explain", "four.png", "stage2:5", "--class", "star", "--method", "gradcam", "--method", "LRP('zplus')"]
    assert main([*words, "--method", "rollout"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["four-explained.png"]  # LRP misses its sum by less than 0.01 %
    assert printed.err.endswith("featviz: motifnet has no attention over the whole image; use e.g. GradCAM\n")
    assert "explain: 100%" in printed.err and "6/6" in printed.err
    rough = ["explain", "four.png", "stage2:5", "--method", "IntegratedGradients(steps=16)", "-o", "rough.png"]
    assert main(rough) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("stage2:5: IntegratedGradients(steps=16): contributions miss the guaranteed sum by ")
    assert first.endswith(" % (0 % is exact)") and last == "rough.png"
    assert main([*words, "--quiet"]) == 0 and capsys.readouterr().err == ""
    assert json.dumps(read_report(tmp_path / "four-explained.png")).count("Channel(") == 2
    (tmp_path / "out").mkdir()
    (tmp_path / "own.py").write_text(
        "from featviz.objectives import objective\n"
        "@objective('stage2')\ndef corner(acts):\n    return acts['stage2'][:, 3, 0, 0]\n"
    )
    assert (
        main(["explain", "four.png", "corner", "--own", "own.py:corner", "--method", "gradcam", "-o", "own.png"]) == 0
    )
    assert capsys.readouterr().out.splitlines() == ["own.png"]
    assert main(["explain", "four.png", "--class", "12", "--method", "gradcam", "--input-size", "96", "-o", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == ["out/four-explained.png"]


def test_class_labels_of_several_layers_have_no_mean(motifnet):
    message = "a map that names the class of each position has no mean over layers; give one layer"
    with pytest.raises(fv.SettingError, match=message):
        fv.explain(motifnet, torch.rand(3, 64, 64), None, methods.CLEAR(2), layer=["stage2", "stage3"])
