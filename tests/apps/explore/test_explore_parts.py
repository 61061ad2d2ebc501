"""The parts of the explorer on their own: the worker, completions, connections, and how an image is made again."""

import os
import shlex
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
import toys
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import featviz as fv
from featviz.apps.explore.about import about
from featviz.apps.explore.complete import Completer
from featviz.apps.explore.events import Hub
from featviz.apps.explore.facts import facts_of
from featviz.apps.explore.photographs import Photographs
from featviz.apps.explore.requests import PARAMS, TRANSFORMS, RequestError, read_objective
from featviz.apps.explore.uploads import Uploads
from featviz.apps.explore.worker import DRAFT, LIVE, MAX_JOBS, OFF_SCREEN, VISIBLE, Job, QueueFullError, Worker
from featviz.apps.shared.operations.connections import Connections
from featviz.engine import parse_value
from featviz.io import Store, encode

# ------------------------------------------------------------------------------------------ the worker


@pytest.fixture
def worker():
    made = Worker(limit=lambda _: 3)
    made.start()
    yield made
    made.stop()
    assert not made._thread.is_alive()


class Recorder:
    """Jobs that take a step when they are told to, and note what runs."""

    def __init__(self, steps=2):
        self.ran, self.steps, self.go, self.started = [], steps, threading.Event(), threading.Event()

    def job(self, name, level, group=None, page="page"):
        return Job(name, self.run, level, group, pages={page})

    def run(self, jobs, between_steps):
        self.ran.append([job.id for job in jobs])
        for _ in range(self.steps):
            self.started.set()
            assert self.go.wait(10)
            between_steps()
        self.ran.append([f"{job.id} ended" for job in jobs])


def idle(worker):
    end = time.monotonic() + 10
    while worker.count:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_urgent_jobs_run_between_the_steps_of_others(worker):
    recorder = Recorder()
    worker.add([recorder.job("soon", OFF_SCREEN)])
    assert recorder.started.wait(10)
    worker.add([recorder.job("visible", VISIBLE), recorder.job("draft", DRAFT), recorder.job("live", LIVE)])
    recorder.go.set()
    idle(worker)
    names = ["soon", "live", "live ended", "draft", "draft ended", "visible", "visible ended", "soon ended"]
    assert recorder.ran == [[name] for name in names]


def test_jobs_of_a_group_run_together_up_to_the_limit(worker):
    recorder = Recorder()
    worker.add([recorder.job("first", DRAFT)])
    assert recorder.started.wait(10)
    worker.add([recorder.job(f"{group}{i}", DRAFT, group) for i in range(4) for group in "ab"])
    recorder.go.set()
    idle(worker)
    taken = [names for names in recorder.ran[2:] if not names[0].endswith("ended")]
    assert taken == [["a0", "a1", "a2"], ["b0", "b1", "b2"], ["a3"], ["b3"]]


def test_calls_are_answered_between_steps(worker):
    recorder = Recorder()
    worker.add([recorder.job("slow", LIVE)])
    assert recorder.started.wait(10)
    answer = worker.call(lambda: threading.current_thread().name)
    failing = worker.call(lambda: 1 / 0)
    assert not answer.done()
    recorder.go.set()
    assert answer.result(10) == "featviz-explore-worker"
    with pytest.raises(ZeroDivisionError):
        failing.result(10)
    idle(worker)
    assert recorder.ran[-1] == ["slow ended"]


def test_a_job_is_cancelled_when_its_last_page_leaves(worker):
    recorder = Recorder(steps=10**6)
    worker.add([recorder.job("a", VISIBLE), recorder.job("b", VISIBLE)])
    assert recorder.started.wait(10)
    worker.add([recorder.job("a", VISIBLE, page="other")])
    worker.cancel("page")
    assert worker.count == 1
    recorder.go.set()
    time.sleep(0.05)
    assert worker.count == 1
    worker.cancel("other", ["a", "unknown"])
    idle(worker)
    assert recorder.ran == [["a"]]


def test_a_job_that_is_wanted_again_while_it_stops_runs_again(worker):
    running, stopping, again = threading.Event(), threading.Event(), threading.Event()
    runs = []

    def run(jobs, between_steps):
        runs.append([job.id for job in jobs])
        if len(runs) == 1:
            running.set()
            try:
                while True:
                    between_steps()
            except KeyboardInterrupt:
                stopping.set()
                assert again.wait(10)
                raise

    job = Job("a", run, VISIBLE, pages={"page"})
    worker.add([job])
    assert running.wait(10)
    worker.cancel("page")
    assert stopping.wait(10)
    worker.add([Job("a", run, VISIBLE, pages={"page"})])
    again.set()
    idle(worker)
    assert runs == [["a"], ["a"]]


