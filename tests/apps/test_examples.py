"""Photographs that excite units, found in one walk through a folder, and remembered."""

import numpy as np
import pytest
import torch
import toys
from motifs.draw import draw
from PIL import Image

import featviz as fv
from featviz.apps.explain import scan
from featviz.apps.explain.examples import Example, Reach
from featviz.cli import main
from featviz.io import read_image, read_photographs

NAMES = ["moon", "bricks", "spiral"]


@pytest.fixture(scope="module")
def motifvit():
    return fv.load("motifvit", device="cpu")


@pytest.fixture
def folder(motifnet, tmp_path):
    """Four drawings each of three motifs, one of them a folder deeper, and a file that is broken."""
    labels = torch.tensor([motifnet.classes.index(name) for name in NAMES for _ in range(4)])
    (tmp_path / "photos" / "deeper").mkdir(parents=True)
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        below = "deeper" if i == 5 else "."
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / below / f"{i:02d}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG no")
    return tmp_path / "photos"


def test_the_strongest_the_middling_and_the_weakest(motifnet, folder):
    found = fv.examples(motifnet, folder, "stage2", [5], top=4, rest=3)
    responses = {}
    for file, image in read_photographs(folder, size=64, skipped=lambda *_: None):
        responses[file] = motifnet.capture(image[None], ["stage2"])["stage2"][0, 5].max().item()
    ranked = sorted(responses, key=responses.get)
    assert [one.file for one in found.of(5)] == ranked[::-1][:4]
    assert [one.file for one in found.of(5, "bottom")] == ranked[:3]
    assert {one.file for one in found.of(5, "middle")} <= set(ranked[3:9])
    assert found.of(5)[0].response == pytest.approx(max(responses.values()), rel=1e-4)
    assert (list(found.scan.skipped), found.scan.unread) == (["broken.png"], 1)
    assert torch.equal(found.mean(5), torch.stack([one.crop for one in found.of(5)]).mean(0))


def test_a_class_is_excited_by_its_own(motifnet, folder):
    found = fv.examples(motifnet, folder, "logit", top=4)
    for k, name in enumerate(NAMES):
        index = motifnet.classes.index(name)
        assert {int(one.file.stem) // 4 for one in found.of(index)} == {k}
        assert found.of(index)[0].crop.shape == (3, 128, 128)
    assert found.reach is None and found.goals[0] == fv.objectives.Logit(0)


def test_a_folder_is_read_once(motifnet, folder, monkeypatch):
    first = fv.examples(motifnet, folder, "stage2", [5])
    with monkeypatch.context() as patch:
        patch.setattr(scan, "_scan", None)  # nobody goes through it again
        again = fv.examples(motifnet, folder, "stage2", [5, 6])
        assert again.key == first.key and again.scan.skipped == first.scan.skipped
        assert [one.file for one in again.of(5)] == [one.file for one in first.of(5)]
        with pytest.raises(TypeError):
            fv.examples(motifnet, folder, "stage1", [5])
        (folder / "00.png").rename(folder / "000.png")
        with pytest.raises(TypeError):
            fv.examples(motifnet, folder, "stage2", [5])


def test_many_files_take_little_memory(motifnet, monkeypatch, tmp_path):
    """Of twenty thousand, only the names and numbers of those that count stay."""
    network = toys.network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)), size=4)
    image, most = torch.rand(3, 4, 4), 0

    def many(*_, **__):
        for i in range(20000):
            yield tmp_path / f"{i}.png", image * ((i * 7919) % 20000 / 20000)

    inner = scan._spoken_of

    def watched(files, numbers):
        nonlocal most
        most = max(most, len(files))
        return inner(files, numbers)

    monkeypatch.setattr(fv, "photographs", many)
    monkeypatch.setattr(scan, "_spoken_of", watched)
    found = scan._scan(network, tmp_path, "0", 5, 2, 20000, None)
    assert most <= scan.WAITING + 3 * scan.SAMPLE
    assert {part[0].shape for part in found.found.values()} == {(5, 4), (2, 4)}
    assert len(found.files) <= 4 * 9


