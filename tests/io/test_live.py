"""Images that form in a notebook: their updates, how often they come, and what is left of them."""

import base64
import re
import sys
from io import BytesIO

import input_toys
import nbclient
import nbformat
import numpy as np
import pytest
import torch
import toys
from PIL import Image

import featviz as fv
from featviz.io import LiveImages, default_progress, named_progress
from featviz.io.live import MAX_IMAGES, MAX_SIDE, in_notebook

PICTURE = re.compile(
    r'<img src="data:image/jpeg;base64,([^"]+)" alt="images so far" style="max-width: 100%"><div>(.*)</div>'
)


class Output:
    """The output of a notebook cell: every state of it."""

    def __init__(self):
        self.states = []

    def display(self, data, *, raw, display_id):
        assert raw and display_id is True and not self.states
        self.states.append(data)
        return self

    def update(self, data, *, raw):
        assert raw and self.states
        self.states.append(data)

    @property
    def pictures(self):
        """The images and texts that were shown."""
        found = [PICTURE.fullmatch(data["text/html"]).groups() for data in self.states if "text/html" in data]
        return [(np.asarray(Image.open(BytesIO(base64.b64decode(data)))), text) for data, text in found]


@pytest.fixture
def output(monkeypatch):
    found = Output()
    monkeypatch.setattr("IPython.display.display", found.display)
    monkeypatch.setattr("featviz.io.progress.in_notebook", lambda: True)
    return found


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def shown(output, images, done=5, steps=10):
    live = LiveImages("render", Clock())
    live(done, steps)
    live.show(done, steps, images)
    return output.pictures[-1]


def test_one_image_is_shown_as_it_is(output):
    image = torch.linspace(0, 1, 64).expand(1, 3, 48, 64)
    pixels, text = shown(output, image)
    assert pixels.shape == (48, 64, 3) and text == "render: 50% in 0.0 s"
    assert np.abs(pixels / 255 - image[0].permute(1, 2, 0).numpy()).max() < 0.03
    assert output.states[0]["text/plain"] == "render: 50% in 0.0 s"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 3, 2000, 1000), (960, 480)),
        ((1, 1, 32, 32), (32, 32)),
        ((1, 4, 32, 32), (32, 32)),
        ((1, 5, 32, 32), (32, 160)),
        ((1, 5, 32, 640), (10, 960)),
        ((3, 3, 32, 40), (48, 152)),
        ((1, 3, 1, 3000), (1, 960)),
    ],
)
def test_sheets_have_a_limited_size(shape, size, output):
    assert shown(output, torch.rand(shape))[0].shape[:2] == size


def test_many_large_images_become_a_small_sheet(output):
    pixels, text = shown(output, torch.rand(MAX_IMAGES + 6, 3, 300, 200))
    assert MAX_SIDE * 0.9 < max(pixels.shape) < MAX_SIDE * 1.2
    assert text == "render: 50% in 0.0 s; 6 more images are not shown"


def test_alpha_is_shown_over_a_checkerboard(output):
    image = torch.ones(1, 4, 32, 32)
    image[:, 3, :, 16:] = 0
    pixels, _ = shown(output, image)
    assert pixels[:, :15].min() > 245 and pixels[:, 17:].std() > 10


def test_updates_are_rare_and_rarer_where_they_are_slow(output):
    clock = Clock()
    live = LiveImages("render", clock)
    times = []
    for step in range(400):  # a step takes 50 ms
        clock.now += 0.05
        live(step + 1, 400)
        if live.wants_images(step + 1, 400):
            times.append(clock.now - 100)
            began = clock.now
            live.show(step + 1, 400, torch.rand(1, 3, 8, 8))
            clock.now = began
    assert times[0] == pytest.approx(0.05)  # at once
    assert np.diff(times) == pytest.approx([0.35] * (len(times) - 1))
    slow = LiveImages("render", clock)

    def publish(data):
        clock.now += 0.2

    slow._publish = publish
    slow.show(1, 2, torch.rand(1, 3, 8, 8))
    clock.now += 19.9
    assert not slow.wants_images(1, 2)  # 0.2 s is 1 % of 20 s
    clock.now += 0.2
    assert slow.wants_images(1, 2)


