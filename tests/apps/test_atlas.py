"""The activation atlas, on drawn motifs whose classes are known."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from motifs.draw import draw
from PIL import Image
from torch import nn

import featviz as fv
from featviz.apps.atlas import collect as collecting
from featviz.apps.atlas.cells import cells_of
from featviz.apps.judge.judge import class_rank
from featviz.apps.shared.activations.projection import lay_out, purity
from featviz.apps.shared.rendering.album import Album
from featviz.apps.shared.rendering.backends import render_batch
from featviz.apps.shared.rendering.icons import add_icons, write_sprites
from featviz.cli import main
from featviz.io import Store, locked, read_image, read_photograph
from featviz.network.bundled import MOTIFS

pytestmark = pytest.mark.filterwarnings("ignore:skipped 1 file")
NAMES = ("spiral", "bricks", "moon", "dots")
STEPS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twenty drawings of each of four motifs, and a file that cannot be read."""
    path = tmp_path_factory.mktemp("photos")
    labels = torch.tensor([MOTIFS.index(name) for name in NAMES for _ in range(20)])
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(0))):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(path / f"{i:02d}.png")
    (path / "broken.png").write_bytes(b"\x89PNG no")
    return path


@pytest.fixture(scope="module")
def few(folder, tmp_path_factory):
    """Six of the drawings."""
    path = tmp_path_factory.mktemp("few")
    for each in sorted(folder.glob("[0-9]*"))[::14]:
        shutil.copy(each, path)
    return path


def collected(network, folder, output, layer="stage3", per_image=3):
    return collecting.collect(network, folder, layer, output, per_image=per_image, seed=0)


def data(page):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.S)[1])


def test_collected_rows_are_activations_and_their_contributions(motifnet, folder, tmp_path):
    found = collected(motifnet, folder, tmp_path)
    assert (found.rows, found.photographs, found.channels, found.classes) == (240, 80, 128, 3)
    weights = motifnet.module.head.weight.detach()
    for row in (0, 100, 239):
        image = read_photograph(folder / found.files[found.numbers[row, 0]], size=64)
        acts = motifnet.capture(image[None], ["stage3", ""])
        maps, logits = acts["stage3"][0].flatten(1).T, acts.logits()[0]
        vector = torch.from_numpy(np.array(found.vectors[row], np.float32))
        distance = (maps - vector).abs().amax(1)
        assert distance.min() < 0.02 * maps.abs().max()
        assert found.labels[row].tolist() == logits.topk(3).indices.tolist()
        expected = (maps[distance.argmin()] @ weights[found.labels[row].tolist()].T) / len(maps)
        torch.testing.assert_close(torch.from_numpy(np.array(found.shares[row])), expected, atol=1e-3, rtol=0.02)
    assert len(np.unique(np.asarray(found.vectors), axis=0)) > 200  # positions differ


def test_interrupted_collection_continues(motifnet, folder, tmp_path, monkeypatch):
    whole = collected(motifnet, folder, tmp_path / "whole")
    sizes, rows_of = [], collecting._rows

    def stop(*args):
        sizes.append(len(args[3]))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return rows_of(*args)

    monkeypatch.setattr(collecting, "STATE_INTERVAL", 16)
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            collected(motifnet, folder, tmp_path / "stopped")
    (state,) = (tmp_path / "stopped").rglob("state.json")
    assert json.loads(state.read_text())["counts"]["photographs"] == 32
    with (state.parent / "vectors.bin").open("ab") as file:
        file.write(b"torn")  # written after the state was saved
    again = collected(motifnet, folder, tmp_path / "stopped")
    for name in ("vectors", "labels", "shares", "numbers"):
        assert np.array_equal(getattr(again, name), getattr(whole, name)), name
    assert again.files == whole.files
    monkeypatch.setattr(collecting, "_rows", None)  # a finished collection does not run the network
    assert collected(motifnet, folder, tmp_path / "stopped").rows == 240


@pytest.mark.parametrize("name", ["state.json", "files.txt", "vectors.bin", "labels.bin", "shares.bin", "numbers.bin"])
@pytest.mark.parametrize("damage", [b"", b"[1]", b'{"counts": {"rows": -3}, "files": {}}', "a byte", None])
def test_damaged_files_are_collected_anew(motifnet, few, tmp_path, name, damage):
    whole = collected(motifnet, few, tmp_path, per_image=1)
    before = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    if damage is None:
        (whole.folder / name).unlink()
    elif damage == "a byte":
        data = before[name]
        (whole.folder / name).write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    else:
        (whole.folder / name).write_bytes(damage)
    again = collected(motifnet, few, tmp_path, per_image=1)
    assert again.files == whole.files
    assert {path.name: path.read_bytes() for path in whole.folder.iterdir()} == before


