"""Dataset examples and evidence: one scan of a folder, its cache, crops, gradients and counts."""

import numpy as np
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import featviz as fv
from featviz.apps.examples import scan
from featviz.apps.examples.examples import Example, FieldOffsets
from featviz.apps.shared.activations.image_batches import ImageBatch
from featviz.cli import main
from featviz.io import cache_folder, read_image, read_photographs

NAMES = ["moon", "bricks", "spiral"]


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture
def folder(motifnet, tmp_path):
    """Four drawings of each of three motifs, one of them in a subfolder, and a broken file."""
    labels = torch.tensor([motifnet.classes.index(name) for name in NAMES for _ in range(4)])
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        below = "deeper" if i == 5 else "."
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / below / f"{i:02d}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG no")
    return tmp_path / "photos"


def test_examples_are_the_highest_the_lowest_and_near_the_median(motifnet, folder):
    found = fv.examples(motifnet, folder, "stage2", [5], top=4, rest=3)
    activations = {}
    for file, image in read_photographs(folder, size=64, skipped=lambda *_: None):
        activations[file] = motifnet.capture(image[None], ["stage2"])["stage2"][0, 5].max().item()
    ranked = sorted(activations, key=activations.get)
    assert [one.file for one in found.of(5)] == ranked[::-1][:4]
    assert [one.file for one in found.of(5, "bottom")] == ranked[:3]
    assert {one.file for one in found.of(5, "middle")} <= set(ranked[3:9])
    assert found.of(5)[0].activation == pytest.approx(max(activations.values()), rel=1e-4)
    assert (list(found.scan.skipped), found.scan.skipped_count) == (["broken.png"], 1)
    assert torch.equal(found.mean(5), torch.stack([one.crop for one in found.of(5)]).mean(0))


def test_classes_are_activated_by_their_own_photographs(motifnet, folder):
    found = fv.examples(motifnet, folder, "logit", top=4)
    for k, name in enumerate(NAMES):
        index = motifnet.classes.index(name)
        assert {int(one.file.stem) // 4 for one in found.of(index)} == {k}
        assert found.of(index)[0].crop.shape == (3, 128, 128)
    assert found.receptive_field is None and found.objectives[0] == fv.objectives.Logit(0)


def test_a_scan_is_cached_until_the_folder_changes(motifnet, folder, monkeypatch):
    first = fv.examples(motifnet, folder, "stage2", [5])
    with monkeypatch.context() as patch:
        patch.setattr(scan, "_scan", None)  # a second scan raises TypeError
        again = fv.examples(motifnet, folder, "stage2", [5, 6])
        assert again.key == first.key and again.scan.skipped == first.scan.skipped
        assert [one.file for one in again.of(5)] == [one.file for one in first.of(5)]
        with pytest.raises(TypeError):
            fv.examples(motifnet, folder, "stage1", [5])
        (folder / "00.png").rename(folder / "000.png")
        with pytest.raises(TypeError):
            fv.examples(motifnet, folder, "stage2", [5])


def test_memory_does_not_grow_with_the_number_of_files(monkeypatch, tmp_path):
    """Of 20000 files, only the names of those in a ranking are kept."""
    network = toys.network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), size=4)
    image, most = torch.rand(3, 4, 4), 0

    def many_batches(*_, batch, **__):
        for first in range(0, 20000, batch):
            files = [tmp_path / f"{i}.png" for i in range(first, first + batch)]
            images = [image * ((i * 7919) % 20000 / 20000) for i in range(first, first + batch)]
            yield ImageBatch(files, torch.stack(images), first + batch)

    only_used = scan._only_used

    def count_files(files, indices):
        nonlocal most
        most = max(most, len(files))
        return only_used(files, indices)

    monkeypatch.setattr(scan, "image_batches", many_batches)
    monkeypatch.setattr(scan, "_only_used", count_files)
    found = scan._scan(network, tmp_path, "0", 5, 2, 20000, None)
    assert scan.MAX_UNUSED_FILES < most <= scan.MAX_UNUSED_FILES + 3 * scan.MEDIAN_SAMPLE
    assert {ranked.photographs.shape for ranked in found.ranked.values()} == {(5, 4), (2, 4)}
    assert len(found.files) <= 4 * 9


