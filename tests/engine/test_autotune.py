"""How a network is run: nothing that makes it faster may change what it sees."""

import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz.engine import autotune as autotuning


@pytest.mark.parametrize("goal", ["conv2:1", "bn1:2", "logit:bee", "conv1"])
@pytest.mark.parametrize(
    ("execution", "close"),
    [
        (fv.Execution("float32", fold=False), 1e-3),
        (fv.Execution("float32", channels_last=False), 1e-3),
        (fv.Execution("bfloat16"), 0.05),
    ],
)
def test_speed_does_not_change_pictures_beyond_rounding(goal, execution, close):
    net = toys.plain()
    objective = obj.parse(goal)
    one, two = (fv.render(net, goal, transforms=(), steps=8, execution=p) for p in (fv.Execution("float32"), execution))
    assert (one.images - two.images).abs().mean() < close
    clean = [objective(net.capture(rendering.images, objective.layers)).item() for rendering in (one, two)]
    assert clean[1] == pytest.approx(clean[0], rel=close, abs=close)
    assert (two.execution, two.recipe.execution) == (execution, repr(execution))


@pytest.mark.parametrize("toy", [toys.Vit, toys.ChannelsLast, toys.Functional, toys.Dict, toys.Twice, toys.Flattening])
def test_lower_precision_runs_on_any_network_and_leaves_it_as_it_was(toy):
    net = toys.network(toy())
    before = {name: (value.clone(), value.dtype, value.stride()) for name, value in net.module.state_dict().items()}
    layer = next(name for name in net.table if name)
    rendering = fv.render(net, f'"{layer}":1', transforms=(), steps=3, execution=fv.Execution("bfloat16"))
    assert rendering.images.dtype == rendering.history.dtype == torch.float32
    assert rendering.history.isfinite().all()
    for name, value in net.module.state_dict().items():
        wanted, dtype, stride = before[name]
        assert torch.equal(value, wanted) and (value.dtype, value.stride()) == (dtype, stride)


def test_what_was_measured_once_is_taken_again(monkeypatch):
    monkeypatch.setattr(autotuning, "MIN_STEPS", 4)
    measured = []

    def pays(network, layers, count, view, single, lower):
        measured.append((sorted(layers), count, view, single, lower))
        return len(measured) == 1

    monkeypatch.setattr(autotuning, "_is_faster", pays)
    net = toys.plain()
    assert fv.render(net, "conv2:1", steps=3).execution == fv.Execution("float32")  # too short for a trial
    assert not measured
    for _ in range(2):
        assert fv.render(net, "conv2:1", steps=4).execution == fv.Execution("bfloat16")
    assert measured == [(["conv2"], 1, (32, 32), fv.Execution("float32"), fv.Execution("bfloat16"))]
    assert fv.render(net, "logit:bee", steps=4).execution == fv.Execution(
        "float32"
    )  # another layer is measured for itself
    assert fv.render(net, "conv2:1", steps=4, execution=fv.Execution("float32")).execution == fv.Execution("float32")
    assert len(measured) == 2
    autotuning._cache_file().write_text("not what we wrote")
    fv.render(net, "conv2:1", steps=4)
    assert len(measured) == 3


def test_a_trial_is_of_time_and_of_truth(monkeypatch):
    net = toys.plain()
    plans = fv.Execution("float32"), fv.Execution("bfloat16")
    seconds = {"float32": 1.0, "bfloat16": 0.5}
    right = {"conv2": torch.randn(2, 3, 4, 4)}
    wrong = {"conv2": torch.randn(2, 3, 4, 4)}
    for other, time, wanted in ((right, 0.5, True), (right, 0.95, False), (wrong, 0.5, False)):
        seconds["bfloat16"] = time
        put_out = {"float32": right, "bfloat16": other}
        monkeypatch.setattr(
            autotuning,
            "_measure",
            lambda network, layers, images, execution, o=put_out: (
                seconds[execution.precision],
                o[execution.precision],
            ),
        )
        assert autotuning._is_faster(net, ["conv2"], 2, (32, 32), *plans) == wanted
    monkeypatch.undo()
    took, found = autotuning._measure(net, ["conv2"], torch.rand(2, 3, 32, 32, requires_grad=True), plans[1])
    assert took > 0 and found["conv2"].dtype == torch.float32


def test_a_machine_that_cannot_remember_renders_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(autotuning, "MIN_STEPS", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fv.render(toys.plain(), "conv2:1", steps=2).execution.precision in ("float32", "bfloat16")


def test_a_replay_takes_the_recorded_plan(tmp_path):
    net = toys.plain()
    rendering = fv.render(net, "conv2:1", steps=5, execution=fv.Execution("bfloat16", channels_last=False))
    (path,) = rendering.save(tmp_path / "a.png")
    again = fv.replay(path, network=net)
    assert again.execution == rendering.execution
    assert again.images.equal(rendering.images)


def test_no_such_precision():
    with pytest.raises(fv.SettingError, match=r"^no precision 'half'; give float32 or bfloat16, or None to measure$"):
        fv.Execution("half")
