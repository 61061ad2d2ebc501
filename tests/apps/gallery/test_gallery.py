"""Galleries and sweeps: files are named by recipe, no image is rendered twice or lost, and the pages show them all."""

import errno
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pytest
import torch
import toys
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

import featviz as fv
from featviz.apps.judge.judge import VERDICTS
from featviz.apps.shared.pages.photographs import photographs_of_classes
from featviz.apps.shared.rendering import backends
from featviz.apps.shared.rendering.batch import Batch
from featviz.apps.shared.rendering.stored_images import image_file
from featviz.cli import main
from featviz.io import Store, read_report
from featviz.network import InputSpec

STEPS = 2


def rendered_files(folder):
    return sorted((folder / "images").glob("*.png"))


def data(page):
    """Return the images of every card."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_gallery_names_images_by_recipe_hash(motifnet, tmp_path):
    made = fv.gallery(motifnet, tmp_path, classes=["spiral", "star"], per_class=2, steps=STEPS)
    assert (made.count, dict(made.problems), made.page) == (4, {}, f"{tmp_path}/index.html")
    files = rendered_files(tmp_path)
    assert len(files) == 4
    for file in files:
        assert fv.Recipe.of(file).hash == file.stem
        assert read_report(file)["steps"] == STEPS
    cards = data(tmp_path / "index.html")
    assert [[image["shows"] for image in card] for card in cards] == [["logit:spiral"] * 2, ["logit:star"] * 2]
    assert all((tmp_path / image[key]).is_file() for card in cards for image in card for key in ("file", "thumbnail"))


def test_image_of_gallery_replays_byte_equal(motifnet, tmp_path):
    fv.gallery(motifnet, tmp_path, classes=["spiral", "star", "moon"], steps=STEPS)
    for file in rendered_files(tmp_path):
        assert fv.replay(file, network=motifnet).encoded() == file.read_bytes()


def test_existing_images_are_not_rendered_again(motifnet, tmp_path, monkeypatch):
    rendered = []
    render_batch = backends.render_batch
    monkeypatch.setattr(backends, "render_batch", lambda *args: rendered.extend(args[1].names) or render_batch(*args))
    for classes, more in ((["spiral", "star"], 2), (["spiral", "star"], 0), (["moon", "star", "spiral"], 1)):
        rendered.clear()
        assert fv.gallery(motifnet, tmp_path, classes=classes, steps=STEPS).count == len(classes)
        assert len(rendered) == more
    fv.gallery(motifnet, tmp_path, classes=["spiral", "star", "moon"], steps=STEPS, seed=1)
    assert len(rendered_files(tmp_path)) == 6


def test_probability_pairs_and_diversity(motifnet, tmp_path):
    options = {"steps": STEPS, "size": 64}
    fv.gallery(motifnet, tmp_path / "a", classes=["moon"], probability=True, pairs=[("heart", "eye")], **options)
    moon, path = data(tmp_path / "a" / "index.html")
    assert [image["shows"] for image in moon] == ["logit:moon", "prob:moon"]
    assert [image["note"] for image in path] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    fv.gallery(motifnet, tmp_path / "b", classes=["moon"], per_class=3, diversity="stage2", **options)
    assert [image["note"] for image in data(tmp_path / "b" / "index.html")[0]] == ["1", "2", "3"]
    for file in (*rendered_files(tmp_path / "a"), *rendered_files(tmp_path / "b")):
        assert fv.Recipe.of(file).hash == file.stem


def test_the_folder_of_a_gallery_can_be_judged(motifnet, tmp_path):
    fv.gallery(motifnet, tmp_path, classes=["star", "moon"], steps=STEPS)
    judged = fv.judge(tmp_path, judge=fv.load("motifvit", device="cpu"))
    assert sorted(str(one.unit) for one in judged) == ["logit:moon", "logit:star"]


def test_each_image_is_judged_once(motifnet, tmp_path, monkeypatch):
    judge = fv.load("motifvit", device="cpu")
    fv.gallery(motifnet, tmp_path, classes=["moon"], judge=judge, steps=STEPS)
    verdict = data(tmp_path / "index.html")[0][0]["facts"]["verdict"]
    page = (tmp_path / "index.html").read_text()
    assert f'<span class="verdict">{verdict}</span>' in page and f'data-verdict="{verdict}"' in page
    recognised = verdict in (VERDICTS[True, True], VERDICTS[False, True])
    assert f"1 class of motifnet; motifvit recognises {int(recognised)} of 1 image</p>" in page
    dark = judge.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    fv.gallery(motifnet, tmp_path, classes=["moon"], judge=dark, steps=STEPS)
    assert len(list((tmp_path / "verdicts").iterdir())) == 2
    monkeypatch.setattr(fv, "judge", None)
    for known in (judge, dark):
        fv.gallery(motifnet, tmp_path, classes=["moon"], judge=known, steps=STEPS)
    with pytest.raises(
        fv.SettingError, match="^the judge must not have rendered the images itself, got motifnet for both; "
    ):
        fv.gallery(motifnet, tmp_path, classes=["moon"], judge=fv.load("motifnet", device="cpu"), steps=STEPS)


def test_photographs_named_after_classes_are_shown_next_to_them(motifnet, tmp_path):
    folder = tmp_path / "photographs" / "star"
    folder.mkdir(parents=True)
    image = fv.render(motifnet, "logit:star", steps=0)
    for file in (folder / "a.png", folder.parent / "007_smiley.png", folder.parent / "other.png"):
        image.save(file)
    fv.gallery(motifnet, tmp_path / "g", classes=["star", "smiley", "moon"], photographs=folder.parent, steps=STEPS)
    assert [file.name for file in sorted((tmp_path / "g" / "photographs").iterdir())] == [
        "smiley-0.webp",
        "star-0.webp",
    ]


def test_photographs_of_numeric_class_names_and_unreadable_files(tmp_path):
    for name in ("3/a.png", "00000.png", "4.png", "dot two.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (90, 60, 200)).save(file)
    (tmp_path / "zzz.jpg").write_bytes(b"junk")
    (tmp_path / "3" / "b.png").write_bytes(b"\x89PNG no")
    spec = InputSpec(32, (0.5,) * 3, (0.2,) * 3)
    found = photographs_of_classes(["2", "3", "4", "dot two"], tmp_path, spec)
    assert {name: len(images) for name, images in found.items()} == {"3": 1, "4": 1, "dot two": 1}


def test_results_are_not_written_among_the_photographs(motifnet, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "moon.png")
    for given in ({"photographs": tmp_path}, {"match": tmp_path}):
        with pytest.raises(fv.OutputError, match="and would be taken for photographs; give an output elsewhere$"):
            fv.gallery(motifnet, tmp_path / "page", classes=["moon"], steps=STEPS, **given)
        with pytest.raises(fv.OutputError, match="and would be taken for photographs; give an output elsewhere$"):
            fv.sweep(motifnet, tmp_path / "page", "stage2", channels=[0], steps=STEPS, **given)
    assert [file.name for file in tmp_path.iterdir()] == ["moon.png"]


def test_ctrl_c_while_images_are_scored_stops_a_gallery_and_is_told_by_a_render(motifnet, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    whole = fv.render(motifnet, "logit:moon", steps=STEPS, size=32, progress=None)
    with monkeypatch.context() as patched:
        patched.setattr("featviz.engine.chunks.Chunks.score", interrupt)
        found = fv.render(motifnet, "logit:moon", steps=STEPS, size=32, progress=None)
        assert torch.equal(found.images, whole.images) and found.robustness is None and found.recipe.until == STEPS
        with pytest.raises(KeyboardInterrupt):
            fv.gallery(motifnet, tmp_path / "page", classes=["moon"], steps=STEPS, size=32, progress=None)
    made = fv.gallery(motifnet, tmp_path / "page", classes=["moon"], steps=STEPS, size=32, progress=None)
    (image,) = (Path(made.page).parent / "images").iterdir()
    assert read_report(image)["robustness"] is not None


def test_warns_if_no_photograph_is_named_after_a_class(motifnet, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "a.png")
    with pytest.warns(
        fv.FeatvizWarning, match=r"is named after a class, such as 'moon 1.jpg' or 'moon/1.jpg'; none is shown$"
    ):
        fv.gallery(motifnet, tmp_path / "page", classes=["moon"], photographs=tmp_path / "photos", steps=STEPS)


def test_photographs_for_units_of_a_network_with_four_input_channels(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3))
    net = fv.Network(module, size=32, mean=(0.5,) * 4, std=(0.25,) * 4)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        np.save(folder / f"{i}.npy", np.random.default_rng(i).random((4, 32, 32), np.float32))
    made = fv.sweep(net, tmp_path / "s", "0", channels=[0], photographs=folder, steps=1)
    assert made.count == 1 and len(made.store.names("photographs")) == 2 + 1 + 2  # crops, their mean, whole


def test_corrected_class_names_are_rendered_anew(tmp_path):
    one, other = (toys.plain(classes=names) for names in (("cat", "dog", "c", "d", "e"), ("dog", "cat", "c", "d", "e")))
    assert one.fingerprint == other.fingerprint
    fv.gallery(one, tmp_path, classes=["dog", 2], steps=STEPS)
    fv.gallery(other, tmp_path, classes=["dog", 2], steps=STEPS)
    assert len(rendered_files(tmp_path)) == 3  # another dog, the same c
    recipes = {file: fv.Recipe.of(file) for file in rendered_files(tmp_path)}
    assert all(recipe.hash == file.stem for file, recipe in recipes.items())
    dog = next(file for file, recipe in recipes.items() if recipe.alone.classes == {"dog": 1})
    with pytest.raises(
        fv.RecipeError, match="^class 'dog' had index 1 when the image was rendered and has 0 here; give "
    ):
        fv.replay(dog, network=other)


def test_damaged_images_are_rendered_again(motifnet, tmp_path):
    fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS)
    (file,) = rendered_files(tmp_path)
    (thumbnail,) = (tmp_path / "thumbs").iterdir()
    before = file.read_bytes(), thumbnail.read_bytes()
    for damaged in (file, thumbnail):
        damaged.write_bytes(damaged.read_bytes()[:50])
        assert not fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS).problems
        assert (file.read_bytes(), thumbnail.read_bytes()) == before


def test_a_folder_that_vanishes_during_a_run_is_an_error(motifnet, tmp_path):
    out = tmp_path / "out"

    def vanish(done, count):
        if done == 8:
            shutil.rmtree(out)

    with pytest.raises(fv.OutputError) as caught:
        fv.sweep(motifnet, out, "stage1", channels=range(12), steps=1, size=16, progress=vanish)
    assert str(caught.value) == f"8 images vanished from {out} during the run; was it deleted? run again"


def test_layers_with_similar_names_have_pages_of_their_own(tmp_path):
    class Named(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("a b", "a_b"):
                self.add_module(name, torch.nn.Conv2d(3, 3, 3, padding=1))

        def forward(self, x):
            for module in self.children():
                x = module(x)
            return x.mean((2, 3))

    network = fv.Network(Named(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    pages = fv.sweep(network, tmp_path, ["a b", "a_b"], channels=[0], steps=1).pages
    assert len(set(pages)) == 3 and all((tmp_path / page).is_file() for page in pages)
    assert (tmp_path / pages[1]).read_text() != (tmp_path / pages[2]).read_text()


def test_class_names_are_escaped(tmp_path):
    wild = "<script>alert(1)</script>", 'a & "b" </script>', "it's", "d", "e"
    net = toys.plain(classes=wild)
    fv.gallery(net, tmp_path, classes=[0, 1], steps=STEPS)
    text = (tmp_path / "index.html").read_text()
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert [card[0]["shows"] for card in data(tmp_path / "index.html")] == [
        str(fv.objectives.Logit(name)) for name in wild[:2]
    ]


def test_classes_without_names_and_with_duplicate_names(tmp_path):
    fv.gallery(toys.plain(classes=()), tmp_path / "a", steps=STEPS)
    assert len(data(tmp_path / "a" / "index.html")) == 5
    assert fv.gallery(toys.plain(classes=("crane", "b", "crane", "d", "e")), tmp_path / "b", steps=STEPS).count == 5
    assert "crane (0)" in (tmp_path / "b" / "index.html").read_text()


@pytest.mark.parametrize("url", ["memory://{}/pages", "file://{}/pages"])
def test_any_url_of_fsspec(motifnet, tmp_path, url):
    url = url.format(tmp_path)
    for _ in range(2):
        made = fv.gallery(motifnet, url, classes=["moon"], steps=STEPS)
        assert made.count == 1 and len(made.store.names("images")) == 1
    assert b"<html" in made.store.read("index.html")


def test_sweep_has_one_page_per_layer(motifnet, tmp_path):
    made = fv.sweep(
        motifnet, tmp_path, ["stage1", "logit"], channels=[0, 3], negative=True, diverse_images=2, steps=STEPS
    )
    assert made.pages == ("index.html", "layer-stage1.html", "layer-logit.html")
    cards = data(tmp_path / "layer-stage1.html")
    assert [[image["note"] for image in card] for card in cards] == [["", "negative", "1", "2"]] * 2
    assert cards[1][0]["shows"] == "stage1:3"
    assert made.count == 16
    assert 'href="layer-logit.html"' in (tmp_path / "index.html").read_text()


def test_index_of_a_sweep_links_to_layers_of_earlier_sweeps(motifnet, tmp_path):
    for layer in ("stage3", "stage1"):
        fv.sweep(motifnet, tmp_path, layer, channels=[0], steps=STEPS)
    index = (tmp_path / "index.html").read_text()
    assert index.index('href="layer-stage1.html"') < index.index('href="layer-stage3.html"')
    assert "2 layers of motifnet" in index and "stage3, 1 unit" in index
    fv.sweep(fv.load("motifvit", device="cpu"), tmp_path, "logit", channels=[0], steps=STEPS)
    other = (tmp_path / "index.html").read_text()
    assert "1 layer of motifvit" in other and "layer-stage1.html" not in other


def test_replay_command_of_a_page_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my nets.py").write_text("import featviz as fv\ndef net():\n    return fv.load('motifnet', device='cpu')\n")
    for model, more in (("motifnet", []), ("my nets.py:net", ["--model", "../my nets.py:net"])):
        network = fv.load(model, device="cpu")
        folder = Path(f"of-{len(more)}")
        fv.gallery(network, folder, classes=["moon"], steps=STEPS)
        ((image,),) = data(folder / "index.html")
        monkeypatch.chdir(folder)
        command = shlex.split(image["replay"])
        assert command == ["featviz", "replay", image["file"], *more, "-o", "again.png"]
        assert main([*command[1:], "--quiet", "--device", "cpu"]) == 0
        monkeypatch.chdir(tmp_path)
    fv.gallery(toys.plain(), "own", classes=[1], steps=STEPS)
    assert data(Path("own/index.html"))[0][0]["replay"].endswith(", network=...)")


def test_judge_with_other_classes_is_refused_before_rendering(motifnet, tmp_path):
    other = toys.plain(classes=("a", "b", "c", "d", "e"))
    with pytest.raises(fv.SettingError, match="^the judge must have the same classes, Plain has no class 'moon'; "):
        fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS, judge=other)
    assert not list(tmp_path.rglob("*.*"))


class CachingFileSystem(MemoryFileSystem):
    """Caches listings until `invalidate_cache`, as file systems of object stores do."""

    protocol = "caching"
    listings: ClassVar[dict] = {}

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("caching://", "memory://"))

    def ls(self, path, detail=True, **options):
        if path not in self.listings:
            self.listings[path] = super().ls(path, detail=True)
        return self.listings[path] if detail else [file["name"] for file in self.listings[path]]

    def invalidate_cache(self, path=None):
        self.listings.clear()


def test_files_written_by_others_are_listed():
    fsspec.register_implementation("caching", CachingFileSystem, clobber=True)
    store, other = Store("caching://shared"), Store("memory://shared")
    other.write("images/a.png", b"a")
    assert store.names("images") == {"a.png"}
    other.write("images/b.png", b"b")
    assert store.names("images") == {"a.png", "b.png"}


def test_failing_unit_is_reported_and_the_others_are_rendered(motifnet, tmp_path, monkeypatch):
    render = fv.render

    def broken(network, objective, **settings):
        several = objective if isinstance(objective, list) else [objective]
        if settings["steps"] and fv.objectives.Channel("stage1", 1) in several:
            raise RuntimeError("kernel failure")
        return render(network, objective, **settings)

    monkeypatch.setattr(fv, "render", broken)
    made = fv.sweep(motifnet, tmp_path, "stage1", channels=range(3), steps=STEPS)
    assert (made.count, dict(made.problems)) == (2, {"stage1:1": "kernel failure"})
    assert "kernel failure" in (tmp_path / "layer-stage1.html").read_text()
    monkeypatch.setattr(fv, "render", render)
    assert fv.sweep(motifnet, tmp_path, "stage1", channels=range(3), steps=STEPS).count == 3


def test_pages_are_written_when_a_sweep_is_interrupted_before_its_first_image(motifnet, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("featviz.apps.shared.rendering.backends.render_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fv.sweep(motifnet, tmp_path, "stage1", channels=[0, 1], size=32, steps=STEPS)
    assert "not rendered yet" in (tmp_path / "index.html").read_text()
    assert "not rendered yet" in (tmp_path / "layer-stage1.html").read_text()


def test_a_folder_keeps_its_precision(motifnet, tmp_path, monkeypatch):
    """Another machine, or another measurement, may find another precision faster."""
    monkeypatch.setattr("featviz.engine.autotune.MIN_PASSES", 1)
    for i, choice in enumerate([True, False]):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{i}"))
        monkeypatch.setattr("featviz.engine.autotune._is_faster", lambda *_, choice=choice: choice)
        monkeypatch.setattr("featviz.engine.autotune.has_quick_bfloat16", lambda _: True)
        for channels in ([0, 1], [1, 2]):
            assert fv.sweep(motifnet, tmp_path / "out", "stage1", channels=channels, size=64, steps=2).count == 2
    fv.sweep(motifnet, tmp_path / "other", "stage1", channels=[0], size=64, steps=2)
    found = {fv.Recipe.of(file).execution for file in rendered_files(tmp_path / "out")}
    assert found == {"Execution(precision='bfloat16')"} and len(rendered_files(tmp_path / "out")) == 3
    (other,) = rendered_files(tmp_path / "other")
    assert fv.Recipe.of(other).execution == "Execution(precision='float32')"
    assert not (tmp_path / "out" / "images" / other.name).exists()  # the name tells the precision
    (tmp_path / "out" / "precision.json").write_text("[damaged")
    assert fv.sweep(motifnet, tmp_path / "out", "stage1", channels=[0], size=64, steps=2).count == 1
    assert len(rendered_files(tmp_path / "out")) == 4


def test_dead_unit_is_reported(tmp_path, monkeypatch):
    net = toys.plain()
    problem = "no gradient reaches the image"
    rendering = fv.render(net, ["conv2:0", "conv2:1"], seed=[0, 0], steps=1)
    object.__setattr__(rendering, "problems", {1: problem})
    batch = Batch.of(net, [fv.objectives.Channel("conv2", k) for k in range(2)], [0, 0], Store(tmp_path), steps=1)
    monkeypatch.setattr(fv, "render", lambda *_, **__: rendering)
    outcomes = backends.render_batch(net, batch, Store(tmp_path))
    assert [outcome.problem for outcome in outcomes] == ["", problem]
    assert [file.stem for file in rendered_files(tmp_path)] == [batch.names[0]]


def test_full_disk_is_reported(motifnet, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(fv.OutputError, match=r"cannot write .*: No space left on device"):
        fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS)
    assert not rendered_files(tmp_path)


@pytest.mark.slow
def test_nothing_is_lost_when_the_process_is_killed_at_any_moment(motifnet, tmp_path):
    command = [sys.executable, "-c", "import sys; from featviz.cli import main; sys.exit(main(sys.argv[1:]))"]
    command += ["sweep", "--layer", "stage1", "--channels", "0-23", "--steps", "6", "--size", "64", "-o", str(tmp_path)]
    counts = []
    for _ in range(4):
        process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, until = len(rendered_files(tmp_path)), time.monotonic() + 60
        while len(rendered_files(tmp_path)) < before + 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(len(rendered_files(tmp_path)))
        for file in rendered_files(tmp_path):
            assert fv.Recipe.of(file).hash == file.stem
    there = {file: file.stat().st_mtime_ns for file in rendered_files(tmp_path)}
    assert fv.sweep(motifnet, tmp_path, "stage1", channels=range(24), size=64, steps=6).count == 24
    assert counts[0] >= 3 and len(rendered_files(tmp_path)) == 24
    assert all(file.stat().st_mtime_ns == when for file, when in there.items())
    assert len(data(tmp_path / "layer-stage1.html")) == 24


def test_ctrl_c_leaves_a_page_of_the_rendered_images(motifnet, tmp_path):
    def stop(done, count):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fv.sweep(motifnet, tmp_path, "stage1", channels=range(12), steps=STEPS, progress=stop)
    cards = data(tmp_path / "layer-stage1.html")
    assert [len(card) for card in cards] == [1] * 8 + [0] * 4
    assert "not rendered yet" in (tmp_path / "layer-stage1.html").read_text()


def test_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--steps", "2", "--quiet"]
    assert main(["gallery", "--classes", "moon, 3", "--pair", "heart:eye", *quick]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/gallery/index.html\n"
    assert main(["sweep", "--layer", "stage1", "--channels", "0-1,4", "-o", "units", *quick]) == 0
    assert len(rendered_files(tmp_path / "gallery")) == 7 and len(rendered_files(tmp_path / "units")) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["gallery", "--classes", "moom"], "no class 'moom'; nearest: 'moon'"),
        (["gallery", "--classes", "99"], "no class 99; the network has 27, 0 to 26"),
        (["gallery", "--pair", "heart"], "cannot read the pair 'heart'; give two classes as ONE:OTHER"),
        (["gallery", "--pair", "heart:heart"], "a pair must have two different classes, got 'heart' and 'heart'"),
        (["gallery", "--steps", "-1"], "steps must be >= 0, got -1 (default 512; 0 returns the start)"),
        (
            ["sweep", "--layer", "logit", "--neurons"],
            "layer 'logit' has no positions and so no neurons; leave out neurons or the layer",
        ),
        (["sweep", "--layer", "stage1", "--channels", "²"], "cannot read the channels '²'; give numbers as 0-15,40"),
        (["gallery", "--per-class", "0"], "per_class must be in [1, 1000], got 0 (default 1)"),
        (["gallery", "--per-class", "9" * 12], "per_class must be in [1, 1000], got 999999999999 (default 1)"),
        (
            ["sweep", "--layer", "head", "--neurons"],
            "layer 'head' has no positions and so no neurons; leave out neurons or the layer",
        ),
        (
            ["sweep", "--layer", "stage1", "--channels", "5-2"],
            "cannot read the channels '5-2'; give the smaller number",
        ),
        (["gallery", "--diversity", "stage2"], "diversity needs per_class >= 2, got 1"),
        (["gallery", "--photographs", "no"], "no folder no; give a folder of images"),
        (["sweep", "--layer", "stage9"], "no layer 'stage9' in motifnet"),
        (["sweep", "--layer", "stage1", "--channels", "0-99"], "no channel 32 in 'stage1'; it has 32, 0 to 31"),
        (["sweep", "--layer", "stage1", "--channels", "a"], "cannot read the channels 'a'; give numbers as 0-15,40"),
        (
            ["sweep", "--layer", "stage1", "--diverse-images", "1"],
            "diverse_images must be 0 or in [2, 1000], got 1 (default 0)",
        ),
        (["gallery", "-o", "nowhere://x"], "cannot write to nowhere://x: "),
    ],
)
def test_bad_input_gives_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--quiet"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"featviz: {line}")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("fails", [False, True])
def test_files_are_written_while_the_next_batch_renders(motifnet, tmp_path, monkeypatch, fails):
    """On a GPU. The outcome of an image comes when its files are there, and errors of writing surface."""
    store, rendered = Store(tmp_path), []
    settings = {"steps": 1, "param": fv.param.Image(16)}
    objectives = [fv.objectives.Channel("stage1", i) for i in range(20)]
    batch = Batch.of(motifnet, objectives, range(20), store, **settings)
    render_batch = backends.render_batch
    monkeypatch.setattr(backends, "render_batch", lambda *args: rendered.append(len(args[1])) or render_batch(*args))
    if fails:
        monkeypatch.setattr(store, "write", lambda *_: (_ for _ in ()).throw(fv.OutputError("the disk is full")))
        with pytest.raises(fv.OutputError, match="the disk is full"):
            list(backends.run_overlapped(motifnet, batch.without(set()), store))
        return
    seen = []
    for outcome in backends.run_overlapped(motifnet, batch.without(set()), store):
        assert (tmp_path / image_file(outcome.name)).exists() and not outcome.problem
        seen.append((outcome.name, sum(rendered)))
    assert [name for name, _ in seen] == list(batch.names)
    assert [count for _, count in seen] == [16] * 8 + [20] * 12  # each batch is yielded after the next has rendered


def test_runs_about_other_units_in_one_folder_share_its_pages(net, tmp_path):
    """As the jobs of an array do. Each keeps the cards of the others, in the order of the channels."""

    def names(page):
        return re.findall('data-name="([^"]*)"', page)

    given = {"size": 16, "steps": 1, "progress": None}
    for channels in ([4, 2], [0], [2, 3]):
        swept = fv.sweep(net, tmp_path / "sweep", "conv2", channels=channels, **given)
    titles = names((tmp_path / "sweep" / swept.pages[1]).read_text())
    assert titles == ["conv2:0", "conv2:2", "conv2:3", "conv2:4"]
    fv.gallery(net, tmp_path / "classes", classes=["cat"], **given)
    fv.gallery(net, tmp_path / "classes", classes=["ant", "bee"], per_class=2, **given)
    page = (tmp_path / "classes" / "index.html").read_text()
    assert names(page) == ["ant", "bee", "cat"]
    assert "3 classes of" in page
    (note, *_) = (tmp_path / "classes" / "cards").glob("*.json")
    note.write_text("[1]")  # damaged: ignored
    fv.gallery(net, tmp_path / "classes", classes=["dog"], **given)
    other = toys.network(toys.Plain(), classes=("ant", "bee", "cat", "dog", "elk"))
    other.module.conv1.weight.data += 1
    fv.gallery(other, tmp_path / "classes", classes=["elk"], **given)
    assert names((tmp_path / "classes" / "index.html").read_text()) == ["elk"]


def test_cards_of_a_layer_with_a_longer_name_and_damaged_ones_stay_away(tmp_path):
    def names(page):
        return re.findall('data-name="([^"]*)"', (tmp_path / page).read_text())

    layers = {"block": torch.nn.Conv2d(3, 4, 3), "block-1": torch.nn.Conv2d(4, 4, 3)}
    module = torch.nn.Sequential()
    for name, layer in layers.items():
        module.add_module(name, layer)
    net = fv.Network(module.eval(), size=16, mean=(0.5,) * 3, std=(0.5,) * 3)
    given = {"size": 16, "steps": 1, "progress": None}
    fv.sweep(net, tmp_path, "block-1", channels=[2], **given)
    fv.sweep(net, tmp_path, "block", channels=[0], **given)
    assert names("layer-block.html") == ["block:0"] and names("layer-block-1.html") == ["block-1:2"]
    for image in (tmp_path / "images").iterdir():
        image.write_bytes(b"damaged")
    fv.sweep(net, tmp_path, "block", channels=[1], **given)
    assert names("layer-block.html") == ["block:1"]


def test_cards_of_other_class_names_or_another_input_are_left_out(tmp_path):
    def names(page):
        return re.findall('data-name="([^"]*)"', (tmp_path / page).read_text())

    given, net = {"size": 16, "steps": 1, "progress": None}, toys.plain()
    fv.gallery(net.with_classes(["a", "b", "c", "d", "e"]), tmp_path, classes=["a", "b", "e"], **given)
    fv.gallery(net.with_classes(["ant", "bee", "cat", "dog", "elk"]), tmp_path, classes=["ant", "bee"], **given)
    assert names("index.html") == ["ant", "bee", "e"]
    fv.gallery(net.with_input(mean=(0.1, 0.1, 0.1)), tmp_path, classes=["cat"], **given)
    assert names("index.html") == ["cat"]
    fv.sweep(net, tmp_path / "sweep", "conv2", channels=[0, 1], **given)
    fv.sweep(net.with_input(std=(0.1, 0.1, 0.1)), tmp_path / "sweep", "conv2", channels=[2], **given)
    assert names("sweep/layer-conv2.html") == ["conv2:2"]