def test_receptive_fields_are_measured(folder):
    """Two 3 px convolutions, the first with stride 2, have receptive fields of 3 and 7 px."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 1, 1))
    network = fv.Network(net, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    for layer, side in (("0", 3), ("2", 7)):
        field = fv.examples(network, folder, layer, [0]).receptive_field
        assert tuple(end - first for first, end in zip(field.first, field.end, strict=True)) == (side, side)
        assert -side < field.first[0] < 0 < field.end[0] < side


def test_crops_are_centred_on_the_position_and_keep_their_size_at_edges(motifnet, motifvit, folder):
    found = fv.examples(motifnet, folder, "stage2", [5])
    vars(found)["receptive_field"] = FieldOffsets((-16, -12), (16, 12))  # stage2 has 16 x 16 positions of 4 px
    assert found._box(0) == (0, 32, 0, 24)
    assert found._box(8 * 16 + 8) == (18, 50, 22, 46)
    assert found._box(16 * 16 - 1) == (32, 64, 40, 64)
    tokens = fv.examples(motifvit, folder, "encoder.layers.encoder_layer_0", [5])
    assert tokens._box(0) == (0, 64, 0, 64)  # the class token sees the whole image


def test_gradients_are_computed_on_request(motifnet, folder):
    found = fv.examples(motifnet, folder, "stage1", [3])
    assert found.of(3)[0].gradient is None
    (example, *_) = found.of(3, gradients=True)
    assert isinstance(example, Example) and example.gradient.shape == example.crop.shape == (3, 128, 128)
    assert example.gradient.abs().max() > 0


def test_evidence_counts_and_averages_the_largest_contributions(motifnet, folder):
    found = fv.evidence(motifnet, folder, top=3)
    count, total = torch.zeros(27, 128), torch.zeros(27, 128)
    weights = motifnet.module.head.weight.detach()
    for _, image in read_photographs(folder, size=64, skipped=lambda *_: None):
        acts = motifnet.capture(image[None], ["stage3", ""])
        label = acts.logits().argmax().item()
        contributions = acts["stage3"][0].mean((1, 2)) * weights[label]
        for channel in contributions.topk(3).indices.tolist():
            count[label, channel] += 1
            total[label, channel] += contributions[channel]
    assert torch.equal(found.count, count) and found.photographs_per_class.sum() == 12
    torch.testing.assert_close(found.weight, total, atol=1e-4, rtol=1e-3)
    lines = str(found).splitlines()
    assert lines[0].split() == ["class", "photographs", "channel:", "count", "x", "contribution"]
    assert {line.split()[0] for line in lines[1:]} >= {"moon", "bricks", "spiral"}


def test_unreadable_files_are_skipped_and_settings_are_checked(motifnet, motifvit, folder):
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "words.npy").write_bytes(b"no")
    for name, array in (("nan", np.full((3, 8, 8), np.nan)), ("empty", np.empty((3, 0, 8))), ("text", np.array(["a"]))):
        np.save(folder / f"{name}.npy", array)
    found = fv.examples(motifnet, folder, "stage2", [5], rest=0)
    assert (
        found.scan.skipped_count == 6
        and len(found.of(5)) == 5
        and list(found.scan.ranked) == ["top", "middle", "bottom"]
    )
    assert found.of(5, "bottom") == [] and found.sheet().shape[0] > 0
    with pytest.raises(fv.SettingError, match="^channels must not be empty; give some, or None for all$"):
        fv.examples(motifnet, folder, "stage2", [])
    table = fv.evidence(motifvit, folder)
    assert table.contribution.max() > 0 and table.layer.startswith("encoder.layers.encoder_layer_3")
    with pytest.raises(fv.SettingError, match="has no gradient at the positions of 'encoder.ln'"):
        fv.evidence(motifvit, folder, "encoder.ln")


def test_the_examples_and_evidence_commands(folder, tmp_path, capsys):
    assert main(["examples", "photos", "--layer", "stage2", "--channels", "0-1", "--steps", "2", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "stage2-examples.png\n" and "skipped broken.png: cannot read" in printed.err
    assert read_image(tmp_path / "stage2-examples.png").shape[2] > 11 * 128
    assert main(["evidence", "photos", "--layer", "stage2", "--quiet"]) == 0
    assert "moon" in capsys.readouterr().out


class Exploding(toys.Plain):
    """Outputs NaN for dark images."""

    def forward(self, x):
        return super().forward(x / (x.mean((1, 2, 3), keepdim=True) > -0.9))


def test_activations_that_are_not_finite_are_refused(tmp_path):
    for i in (0, 200, 220, 250):
        Image.new("RGB", (32, 32), (i, i, i)).save(tmp_path / f"{i}.png")
    net = toys.network(Exploding(), classes=("a", "b", "c", "d", "e"))
    for call in (
        lambda: fv.examples(net, tmp_path, "conv2", [0]),
        lambda: fv.evidence(net, tmp_path, "conv2"),
    ):
        with pytest.raises(fv.ModelError, match="outputs NaN or infinite numbers for these photographs"):
            call()


def test_a_single_output_has_no_predicted_class_and_so_no_evidence(tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    net = toys.network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)))
    with pytest.raises(fv.SettingError, match="^evidence is about the predicted classes, and Sequential has one"):
        fv.evidence(net, tmp_path)


@pytest.mark.parametrize("files", ["[]", '{"0": 5}', "{}"])
def test_a_cached_scan_with_other_content_is_read_again(motifnet, folder, monkeypatch, files):
    found = fv.examples(motifnet, folder, "stage2", [0])
    (cached,) = [file for file in (cache_folder() / "examples").rglob("*") if file.is_file()]
    with safe_open(cached, "pt") as opened:
        tensors, about = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    save_file(tensors, cached, {**about, "files": files})
    again = fv.examples(motifnet, folder, "stage2", [0])
    assert [place.file for place in again.places(0)] == [place.file for place in found.places(0)]


class Patches(nn.Module):
    """The brightness of each patch of 8 px as a token: row by row, or in columns, or before a class token."""

    def __init__(self, *, columns=False, last=False):
        super().__init__()
        self.columns, self.last = columns, last
        self.patches = nn.Conv2d(3, 4, 8, stride=8)
        self.tokens, self.head = nn.Identity(), nn.Linear(4, 3)
        with torch.no_grad():
            self.patches.weight.fill_(1 / 192).add_(
                torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 1e4
            )
            self.patches.bias.zero_()

    def forward(self, x):
        grid = self.patches(x)
        tokens = (grid.transpose(2, 3) if self.columns else grid).flatten(2).transpose(1, 2)
        if self.last:
            tokens = torch.cat([tokens, torch.zeros_like(tokens[:, :1])], 1)
        return self.head(self.tokens(tokens).mean(1))


def patches(size=(32, 48), **kind):
    return fv.Network(Patches(**kind).eval(), size=size, mean=(0.0,) * 3, std=(1.0,) * 3)


@pytest.mark.parametrize("kind", [{}, {"columns": True}, {"last": True}, None], ids=str)
def test_the_crop_of_a_token_is_its_patch(kind, tmp_path):
    for row, column in ((0, 3), (2, 1), (3, 5)):
        image = np.zeros((32, 48, 3), np.uint8)
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
        Image.fromarray(image).save(tmp_path / f"{row}-{column}.png")
    if kind is None:  # the images of a combined network are resized for each part
        net, layer = fv.combine(small=patches(), large=patches((64, 96))), "small.tokens"
    else:
        net, layer = patches(**kind), "tokens"
    found, scale = fv.examples(net, tmp_path, layer, [1]), net.size[0] // 32
    for place in found.places(1):
        row, column = map(int, place.file.stem.split("-"))
        top, bottom, left, right = (edge / scale for edge in place.box)
        assert top <= 8 * row + 4 < bottom and left <= 8 * column + 4 < right and bottom - top <= 16, place


class Repeated(nn.Module):
    """A convolution that runs three times, and means as a second output."""

    def __init__(self):
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(self.conv(self.stem(x)).relu())
        x = self.conv(x)
        return {"logits": self.head(x.mean((2, 3))), "means": x.mean((2, 3))}


@pytest.mark.filterwarnings("ignore:skipped 1 file:featviz.FeatvizWarning")
def test_calls_of_a_module_and_outputs_are_layers_in_every_app(folder, tmp_path):
    net = fv.Network(Repeated().eval(), size=32, mean=(0.5,) * 3, std=(0.5,) * 3, heads={"output.logits": ()})
    given = {"size": 16, "steps": 2, "progress": None}
    for layer in ("conv#2", "output.means"):
        assert fv.examples(net, folder, layer, [0]).places(0)
        swept = fv.sweep(net, tmp_path / "sweep", layer, channels=[0], **given)
        assert len(swept.pages) == 2
        fv.unit(net, f"{layer}:1", folder, **given).save(tmp_path / "unit.html")
        found = fv.diff(net, net, folder, layers=[layer], steps=1)
        assert found.layers == ((layer,), (layer,))
    titles = (tmp_path / "sweep" / "index.html").read_text()
    assert titles.index("conv#2") < titles.index("output.means")
    image = torch.rand(1, 3, 32, 32)
    fv.blocks(net, image[0], ["conv", "conv#2"], tmp_path / "blocks", cells=2, groups=1, steps=2)
    assert fv.explain(net, image, "logit:1", "gradcam", layer="conv#2").map.shape == (1, 32, 32)
    assert fv.explain(net, image, "conv#3:1", "gradcam", layer="conv#1").map.shape == (1, 32, 32)
    with pytest.raises(fv.SettingError, match="^layer must have positions and not come after conv#1:1, got 'conv'"):
        fv.explain(net, image, "conv#1:1", "gradcam", layer="conv")