def test_an_error_ends_one_job_only():
    failed = []
    worker = Worker(failed=lambda jobs, error: failed.append((jobs[0].id, str(error))))
    worker.start()

    def run(jobs, _):
        raise ValueError("no")

    worker.add([Job("a", run, VISIBLE, pages={"page"}), Job("b", run, VISIBLE, pages={"page"})])
    idle(worker)
    worker.stop()
    assert failed == [("a", "no"), ("b", "no")]


def test_a_full_or_stopped_worker_takes_nothing():
    worker, recorder = Worker(), Recorder()
    worker.add([recorder.job(str(i), OFF_SCREEN) for i in range(MAX_JOBS)])
    with pytest.raises(QueueFullError):
        worker.add([recorder.job("more", LIVE)])
    worker.add([recorder.job("0", LIVE)])  # it is there already
    assert worker.count == MAX_JOBS
    recorder.go.set()
    worker.start()
    worker.stop()
    with pytest.raises(QueueFullError):
        worker.call(lambda: None).result()


# ------------------------------------------------------------------------------------------ objectives


@given(st.text(max_size=60))
def test_any_text_is_an_objective_or_refused_with_a_position_in_it(text):
    with suppress(RequestError), checked(text):
        read_objective(text)


@contextmanager
def checked(text):
    try:
        yield
    except RequestError as refused:
        position, line = refused.position, str(refused)
        assert "\n" not in line and (position is None or 0 <= position <= len(text))
        raise


@pytest.mark.parametrize(
    ("text", "position"), [("conv2:1 +", 9), ("conv2:1 conv2", 8), ("(conv2:1", 8), ("conv2:1 - foo(3)", 10), ("", 0)]
)
def test_errors_say_where(text, position):
    with pytest.raises(RequestError) as caught:
        read_objective(text)
    assert caught.value.position == position


def items(completer, text, at=None):
    found = completer.complete(text, len(text) if at is None else at)
    return found["start"], [item["text"] for item in found["items"]]


def test_completions_depend_on_what_is_before_the_caret():
    completer = Completer(toys.plain())
    start, found = items(completer, "")
    assert start == 0 and found[:3] == ["conv1", "bn1", "conv2"] and "logit:" in found and "diversity(" in found
    assert items(completer, "conv2:1 - 2*co") == (12, ["conv1", "conv2", "cosine("])
    assert items(completer, "conv2:") == (6, [str(i) for i in range(8)])
    assert items(completer, "conv2:1@c") == (8, ["center"])
    assert items(completer, "logit:") == (6, ["ant", "bee", "cat", "dog", "jack-o'-lantern"])
    assert items(completer, "tv + logit:A") == (11, ["ant", "cat", "jack-o'-lantern"])
    assert items(completer, "prob:o") == (5, ["dog", "jack-o'-lantern"])
    assert items(completer, "conv1:0 + tv", 3) == (0, ["conv1", "conv2"])
    assert items(completer, "zzz") == (0, [])


@given(st.text(max_size=30), st.integers(0, 30))
def test_completions_never_fail(text, at):
    found = COMPLETER.complete(text, min(at, len(text)))
    assert 0 <= found["start"] <= min(at, len(text)) and len(found["items"]) <= 40


COMPLETER = Completer(toys.plain())


def test_completed_text_parses():
    completer = Completer(toys.plain())
    for text in ("logit:", "prob:"):
        _, found = items(completer, text)
        assert len(found) == len(toys.plain().classes)
        for each in found:
            fv.objectives.parse(text + each)


# ------------------------------------------------------------------------------------------ connections