def test_a_line_is_left(output):
    live = LiveImages("render", Clock())
    live.close()
    assert not output.states  # nothing was shown
    live(10, 10)
    live.show(10, 10, torch.rand(1, 3, 8, 8))
    live.close()
    assert output.states[-1] == {"text/plain": "render: 100% in 0.0 s"}


LIVE = [{"progress": "live"}, {}]
"""The default is the same in a notebook."""


@pytest.mark.parametrize("options", LIVE, ids=str)
def test_render_shows_its_images_and_leaves_a_line(options, output):
    expected = fv.render(toys.plain(), ["conv2:1", "logit:1"], steps=3, progress=None)
    found = fv.render(toys.plain(), ["conv2:1", "logit:1"], steps=3, **options)
    assert torch.equal(found.images, expected.images)
    assert output.pictures[0][0].shape == (48, 88, 3)  # the contact sheet without labels
    assert output.pictures[0][1].startswith("render: 33% in ")
    assert re.fullmatch(r"render: 100% in \d+\.\d s", output.states[-1]["text/plain"])
    assert "text/html" not in output.states[-1]


def test_an_inner_render_shows_nothing(output, tmp_path):
    fv.sweep(toys.plain(), tmp_path, "conv2", channels=[0, 1], steps=1, size=16)
    assert not output.states


class _Fails(fv.objectives.Objective):
    """Raises an error once something is shown."""

    def __init__(self, output):
        self.output = output

    layers = frozenset()

    def __call__(self, acts):
        if self.output.states:
            raise ZeroDivisionError
        return acts.images.mean((1, 2, 3))


def test_an_error_leaves_a_line(output):
    with pytest.raises(ZeroDivisionError):
        fv.render(toys.plain(), _Fails(output), steps=5)
    assert output.states[-1].keys() == {"text/plain"}


def test_dream_and_replay_show_their_images(output, tmp_path):
    image = torch.rand(3, 96, 64)
    options = {"octaves": 2, "steps": 2, "keep_color": True}
    expected = fv.dream(toys.plain(), image, "conv2:1", progress=None, **options)
    found = fv.dream(toys.plain(), image, "conv2:1", **options)
    assert torch.equal(found.images, expected.images)
    assert output.pictures[0][1].startswith("dream: ") and output.pictures[0][0].shape[2] == 3
    assert re.fullmatch(r"dream: 100% in \d+\.\d s", output.states[-1]["text/plain"])
    output.states.clear()
    fv.render(toys.plain(), "conv2:1", steps=2, progress=None).save(tmp_path / "a.png")
    fv.replay(tmp_path / "a.png", network=toys.plain(), progress="live")
    assert re.fullmatch(r"replay: 100% in \d+\.\d s", output.states[-1]["text/plain"])


KINDS = [((40,), {}, (274, 720)), ((6, 8, 10), {}, None), ((5, 16, 24), {"axes": "tyx"}, None)]


@pytest.mark.parametrize(("size", "more", "shape"), KINDS, ids=["signal", "volume", "clip"])
def test_signals_and_volumes_are_drawn_as_results_are(size, more, shape, output, tmp_path):
    conv = torch.nn.Conv1d if len(size) == 1 else torch.nn.Conv3d
    net = fv.Network(torch.nn.Sequential(conv(1, 3, 3)), size=size, mean=(0,), std=(1,), **more)
    found = fv.render(net, "0:1", steps=1, progress="live")
    pixels = output.pictures[-1][0].astype(float)
    expected = found.sheet().astype(float)
    assert pixels.shape == expected.shape and np.abs(pixels - expected).mean() < 8  # lossy compression
    assert shape is None or pixels.shape[:2] == shape
    output.states.clear()
    found.save(tmp_path / "a.npy")
    fv.replay(tmp_path / "a.npy", network=net, progress="live")  # the network is known within the call only
    assert output.pictures[-1][0].shape == expected.shape
    output.states.clear()
    fv.dream(net, torch.full((1, *size), 0.5), "0:1", octaves=1, steps=1, progress="live")
    assert output.pictures[-1][0].shape == expected.shape


def test_several_inputs_are_not_drawn_as_one_signal(output):
    fv.render(input_toys.matched_pair(), "logit:both", steps=1, progress="live")
    shown = [data["text/html"] for data in output.states if "text/html" in data]
    assert shown and not any("<img" in text for text in shown)