def test_the_reach_of_a_place_is_its_receptive_field(folder):
    """Two convolutions of 3 px, the first with a stride of 2: 7 px; and a vector has no places."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, 1, 1))
    network = fv.Network(net, size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    for layer, side in (("0", 3), ("2", 7)):
        reach = fv.examples(network, folder, layer, [0]).reach
        assert (reach.bottom - reach.top, reach.right - reach.left) == (side, side)
        assert -side < reach.top < 0 < reach.bottom < side


def test_crops_are_where_the_place_is_and_stay_whole_at_the_edge(motifnet, motifvit, folder):
    found = fv.examples(motifnet, folder, "stage2", [5])
    vars(found)["reach"] = Reach(-16, -12, 16, 12)  # stage2 has 16 x 16 places of 4 px
    assert found._box(0) == (0, 32, 0, 24)
    assert found._box(8 * 16 + 8) == (18, 50, 22, 46)
    assert found._box(16 * 16 - 1) == (32, 64, 40, 64)
    tokens = fv.examples(motifvit, folder, "encoder.layers.encoder_layer_0", [5])
    assert tokens._box(0) == (0, 64, 0, 64)  # the class token sees all


def test_gradients_are_those_of_the_place(motifnet, folder):
    found = fv.examples(motifnet, folder, "stage1", [3])
    assert found.of(3)[0].gradient is None
    (one, *_) = found.of(3, gradients=True)
    assert isinstance(one, Example) and one.gradient.shape == one.crop.shape == (3, 128, 128)
    assert one.gradient.abs().max() > 0


def test_evidence_counts_and_adds_up(motifnet, folder):
    found = fv.evidence(motifnet, folder, top=3)
    count, total = torch.zeros(27, 128), torch.zeros(27, 128)
    weights = motifnet.module.head.weight.detach()
    for _, image in read_photographs(folder, size=64, skipped=lambda *_: None):
        acts = motifnet.capture(image[None], ["stage3", ""])
        label = acts.logits().argmax().item()
        added = acts["stage3"][0].mean((1, 2)) * weights[label]
        for channel in added.topk(3).indices.tolist():
            count[label, channel] += 1
            total[label, channel] += added[channel]
    assert torch.equal(found.count, count) and found.photographs.sum() == 12
    torch.testing.assert_close(found.weight, total, atol=1e-4, rtol=1e-3)
    lines = str(found).splitlines()
    assert lines[0].split() == ["class", "photographs", "channel:", "count", "x", "score"]
    assert {line.split()[0] for line in lines[1:]} >= {"moon", "bricks", "spiral"}


def test_odd_files_and_odd_wishes(motifnet, motifvit, folder):
    (folder / "nowhere.png").symlink_to("gone.png")
    (folder / "words.npy").write_bytes(b"no")
    for name, array in (("nan", np.full((3, 8, 8), np.nan)), ("empty", np.empty((3, 0, 8))), ("text", np.array(["a"]))):
        np.save(folder / f"{name}.npy", array)
    found = fv.examples(motifnet, folder, "stage2", [5], rest=0)
    assert found.scan.unread == 6 and len(found.of(5)) == 5 and list(found.scan.found) == ["top", "middle", "bottom"]
    assert found.of(5, "bottom") == [] and found.sheet().shape[0] > 0
    with pytest.raises(fv.SettingError, match="no channels are given; give some, or None for all"):
        fv.examples(motifnet, folder, "stage2", [])
    table = fv.evidence(motifvit, folder)
    assert table.score.max() > 0 and table.layer.startswith("encoder.layers.encoder_layer_3")
    with pytest.raises(fv.SettingError, match="has no gradient in the places of 'encoder.ln'"):
        fv.evidence(motifvit, folder, "encoder.ln")


def test_the_commands(folder, tmp_path, capsys):
    assert main(["examples", "photos", "--layer", "stage2", "--channels", "0-1", "--steps", "2", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.out == "examples.png\n" and "left out" in said.err and "broken.png" in said.err
    assert read_image(tmp_path / "examples.png").shape[2] > 11 * 128
    assert main(["evidence", "photos", "--layer", "stage2", "--quiet"]) == 0
    assert "moon" in capsys.readouterr().out