COLLECT = """
import sys
from pathlib import Path
import featviz as fv
from featviz.apps.atlas.collect import collect
import logging
logging.basicConfig(level="INFO", format="%(message)s")
folder, output = map(Path, sys.argv[1:])
collect(fv.load("motifnet", device="cpu"), folder, "stage3", output, per_image=3, seed=0)
"""


@pytest.mark.slow
def test_two_processes_that_collect_the_same_wait_for_each_other(motifnet, folder, tmp_path):
    command = [sys.executable, "-c", COLLECT, str(folder), str(tmp_path / "both")]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    whole, found = (collected(motifnet, folder, tmp_path / name) for name in ("alone", "both"))
    assert found.files == whole.files
    for name in ("vectors", "labels", "shares", "numbers"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name


def test_who_waits_for_a_lock_says_so(tmp_path, caplog):
    caplog.set_level("INFO", "featviz")
    inside, order = threading.Event(), []

    def first():
        with locked(tmp_path / "out"):
            inside.set()
            end = time.monotonic() + 30
            while not caplog.messages and time.monotonic() < end:
                time.sleep(0.01)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with locked(tmp_path / "out"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == [f"waiting for another process that writes to {tmp_path / 'out'}; Ctrl-C to stop"]


@pytest.mark.parametrize("method", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_similar_activations_are_neighbours(method):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 12))
    labels = generator.integers(0, 3, 150)
    vectors = (centres[labels] + 0.15 * generator.normal(size=(150, 12))).astype(np.float16)
    plane = lay_out(vectors, method, 0)
    assert plane.shape == (150, 2) and plane.min() >= 0 and plane.max() <= 1
    assert purity(plane, labels, np.arange(150)) > 0.95
    assert purity(generator.random((150, 2)), labels, np.arange(150)) < 0.6
    assert np.array_equal(plane, lay_out(vectors, method, 0))


LAYOUT = """
import random
import numpy as np, torch
from featviz.apps.shared.activations.projection import lay_out
state = random.getstate()
lay_out(np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32), "umap", 0)
print("threads", torch.get_num_threads(), random.getstate() == state)
"""


def test_a_layout_keeps_the_number_of_threads_and_random_numbers():
    """Numba, which UMAP uses, sets the number of OpenMP threads of the process, and with it that of PyTorch."""
    environment = os.environ | {"NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LAYOUT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "threads 1 True\n" in done.stdout


def test_activations_that_are_not_fitted_are_placed_beside_similar_ones(monkeypatch):
    monkeypatch.setattr("featviz.apps.shared.activations.projection.FITTED", 60)
    monkeypatch.setattr("featviz.apps.shared.activations.projection.CHUNK", 50)
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(3, 12))
    labels = generator.integers(0, 3, 400)
    plane = lay_out((centres[labels] + 0.1 * generator.normal(size=(400, 12))).astype(np.float16), "pca", 0)
    assert purity(plane, labels, np.arange(400)) > 0.95


def test_cells_are_means_of_their_activations(motifnet, folder, tmp_path):
    found = collected(motifnet, folder, tmp_path)
    plane = np.random.default_rng(0).random((240, 2)).astype(np.float32)
    cells = cells_of(found, plane, np.arange(240), 4, 2)
    assert sum(cell.count for cell in cells) == 240 and cells[0].count == max(cell.count for cell in cells)
    for cell in cells:
        inside = [i for i in range(240) if (int(plane[i, 0] * 4), int(plane[i, 1] * 4)) == (cell.x, cell.y)]
        assert len(inside) == cell.count
        assert np.allclose(cell.mean, np.asarray(found.vectors[inside], np.float32).mean(0), atol=1e-3)
        totals = {}
        for i in inside:
            for label, share in zip(found.labels[i].tolist(), found.shares[i].tolist(), strict=True):
                totals[label] = totals.get(label, 0) + share / len(inside)
        best = max(totals, key=totals.get)
        assert cell.classes[0] == (best, pytest.approx(totals[best], rel=1e-4))
        assert set(cell.photographs) <= {found.numbers[i, 0] for i in inside}


@pytest.mark.slow
@pytest.mark.long
def test_icons_of_cells_are_recognised_by_another_network(motifnet, tmp_path):
    """motifvit, which took no part, recognises the icons of cells that contribute mainly to one motif."""
    labels = torch.arange(324) % len(MOTIFS)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(draw(labels, (64, 64), torch.Generator().manual_seed(1))):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(
            tmp_path / "photos" / f"{i:03d}.png"
        )
    made = fv.atlas(
        motifnet, tmp_path / "photos", "stage3", tmp_path / "a", grids=(8,), least=12, steps=128, method="tsne"
    )
    assert made.facts["stage3"]["purity"] > 0.7 and made.problems == {}
    judge = fv.load("motifvit", device="cpu")
    (grid,) = data(tmp_path / "a" / "index.html")["layers"][0]["grids"]
    right = []
    for cell in grid["cells"]:
        (name, share), *rest = cell["classes"]
        if not rest or share > 4 * rest[0][1]:
            image = torch.from_numpy(read_image(tmp_path / "a" / "images" / f"{cell['name']}.png"))
            right.append(class_rank(image, judge.classes.index(name), judge)[0] == 1)
    assert len(right) >= 10 and sum(right) / len(right) >= 0.75, right


def test_atlas_is_rendered_once_and_its_path_printed(motifnet, folder, tmp_path, capsys):
    words = [
        "atlas",
        str(folder),
        "--layer",
        "stage3",
        "--layer",
        "stage2",
        "-o",
        "page",
        "--steps",
        "2",
        "--method",
        "pca",
    ]
    assert main([*words, "--per-image", "2", "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"stage3: 160 activations; nearest neighbours share a class in \d+ %", said[0])
    assert said[-1] == f"{tmp_path}/page/index.html"
    layers = data(tmp_path / "page" / "index.html")["layers"]
    assert [layer["layer"] for layer in layers] == ["stage3", "stage2"]
    for layer in layers:
        for grid in layer["grids"]:
            sprite = json.loads((tmp_path / "page" / grid["sprite"]).with_suffix(".json").read_text())
            assert list(sprite["icons"]) == [cell["name"] for cell in grid["cells"]]
            assert all(
                (tmp_path / "page" / "photographs" / f"{p}.webp").is_file() for c in grid["cells"] for p in c["photos"]
            )
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "page" / "images").iterdir()}
    assert main([*words, "--per-image", "2", "--quiet"]) == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "page" / "images").iterdir()} == times