def test_several_signals_are_drawn_in_columns(output):
    live = LiveImages("render", Clock())
    live.draw_with(lambda images: [np.full((20, 30, 3), 9, np.uint8) for _ in images])
    live.show(1, 2, torch.rand(10, 1, 40))
    pixels, text = output.pictures[-1]
    assert pixels.shape[1] < 2 * 30 + 40 and text.endswith("; 2 more images are not shown")


def test_outside_of_notebooks_it_is_a_bar(capsys):
    assert not in_notebook()
    fv.render(toys.plain(), "conv2:1", steps=2, progress="live")
    assert "render: 100%" in capsys.readouterr().err
    fv.render(toys.plain(), "conv2:1", steps=2, progress="bar")
    assert "render: 100%" in capsys.readouterr().err
    assert default_progress("render", images=True) is None  # the tests run in no terminal


def test_bars_can_be_named_everywhere(output, capsys, tmp_path):
    fv.sweep(toys.plain(), tmp_path, "conv2", channels=[0, 1], steps=1, size=16, progress="bar")
    assert "sweep: 100%" in capsys.readouterr().err
    assert not isinstance(named_progress("bar", "render"), LiveImages)
    message = 'progress="live" works in render, dream, replay, accentuate only; give sweep "bar", or None'
    with pytest.raises(fv.SettingError, match=f"^{message}$"):
        fv.sweep(toys.plain(), tmp_path, "conv2", progress="live")


@pytest.mark.parametrize("value", ["lively", "", 3, True, ["live"]])
def test_other_values_are_refused(value):
    for call in (fv.render, fv.dream):
        given = {"image": torch.rand(3, 32, 32)} if call is fv.dream else {}
        with pytest.raises(fv.SettingError) as caught:
            call(toys.plain(), objective="conv2:1", progress=value, **given)
        assert str(caught.value) == f'progress must be a function, "live", "bar" or None, got {value!r}'


def test_ipython_is_optional(monkeypatch):
    for name in ("IPython", "IPython.display", "ipykernel"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "ipykernel")
    assert not in_notebook()
    fv.render(toys.plain(), "conv2:1", steps=1, progress="live")


CELL = """
import featviz as fv

rendering = fv.render(fv.load("motifnet"), "stage1:5", size=64, steps=12{options})
{end}
"""


class Recording(nbclient.NotebookClient):
    """Runs a notebook and keeps every message about outputs."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] in ("display_data", "update_display_data", "execute_result"):
            self.seen.append((msg["msg_type"], msg["content"]["data"]))
        return super().process_message(msg, cell, cell_index)


def executed(monkeypatch, tmp_path, source):
    """Return the messages and the final outputs of a cell."""
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = Recording(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.seen = []
    client.execute()
    return client.seen, notebook.cells[0].outputs


@pytest.mark.parametrize("options", ["", ', progress="live"'], ids=["default", "live"])
def test_in_a_notebook(options, monkeypatch, tmp_path):
    """The images form, and at the end the rendering is shown once, below a line."""
    seen, outputs = executed(monkeypatch, tmp_path, CELL.format(options=options, end="rendering"))
    kinds = [kind for kind, _ in seen]
    assert kinds[0] == "display_data" and kinds[-1] == "execute_result" and len(kinds) > 2
    assert set(kinds[1:-1]) == {"update_display_data"}
    assert "data:image/jpeg;base64," in seen[0][1]["text/html"]
    line, picture = outputs
    assert line["data"].keys() == {"text/plain"} and line["data"]["text/plain"].startswith("render: 100% in ")
    assert "image/png" in picture["data"]


def test_a_stopped_render_leaves_a_line_in_a_notebook(monkeypatch, tmp_path):
    """Ctrl-C in the middle: the images so far are shown once."""
    stop = (
        "from featviz.io import LiveImages\n"
        "def stop(self, done, steps, images, show=LiveImages.show):\n"
        "    show(self, done, steps, images)\n"
        "    raise KeyboardInterrupt\n"
        "LiveImages.show = stop\n"
    )
    source = f"{stop}{CELL.format(options='', end='rendering')}"
    _, outputs = executed(monkeypatch, tmp_path, source)
    assert [sorted(each["data"]) for each in outputs] == [["text/plain"], ["image/png", "text/plain"]]
    assert outputs[0]["data"]["text/plain"].startswith("render: 8% in ")
