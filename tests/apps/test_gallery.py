"""Galleries and sweeps: every picture named by its recipe, none drawn twice, none lost, and pages that hold them."""

import errno
import json
import re
import shlex
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
from featviz.apps.shared import batches
from featviz.apps.shared.photographs import of_classes
from featviz.cli import main
from featviz.io import Store, read_report

STEPS = 2


def pictures(folder):
    return sorted((folder / "pictures").glob("*.png"))


def data(page):
    """Return the shots of every card."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(found[1])


def test_a_gallery_names_pictures_by_their_recipes(motifnet, tmp_path):
    made = fv.gallery(motifnet, tmp_path, classes=["spiral", "star"], each=2, steps=STEPS)
    assert (made.count, dict(made.problems), made.page) == (4, {}, f"{tmp_path}/index.html")
    files = pictures(tmp_path)
    assert len(files) == 4
    for file in files:
        assert fv.Recipe.of(file).hash == file.stem
        assert read_report(file)["steps"] == STEPS
    cards = data(tmp_path / "index.html")
    assert [[shot["shows"] for shot in card] for card in cards] == [["logit:spiral"] * 2, ["logit:star"] * 2]
    assert all((tmp_path / shot[key]).is_file() for card in cards for shot in card for key in ("file", "thumb"))


def test_a_picture_of_a_gallery_is_drawn_again_to_the_byte(motifnet, tmp_path):
    fv.gallery(motifnet, tmp_path, classes=["spiral", "star", "moon"], steps=STEPS)
    for file in pictures(tmp_path):
        assert fv.replay(file, network=motifnet).encoded() == file.read_bytes()


def test_what_is_there_is_not_drawn_again(motifnet, tmp_path, monkeypatch):
    drawn = []
    draw = batches.draw
    monkeypatch.setattr(batches, "draw", lambda *given: drawn.extend(given[1].names) or draw(*given))
    for classes, more in ((["spiral", "star"], 2), (["spiral", "star"], 0), (["moon", "star", "spiral"], 1)):
        drawn.clear()
        assert fv.gallery(motifnet, tmp_path, classes=classes, steps=STEPS).count == len(classes)
        assert len(drawn) == more
    fv.gallery(motifnet, tmp_path, classes=["spiral", "star", "moon"], steps=STEPS, seed=1)
    assert len(pictures(tmp_path)) == 6


def test_probabilities_pairs_and_diversity(motifnet, tmp_path):
    options = {"steps": STEPS, "size": 64}
    fv.gallery(motifnet, tmp_path / "a", classes=["moon"], probability=True, pairs=[("heart", "eye")], **options)
    moon, path = data(tmp_path / "a" / "index.html")
    assert [shot["shows"] for shot in moon] == ["logit:moon", "prob:moon"]
    assert [shot["note"] for shot in path] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    fv.gallery(motifnet, tmp_path / "b", classes=["moon"], each=3, diverse="stage2", **options)
    assert [shot["note"] for shot in data(tmp_path / "b" / "index.html")[0]] == ["1", "2", "3"]
    for file in (*pictures(tmp_path / "a"), *pictures(tmp_path / "b")):
        assert fv.Recipe.of(file).hash == file.stem


def test_the_judge_is_asked_once(motifnet, tmp_path, monkeypatch):
    judge = fv.load("motifvit", device="cpu")
    fv.gallery(motifnet, tmp_path, classes=["moon"], judge=judge, steps=STEPS)
    told = data(tmp_path / "index.html")[0][0]["facts"]["verdict"]
    page = (tmp_path / "index.html").read_text()
    assert f'<span class="told">{told}</span>' in page and f'data-verdict="{told}"' in page
    assert f"; motifvit sees {int(told in ('seen by both', 'only by the judge'))} of 1 picture</p>" in page
    dark = judge.with_input(mean=(0.0,) * 3, std=(1.0,) * 3)
    fv.gallery(motifnet, tmp_path, classes=["moon"], judge=dark, steps=STEPS)
    assert len(list((tmp_path / "verdicts").iterdir())) == 2
    monkeypatch.setattr(fv, "judge", None)
    for known in (judge, dark):
        fv.gallery(motifnet, tmp_path, classes=["moon"], judge=known, steps=STEPS)
    with pytest.raises(fv.SettingError, match="^motifnet would judge its own pictures"):
        fv.gallery(motifnet, tmp_path, classes=["moon"], judge=fv.load("motifnet", device="cpu"), steps=STEPS)


def test_photographs_of_a_class_stand_beside_it(motifnet, tmp_path):
    folder = tmp_path / "photographs" / "star"
    folder.mkdir(parents=True)
    image = fv.render(motifnet, "logit:star", steps=0)
    for file in (folder / "a.png", folder.parent / "007_smiley.png", folder.parent / "other.png"):
        image.save(file)
    fv.gallery(motifnet, tmp_path / "g", classes=["star", "smiley", "moon"], photographs=folder.parent, steps=STEPS)
    assert [file.name for file in sorted((tmp_path / "g" / "photographs").iterdir())] == ["0-0.webp", "1-0.webp"]


def test_photographs_of_classes_called_by_numbers_and_files_that_cannot_be_read(tmp_path):
    for name in ("3/a.png", "00000.png", "4.png", "dot two.png"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (90, 60, 200)).save(file)
    (tmp_path / "zzz.jpg").write_bytes(b"junk")
    (tmp_path / "3" / "b.png").write_bytes(b"\x89PNG no")
    found = of_classes(["2", "3", "4", "dot two"], tmp_path)
    assert {name: len(images) for name, images in found.items()} == {"3": 1, "4": 1, "dot two": 1}


def test_that_no_photograph_is_of_a_class_is_told(motifnet, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    with pytest.warns(
        fv.FeatvizWarning, match=r"called like a class, as 'moon 1.jpg' or 'moon/1.jpg'; none are shown$"
    ):
        fv.gallery(motifnet, tmp_path / "page", classes=["moon"], photographs=tmp_path, steps=STEPS)


def test_photographs_beside_units_of_a_network_of_four_channels(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(4, 6, 3))
    net = fv.Network(module, size=32, mean=(0.5,) * 4, std=(0.25,) * 4)
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(2):
        np.save(folder / f"{i}.npy", np.random.default_rng(i).random((4, 32, 32), np.float32))
    made = fv.sweep(net, tmp_path / "s", "0", channels=[0], photographs=folder, steps=1)
    assert made.count == 1 and len(made.store.names("photographs")) == 3


def test_class_names_that_were_corrected_are_drawn_anew(tmp_path):
    one, other = (toys.plain(classes=names) for names in (("cat", "dog", "c", "d", "e"), ("dog", "cat", "c", "d", "e")))
    assert one.fingerprint == other.fingerprint
    fv.gallery(one, tmp_path, classes=["dog", 2], steps=STEPS)
    fv.gallery(other, tmp_path, classes=["dog", 2], steps=STEPS)
    assert len(pictures(tmp_path)) == 3  # another dog, the same c
    recipes = {file: fv.Recipe.of(file) for file in pictures(tmp_path)}
    assert all(recipe.hash == file.stem for file, recipe in recipes.items())
    dog = next(file for file, recipe in recipes.items() if recipe.alone.classes == {"dog": 1})
    with pytest.raises(fv.RecipeError, match="^the picture shows class 'dog', which was number 1 and is 0 here; give"):
        fv.replay(dog, network=other)


def test_a_picture_that_is_broken_is_named(motifnet, tmp_path):
    fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS)
    (file,) = pictures(tmp_path)
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(fv.OutputError) as caught:
        fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS)
    assert str(caught.value) == f"{file} is broken; delete it, and it is drawn again"


def test_names_are_escaped(tmp_path):
    wild = "<script>alert(1)</script>", 'a & "b" </script>', "it's", "d", "e"
    net = toys.plain(classes=wild)
    fv.gallery(net, tmp_path, classes=[0, 1], steps=STEPS)
    text = (tmp_path / "index.html").read_text()
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert [card[0]["shows"] for card in data(tmp_path / "index.html")] == [
        str(fv.objectives.Logit(name)) for name in wild[:2]
    ]


def test_classes_without_names_and_with_the_same(tmp_path):
    fv.gallery(toys.plain(classes=()), tmp_path / "a", steps=STEPS)
    assert len(data(tmp_path / "a" / "index.html")) == 5
    assert fv.gallery(toys.plain(classes=("crane", "b", "crane", "d", "e")), tmp_path / "b", steps=STEPS).count == 5
    assert "crane (0)" in (tmp_path / "b" / "index.html").read_text()


@pytest.mark.parametrize("url", ["memory://{}/pages", "file://{}/pages"])
def test_any_place_that_fsspec_knows(motifnet, tmp_path, url):
    url = url.format(tmp_path)
    for _ in range(2):
        made = fv.gallery(motifnet, url, classes=["moon"], steps=STEPS)
        assert made.count == 1 and len(made.store.names("pictures")) == 1
    assert b"<html" in made.store.read("index.html")


def test_a_sweep_has_a_page_for_each_layer(motifnet, tmp_path):
    made = fv.sweep(motifnet, tmp_path, ["stage1", "logit"], channels=[0, 3], negative=True, diverse=2, steps=STEPS)
    assert made.pages == ("index.html", "layer-stage1.html", "layer-logit.html")
    shots = data(tmp_path / "layer-stage1.html")
    assert [[shot["note"] for shot in card] for card in shots] == [["", "negative", "1", "2"]] * 2
    assert shots[1][0]["shows"] == "stage1:3"
    assert made.count == 16
    assert 'href="layer-logit.html"' in (tmp_path / "index.html").read_text()


def test_a_sweep_leads_to_the_layers_of_earlier_ones_too(motifnet, tmp_path):
    for layer in ("stage3", "stage1"):
        fv.sweep(motifnet, tmp_path, layer, channels=[0], steps=STEPS)
    index = (tmp_path / "index.html").read_text()
    assert index.index('href="layer-stage1.html"') < index.index('href="layer-stage3.html"')
    assert "2 layers of motifnet" in index and "stage3, 1 unit" in index
    fv.sweep(fv.load("motifvit", device="cpu"), tmp_path, "logit", channels=[0], steps=STEPS)
    other = (tmp_path / "index.html").read_text()
    assert "1 layer of motifvit" in other and "layer-stage1.html" not in other


def test_a_page_tells_how_to_draw_a_picture_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my nets.py").write_text("import featviz as fv\ndef net():\n    return fv.load('motifnet', device='cpu')\n")
    for model, more in (("motifnet", []), ("my nets.py:net", ["--model", "../my nets.py:net"])):
        network = fv.load(model, device="cpu")
        folder = Path(f"of-{len(more)}")
        fv.gallery(network, folder, classes=["moon"], steps=STEPS)
        (((one,),)) = data(folder / "index.html")
        monkeypatch.chdir(folder)
        command = shlex.split(one["again"])
        assert command == ["featviz", "replay", one["file"], *more, "-o", "again.png"]
        assert main([*command[1:], "--quiet", "--device", "cpu"]) == 0
        monkeypatch.chdir(tmp_path)
    fv.gallery(toys.plain(), "own", classes=[1], steps=STEPS)
    assert data(Path("own/index.html"))[0][0]["again"].endswith(", network=...)")


def test_a_judge_of_other_classes_is_told_before_anything_is_drawn(motifnet, tmp_path):
    other = toys.plain(classes=("a", "b", "c", "d", "e"))
    with pytest.raises(fv.SettingError, match="knows no class 'moon'; judge by a network of the same classes$"):
        fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS, judge=other)
    assert not list(tmp_path.rglob("*.*"))


class Remembering(MemoryFileSystem):
    """Keeps listings until it is told not to, as those of object stores do."""

    protocol = "remembering"
    seen: ClassVar[dict] = {}

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("remembering://", "memory://"))

    def ls(self, path, detail=True, **options):
        if path not in self.seen:
            self.seen[path] = super().ls(path, detail=True)
        return self.seen[path] if detail else [file["name"] for file in self.seen[path]]

    def invalidate_cache(self, path=None):
        self.seen.clear()


def test_what_others_wrote_since_is_seen():
    fsspec.register_implementation("remembering", Remembering, clobber=True)
    store, other = Store("remembering://shared"), Store("memory://shared")
    other.write("pictures/a.png", b"a")
    assert store.names("pictures") == {"a.png"}
    other.write("pictures/b.png", b"b")
    assert store.names("pictures") == {"a.png", "b.png"}


def test_a_unit_that_fails_is_told_and_the_rest_goes_on(motifnet, tmp_path, monkeypatch):
    render = fv.render

    def broken(network, goal, **settings):
        several = goal if isinstance(goal, list) else [goal]
        if settings["steps"] and fv.objectives.Channel("stage1", 1) in several:
            raise RuntimeError("the kernel is out of luck")
        return render(network, goal, **settings)

    monkeypatch.setattr(fv, "render", broken)
    made = fv.sweep(motifnet, tmp_path, "stage1", channels=range(3), steps=STEPS)
    assert (made.count, dict(made.problems)) == (2, {"stage1:1": "the kernel is out of luck"})
    assert "the kernel is out of luck" in (tmp_path / "layer-stage1.html").read_text()
    monkeypatch.setattr(fv, "render", render)
    assert fv.sweep(motifnet, tmp_path, "stage1", channels=range(3), steps=STEPS).count == 3


def test_a_dead_unit_is_told(tmp_path, monkeypatch):
    net = toys.plain()
    problem = "no gradient reaches the picture"
    rendering = fv.render(net, ["conv2:0", "conv2:1"], seed=[0, 0], steps=1)
    object.__setattr__(rendering, "problems", {1: problem})
    outcomes = []
    batch = batches.Batch.of(net, fv_goals("conv2", 2), [0, 0], steps=1)
    monkeypatch.setattr(fv, "render", lambda *_, **__: rendering)
    outcomes = batches.draw(net, batch, Store(tmp_path))
    assert [outcome.problem for outcome in outcomes] == ["", problem]
    assert [file.stem for file in pictures(tmp_path)] == [batch.names[0]]


def fv_goals(layer, count):
    return [fv.objectives.Channel(layer, channel) for channel in range(count)]


def test_a_full_disk_says_so(motifnet, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(fv.OutputError, match=r"cannot write .*: No space left on device"):
        fv.gallery(motifnet, tmp_path, classes=["moon"], steps=STEPS)
    assert not pictures(tmp_path)


@pytest.mark.slow
def test_nothing_is_lost_when_it_is_killed_at_any_moment(motifnet, tmp_path):
    command = [sys.executable, "-c", "import sys; from featviz.cli import main; sys.exit(main(sys.argv[1:]))"]
    command += ["sweep", "--layer", "stage1", "--channels", "0-23", "--steps", "6", "--size", "64", "-o", str(tmp_path)]
    counts = []
    for _ in range(4):
        process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, until = len(pictures(tmp_path)), time.monotonic() + 60
        while len(pictures(tmp_path)) < before + 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(len(pictures(tmp_path)))
        for file in pictures(tmp_path):
            assert fv.Recipe.of(file).hash == file.stem
    there = {file: file.stat().st_mtime_ns for file in pictures(tmp_path)}
    assert fv.sweep(motifnet, tmp_path, "stage1", channels=range(24), size=64, steps=6).count == 24
    assert counts[0] >= 3 and len(pictures(tmp_path)) == 24
    assert all(file.stat().st_mtime_ns == when for file, when in there.items())
    assert len(data(tmp_path / "layer-stage1.html")) == 24


def test_ctrl_c_leaves_a_page_of_what_there_is(motifnet, tmp_path):
    def stop(done, count):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fv.sweep(motifnet, tmp_path, "stage1", channels=range(12), steps=STEPS, progress=stop)
    shots = data(tmp_path / "layer-stage1.html")
    assert [len(card) for card in shots] == [1] * 8 + [0] * 4
    assert "not drawn yet" in (tmp_path / "layer-stage1.html").read_text()


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    quick = ["--steps", "2", "--quiet"]
    assert main(["gallery", "--classes", "moon, 3", "--pair", "heart:eye", *quick]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/gallery/index.html\n"
    assert main(["sweep", "--layer", "stage1", "--channels", "0-1,4", "-o", "units", *quick]) == 0
    assert len(pictures(tmp_path / "gallery")) == 7 and len(pictures(tmp_path / "units")) == 3


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["gallery", "--classes", "moom"], "no class 'moom'; nearest: 'moon'"),
        (["gallery", "--classes", "99"], "no class 99; the network has 27, 0 to 26"),
        (["gallery", "--pair", "heart"], "cannot read the pair 'heart'; give two classes as ONE:OTHER"),
        (["gallery", "--pair", "heart:heart"], "a pair is of two classes; give another than the same again"),
        (["gallery", "--steps", "-1"], "steps -1 is below 0; give 0 for the start alone, 512 is usual"),
        (["sweep", "--layer", "logit", "--neurons"], "a logit has no neurons; leave neurons out, or the logits"),
        (["sweep", "--layer", "stage1", "--channels", "²"], "cannot read the channels '²'; give numbers as 0-15,40"),
        (["gallery", "--each", "0"], "0 pictures of a class are none; give more"),
        (["sweep", "--layer", "head", "--neurons"], "head has no places, so it has no neurons; leave neurons out"),
        (
            ["sweep", "--layer", "stage1", "--channels", "5-2"],
            "cannot read the channels '5-2'; give the smaller number",
        ),
        (["gallery", "--diverse", "stage2"], "1 picture of a class cannot differ; give more"),
        (["gallery", "--photographs", "no"], "no folder no"),
        (["sweep", "--layer", "stage9"], "no layer 'stage9' in motifnet"),
        (["sweep", "--layer", "stage1", "--channels", "0-99"], "no channel 32 in 'stage1'; it has 32, 0 to 31"),
        (["sweep", "--layer", "stage1", "--channels", "a"], "cannot read the channels 'a'; give numbers as 0-15,40"),
        (["sweep", "--layer", "stage1", "--diverse", "1"], "1 diverse pictures cannot differ; give 2 or more"),
        (["gallery", "-o", "nowhere://x"], "cannot write to nowhere://x: "),
    ],
)
def test_bad_input_is_one_line(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--quiet"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"featviz: {line}")
    assert not list(tmp_path.rglob("*.*"))