def test_scan_progress_is_reported(motifnet, folder, tmp_path):
    calls = []
    given = {"per_image": 1, "steps": STEPS, "method": "pca", "scan_progress": lambda *done: calls.append(done)}
    with pytest.warns(fv.FeatvizWarning, match=r"^skipped 1 file in .* that cannot be used; the first: cannot read"):
        fv.atlas(motifnet, folder, ["stage3", "stage2"], tmp_path / "a", **given)
    assert calls == 2 * [(done, 81) for done in (16, 32, 48, 64, 81)]  # the last file cannot be read
    calls.clear()
    fv.atlas(motifnet, folder, "stage3", tmp_path / "a", **given)
    assert not calls  # a finished collection is not scanned again


@pytest.mark.parametrize("name", ["cppn", "alpha"])
@pytest.mark.long
def test_icons_of_other_params(motifnet, folder, tmp_path, name):
    words = ["atlas", str(folder), "--layer", "stage3", "--per-image", "1", "--method", "pca", "--param", name]
    assert main([*words, "--steps", "2", "--quiet", "-o", "page"]) == 0
    (grid, *_) = data(tmp_path / "page" / "index.html")["layers"][0]["grids"]
    file = tmp_path / "page" / "images" / f"{grid['cells'][0]['name']}.png"
    recipe = fv.Recipe.of(file)
    if name == "cppn":
        assert "CPPN" in recipe.param and recipe.transforms == repr(fv.transforms.NEAR)
    else:
        assert "Opacity" in recipe.objectives[0]
        for image in (file, tmp_path / "page" / grid["sprite"]):
            with Image.open(image) as opened:
                assert opened.crop((0, 0, 64, 64)).getextrema()[3][1] < 255  # still half transparent after two steps


