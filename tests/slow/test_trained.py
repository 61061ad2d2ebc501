"""Trained networks: their units, input range and explanations, in Python and on the command line."""

import sys

import pytest
import torch

import featviz as fv
from featviz import param
from featviz.apps.blocks.decompose import take_apart
from featviz.apps.shared.arguments.input_images import as_images
from featviz.cli import main
from featviz.io import read_image

pytestmark = pytest.mark.slow

CIFAR = ["--input-size", "32", "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]
IMAGENET_RANGE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_RANGE = (0.5,) * 3, (0.5,) * 3


def mobilenet(shared):
    return fv.load("mobilenet_v2", weights=shared / "models" / "mobilenet_v2.safetensors", device="cpu")


def own_network(shared, name, size, mean, std):
    return fv.load(f"{shared / 'models' / 'models.py'}:{name}", device="cpu", input_size=size, mean=mean, std=std)


def test_render_units_of_a_trained_network_by_command(shared, capsys):
    weights = str(shared / "models" / "mobilenet_v2.safetensors")
    model = ["--model", "mobilenet_v2", "--weights", weights, "--device", "cpu"]
    assert main(["render", "features.14:5", *model, "--steps", "12", "-o", "a.png", "--quiet"]) == 0
    assert read_image("a.png").shape == (3, 224, 224)
    assert main(["render", "logit:flamngo", *model, "-o", "b.png", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("featviz: no class 'flamngo'; nearest: 'flamingo'")


@pytest.mark.long
def test_another_network_recognises_a_rendered_flamingo(shared):
    net = mobilenet(shared)
    rendering = fv.render(net, "logit:flamingo", param=param.Image(batch=4), steps=256)
    judge = own_network(shared, "mobilenet_v1_050", 160, *HALF_RANGE)
    views = []
    for side in (160, 176, 192):
        resized = torch.nn.functional.interpolate(rendering.images, (side, side), mode="bilinear", antialias=True)
        for corner in (0, (side - 160) // 2, side - 160):
            cut = resized[..., corner : corner + 160, corner : corner + 160]
            views.append(judge.capture(cut, [""]).logits().softmax(1))
    recognised = [net.classes.index("flamingo") in best for best in torch.stack(views).mean(0).topk(5).indices]
    assert sum(recognised) >= 2  # of photographs of flamingos, about nine in ten are recognised


@pytest.mark.long
def test_doctor_finds_the_normalisation_of_trained_networks(shared, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    for file in sorted((shared / "images" / "imagenet500").iterdir())[::20]:
        (folder / file.name).symlink_to(file)
    for network, fix in (
        (mobilenet(shared), "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"),
        (own_network(shared, "mobilenet_v1_050", 160, *HALF_RANGE), "--mean 0.5,0.5,0.5 --std 0.5,0.5,0.5"),
    ):
        assert fv.doctor(network, photographs=folder).healthy
        wrong = fv.doctor(network.with_input(mean=(0.0,) * 3, std=(0.003922,) * 3), photographs=folder)
        assert [finding.fix for finding in wrong if finding.check == "input range"] == [fix]


def test_doctor_does_not_suggest_another_channel_order_for_a_small_gain(shared):
    """On photographs unlike its training images, predictions of ResNet-56 are 0.5 % more informative with BGR."""
    network = own_network(shared, "cifar10_resnet56", 32, (0.0,) * 3, (1.0,) * 3)
    found = fv.doctor(network, photographs=shared / "images" / "imagenet500")
    fixes = [finding.fix for finding in found if finding.check == "input range"]
    assert fixes == ["--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"]


def test_blocks_locate_the_classes_of_a_photograph(shared):
    """The photograph shows a hare at its center, and magpies below it on the left and on the right."""
    net = mobilenet(shared)
    image = as_images(net, shared / "images" / "imagenet500" / "331_hare.jpg")
    classes = [net.classes.index(name) for name in ("hare", "magpie")]
    (part,) = take_apart(net, image, ["features.17"], classes, most=10, groups=4)
    hare, magpie = part.support
    assert hare.shape == (7, 10)
    middle, left, right = (slice(2, 4), slice(3, 8)), (slice(5, 7), slice(1, 4)), (slice(5, 7), slice(7, 10))
    assert (hare[middle] > 2 * magpie[middle].abs()).all()
    for corner in (left, right):
        assert (magpie[corner] > hare[corner]).all() and magpie[corner].mean() > 2 * hare[corner].mean()


def test_own_network_of_32_px_by_command(shared, capsys):
    model = ["--model", f"{shared / 'models' / 'models.py'}:cifar10_resnet56", *CIFAR]
    assert main(["render", "layer2.4:7", "logit:3", *model, "--steps", "8", "-o", "a.png", "--quiet"]) == 0
    assert main(["replay", "a.png", "--model", model[1], "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the same as the image, to the byte"
    assert main(["layers", "--all", *model]) == 0
    layer = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("layer2.4 "))
    assert layer[:6] == ["layer2.4", "map", "32x16x16", "32", "77", "2"]
    sys.modules.pop("models", None)


def test_network_with_functional_relus(shared):
    net = own_network(shared, "cifar10_resnet56", 32, *IMAGENET_RANGE)
    rendering = fv.render(net, ["layer1.2.bn1:3", "layer3:9", "logit:7"], transforms=(), steps=24)
    assert (rendering.history[-4:].mean(0) > rendering.history[:4].mean(0)).all()
    acts = net.capture(torch.rand(1, 3, 32, 32), ["layer1.2.bn1", "linear"])
    assert (acts["layer1.2.bn1"] < 0).any()


def test_timm_networks():
    pytest.importorskip("timm")
    vit = fv.load("timm/vit_tiny_patch16_224", weights="none", device="cpu")
    assert vit.fixed_size
    assert (vit.table["blocks.3"].layout.prefix, vit.table["blocks.3"].channels) == (1, 192)
    rendering = fv.render(vit, ["blocks.3:5@cls", "blocks.3.mlp.fc1:700@3,4"], steps=2)
    assert rendering.history.isfinite().all()
    swin = fv.load("swin_t", weights="none", device="cpu")
    assert (swin.table["features.3"].layout.kind, swin.table["features.3"].channels) == ("map", 192)


@pytest.mark.long
def test_defaults_work_for_small_images_and_for_transformers(shared):
    """A class, a channel and a neuron each: the score gain is robust, and the class is recognised."""
    cifar = own_network(shared, "cifar10_resnet56", 32, *IMAGENET_RANGE)
    layer = "encoder.layers.encoder_layer_2"
    for net, addresses in (
        (cifar, ["logit:3", "layer2.4:7", "layer3.4:5@center"]),
        (fv.load("motifvit", device="cpu"), ["logit:leaf", f"{layer}:7", f"{layer}:5@3,4"]),
    ):
        rendering = fv.render(net, addresses, steps=128)
        assert (rendering.robustness.clean > rendering.robustness.start).all()
        assert (rendering.robustness.retained > 0.25).all()
        logits = net.capture(rendering.images[:1], [""]).logits()
        assert logits.softmax(1)[0, 3 if net is cifar else net.classes.index("leaf")] > 0.9
    sys.modules.pop("models", None)