def effect(net, source, channel, target):
    """Return by how much each channel of a layer changes per change of a channel of an earlier one, everywhere."""
    images = torch.full((1, net.channels, *net.size), 0.5)
    with net.session([source, target], fv.Execution("float32")) as forward, torch.no_grad():
        before = forward(images)
        changed = before[source].clone()
        changed[:, channel] += 1e-2
        after = forward(images, replace={source: lambda _: changed})
        rows, columns = before[target].shape[2:] if before[target].ndim == 4 else (1, 1)
        difference = (after[target] - before[target]).reshape(before[target].shape[1], rows, columns)
        return difference[:, rows // 2, columns // 2] / 1e-2


class Branches(nn.Module):
    """A grouped convolution with a batch norm, a sum of branches, a flattened map and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.grouped = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8), nn.Identity())
        self.after = nn.Conv2d(8, 5, 1)
        self.sum = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(20, 3)

    def forward(self, x):
        x = self.grouped(self.stem(x))
        y = self.after(x)
        return self.head(self.pool(self.sum(y + y.sin())).flatten(1))


@pytest.fixture
def branches():
    torch.manual_seed(0)
    module = Branches()
    module.grouped[1].running_var.uniform_(0.5, 2)
    module.grouped[1].weight.data.uniform_(-1, 1)
    return fv.Network(module, size=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_weights_are_the_effect_of_a_uniform_change(branches):
    found = Connections(branches)
    for target in range(8):
        expected = {channel: effect(branches, "stem", channel, "grouped")[target].item() for channel in range(4)}
        group = range(0, 2) if target < 4 else range(2, 4)
        inputs = found.inputs("grouped", target)
        assert [(name, channel) for name, channel, _ in inputs] == [("stem", channel) for channel in group]
        assert [weight for *_, weight in inputs] == pytest.approx([expected[k] for k in group], abs=1e-3)
    for channel in range(4):
        outputs = found.outputs("stem", channel)
        assert {name for name, *_ in outputs} == {"grouped"} and len(outputs) == 4
        expected = effect(branches, "stem", channel, "grouped")
        assert [w for *_, w in outputs] == pytest.approx([expected[k].item() for _, k, _ in outputs], abs=1e-3)


def test_connections_end_where_branches_meet(branches):
    found = Connections(branches)
    assert found.inputs("sum", 0) == [] and found.inputs("stem", 0) == [] and found.outputs("after", 0) == []
    assert [name for name, *_ in found.outputs("sum", 1)] == ["head"] * 3
    weights = branches.module.head.weight.detach().unflatten(1, (5, 4)).sum(2)
    assert [w for *_, w in found.inputs("head", 2)] == pytest.approx(weights[2].tolist())
    assert [w for *_, w in found.outputs("pool", 4)] == pytest.approx(weights[:, 4].tolist())


@pytest.mark.parametrize("name", ["motifnet", "motifvit"])
def test_every_unit_of_a_bundled_network_has_a_card(name):
    net = fv.load(name, device="cpu")
    found = Connections(net)
    for layer, row in net.table.items():
        for channel in (0, row.channels - 1):
            for other, k, _ in [*found.inputs(layer, channel), *found.outputs(layer, channel)]:
                assert 0 <= k < net.table[other].channels


def test_the_module_is_left_as_it_was(branches):
    Connections(branches)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in branches.module.modules())


# ------------------------------------------------------------------------------------------ how an image is made again

CALLS = (
    ("stage2:5", {}), ("stage2:5 - 0.5 * logit:spiral", {"seed": 7}), ("-stage2:5", {"transforms": "lucid"}),
    ("logit:spiral", {"param": "cppn", "transforms": "near"}), ("prob:heart", {"size": (32, 40)}),
    ("stage2:5@3,4", {"param": "pixel", "transforms": "none"}), ("stage2 + 2 * tv", {}),
)  # fmt: skip


@pytest.mark.parametrize(("text", "more"), CALLS)
def test_the_call_and_the_command_render_the_same_image(text, more, motifnet, tmp_path):
    settings = {"size": 32, "steps": 1, **more}
    rendering = fv.render(motifnet, text, progress=None, **settings)
    facts = facts_of(motifnet, "0" * 16, rendering.encoded(), None)
    names = {}
    exec(facts["python"], names)
    (saved,) = tmp_path.glob("*.png")
    assert fv.Recipe.of(saved).hash == rendering.recipe.hash
    saved.unlink()
    from featviz.cli import main

    words = shlex.split(facts["command"])
    assert words[0] == "featviz" and main([*words[1:], "--quiet"]) == 0
    (saved,) = tmp_path.glob("*.png")
    assert fv.Recipe.of(saved).alone.hash == rendering.recipe.hash
    assert facts["objective"] == text


def test_the_call_loads_a_network_with_other_settings_as_it_is(motifnet, tmp_path):
    dictionary = fv.Dictionary(kind="relu", encoder=torch.eye(64)[:5])
    dictionary.save("five.safetensors")
    changed = {"mean": (0.4, 0.5, 0.6), "channel_order": "BGR", "size": (48, 64)}
    net = motifnet.with_input(**changed).with_dictionary("stage2", fv.Dictionary.load("five.safetensors"))
    rendering = fv.render(net, "stage2~1", steps=1, size=32, progress=None)
    facts = facts_of(net, "0" * 16, rendering.encoded(), None)
    names = {}
    exec(facts["python"], names)
    assert names["net"].input == net.input and "stage2~" in names["net"].table
    words = shlex.split(facts["command"])
    assert words[words.index("--input-size") + 1] == "48x64" and words[words.index("--mean") + 1] == "0.4,0.5,0.6"
    assert words[words.index("--dictionary") + 1].endswith("five.safetensors@stage2")
    from featviz.cli import main

    assert main([*words[1:], "--quiet"]) == 0
    (saved,) = tmp_path.glob("*.png")
    assert fv.Recipe.of(saved).alone.hash == rendering.recipe.hash


def test_the_call_says_how_the_gradient_of_pools_is_spread():
    net = fv.load("motifnet", smooth_pools=True)
    facts = facts_of(net, "0" * 16, fv.render(net, "stage1:1", steps=1, size=32, progress=None).encoded(), None)
    names = {}
    exec(facts["python"], names)
    assert names["net"].smooth_pools and "--smooth-pools --size" in facts["command"]


def test_maps_and_blocks_are_kept_by_everything_that_decides_them(tmp_path):
    ids = []
    nets = (toys.plain(), toys.plain().with_input(mean=(0.4,) * 3), toys.plain(classes=("a", "b", "c", "d", "e")))
    for net in nets:
        store = Store(tmp_path / "store")
        photographs = Photographs(net, store, Hub(lambda _: None), Uploads(net, store))
        ids.append(photographs._hash("upload", "logit:1"))
    assert len(set(ids)) == 3


def test_the_uploads_that_are_deleted_first_are_the_oldest(tmp_path):
    store = Store(tmp_path / "store")
    first = Uploads(toys.plain(), store)
    names = [first.add(encode(np.full((8, 8, 3), level, np.uint8), ".png")) for level in (10, 20, 30)]
    for age, name in enumerate(names):
        os.utime(tmp_path / "store" / "uploads" / f"{name}.png", (1000 + age, 1000 + age))
    assert list(Uploads(toys.plain(), store)._known) == names


def test_a_start_that_is_in_no_file_has_a_name_to_fill_in(motifnet):
    rendering = fv.render(motifnet, "stage2:5", size=32, steps=1, start=torch.full((3, 32, 32), 0.4), progress=None)
    facts = facts_of(motifnet, "0" * 16, rendering.encoded(), None)
    assert facts["python"].endswith("start='start.png').save('stage2_5.png')  # start.png: the photograph, cropped")
    assert "--start start.png" in facts["command"]


def test_a_page_knows_what_may_be_asked_for(motifnet, tmp_path):
    found = about(motifnet, Store(tmp_path / "store"), None, has_photographs=False)
    assert [layer["name"] for layer in found["layers"]] == [name for name in motifnet.table if name]
    stem = next(layer for layer in found["layers"] if layer["name"] == "stem.0")
    assert stem == {
        "name": "stem.0", "address": "stem.0", "kind": "map", "channels": 16, "height": 64, "width": 64,
        "group": "stem", "type": "Conv2d",
    }  # fmt: skip
    assert found["has_logits"] and found["classes"] == list(motifnet.classes)
    sized = about(motifnet, Store(tmp_path / "store"), (32, 48), has_photographs=True)
    assert sized["defaults"]["size"] == [32, 48] and sized["has_photographs"]
    for method in found["methods"]:
        assert isinstance(method["title"], str) and parse_value(method["name"], fv.methods)


@pytest.mark.parametrize("param", PARAMS)
@pytest.mark.parametrize("transforms", [*TRANSFORMS, None])
def test_every_param_and_transform_that_a_page_may_ask_for_renders(param, transforms, tmp_path):
    from featviz.apps.explore.events import Hub
    from featviz.apps.explore.images import Images
    from featviz.apps.explore.requests import Wanted
    from featviz.apps.explore.uploads import Uploads

    net, store = toys.plain(), Store(tmp_path / "store")
    images = Images(net, store, Hub(lambda _: None), Uploads(net, store))
    wanted = Wanted(fv.objectives.Channel("conv2", 1), (20, 20), 1, 0, param, transforms)
    (plan,) = images.plan([wanted], "page")
    plan.job.run([plan.job], lambda: None)
    assert images.existing([plan.id]) == {plan.id}