@pytest.mark.slow
def test_irrelevant_parts_of_an_icon_become_transparent(motifnet, tmp_path):
    """A moon is a small part of a large icon: the rest is transparent."""
    weights = motifnet.module.head.weight[motifnet.classes.index("moon")].detach()
    objective = fv.objectives.Direction("stage3", weights, 2)
    album = Album(motifnet, Store(tmp_path))
    (name,) = add_icons(album, [objective], ["moon"], param=fv.param.Alpha(), size=96, steps=256, seed=0)
    render_batch(motifnet, album.batches[0], album.store)
    with Image.open(tmp_path / "images" / f"{name}.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape == (96, 96, 4)
    assert np.median(pixels[..., 3]) < 0.3 * 255 < 0.6 * 255 < pixels[..., 3].max()


def test_only_photographs_of_one_predicted_class(motifnet, folder, tmp_path):
    made = fv.atlas(motifnet, folder, "stage3", tmp_path / "a", only_class="moon", steps=STEPS, method="pca")
    taken = [
        i
        for i in range(80)
        if motifnet.classes[
            motifnet.capture(read_photograph(folder / f"{i:02d}.png", size=64)[None], [""]).logits().argmax()
        ]
        == "moon"
    ]
    assert made.facts["stage3"]["activations"] == 4 * len(taken)
    assert "Activation atlas of stage3, motifnet, class moon</title>" in (tmp_path / "a" / "index.html").read_text()


BAD = [
    (["no"], "no folder no; give a folder of images"),
    (["empty"], "no images in empty; it needs files that end in"),
    (["bad"], "none of the 1 images in bad can be read"),
    (["good", "--only-class", "²"], "no class '²'"),
    (["good", "--layer", "stage9"], "no layer 'stage9' in motifnet"),
    (
        ["good", "--layer", "head"],
        "no positions in 'head'; its output is one vector; use a feature map or patch tokens",
    ),
    (["good", "--method", "som"], "method must be one of umap, pca, tsne, got 'som'"),
    (["good", "--only-class", "mooon"], "no class 'mooon'; nearest: 'moon'"),
    (["good", "--per-image", "0"], "per_image must be >= 1, got 0"),
    (
        ["good", "--per-image", "1"],
        "an atlas needs at least 4 activations, got 1; give more photographs or a larger per_image",
    ),
    (
        ["good", "-o", "memory://a"],
        "an atlas needs a local output folder, got memory://a; give a folder of this machine",
    ),
    (
        ["good", "-o", "good/atlas"],
        "good/atlas lies in good, and would be taken for photographs; give an output elsewhere",
    ),
    (["good", "--seed", "-1"], "seed must be in [0, 2**32), got -1"),
    (["good", "--backend", "spark"], "backend must be local or ray, got 'spark'"),
    (["good", "--param", "Image(batch=4)"], "an icon needs a param that makes 1 image, got Image with 4"),
    (["good", "--param", "Stack(('good/a.png',))"], "an icon needs a param that makes 1 image, got Stack with 2"),
]


@pytest.mark.parametrize(("words", "line"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_gives_one_line(words, line, tmp_path, capsys):
    for name in ("empty", "bad", "good"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"\x89PNG no")
    Image.new("RGB", (64, 64), (90, 60, 200)).save(tmp_path / "good" / "a.png")
    words = words if "--layer" in words else [*words, "--layer", "stage3"]
    assert main(["atlas", *words, "--quiet"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"featviz: {line}"), said
    assert "--param" not in words or not (tmp_path / "atlas").exists()


def test_icons_keep_their_aspect_ratio(tmp_path):
    store = Store(tmp_path)
    wide = io.BytesIO()
    Image.new("RGB", (128, 64), (255, 255, 255)).save(wide, "webp")
    store.write("thumbs/a.webp", wide.getvalue())
    assert write_sprites(store, ["a"], "sheet.webp") == 1
    alpha = np.asarray(Image.open(tmp_path / "sheet.webp").convert("RGBA"))[..., 3]
    assert (alpha[:, 36] > 128).sum() == 36 and (alpha[36] > 128).all()


class Scaled(nn.Module):
    """Multiplies the output of a layer by a number."""

    def __init__(self, factor):
        super().__init__()
        self.conv, self.scaled, self.head = nn.Conv2d(3, 4, 3, stride=4), nn.Identity(), nn.Linear(4, 3)
        self.factor = factor

    def forward(self, x):
        return self.head(self.scaled(self.conv(x) * self.factor).mean((2, 3)))


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (0.0, "layer 'scaled' of Scaled is 0 in these photographs; choose an earlier one"),
        (
            float("nan"),
            "layer 'scaled' of Scaled outputs NaN or infinite numbers for these photographs; check its weights, mean "
            "and std, or choose an earlier layer",
        ),
    ],
)
def test_layers_that_are_dead_or_nan_are_named(factor, message, tmp_path):
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    network = fv.Network(Scaled(factor), size=32, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(fv.ModelError) as caught:
        fv.atlas(network, tmp_path, "scaled", tmp_path.parent / f"{tmp_path.name}-out", method="pca")
    assert str(caught.value) == message


def test_equal_activations_lie_at_one_place():
    vectors = np.random.default_rng(0).random((60, 8), np.float32)
    vectors[20:50] = vectors[20]
    plane = lay_out(vectors, "pca", 0)
    assert np.ptp(plane[20:50], axis=0).max() < 1e-5 and len(np.unique(plane.round(4), axis=0)) > 25
    assert np.ptp(lay_out(np.ones((9, 1), np.float32), "pca", 0), axis=0).max() < 1e-5


def test_one_photograph_has_no_purity():
    plane, labels = np.random.default_rng(0).random((8, 2)), np.zeros(8, int)
    assert purity(plane, labels, np.zeros(8, int)) is None
    assert purity(plane, labels, np.arange(8)) == 1
