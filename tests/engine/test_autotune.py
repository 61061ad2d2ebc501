"""The measured choice of precision, and that no execution changes what an image shows."""

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import objectives as obj
from featviz.engine import autotune as autotune_module


@pytest.mark.parametrize("address", ["conv2:1", "bn1:2", "logit:bee", "conv1"])
@pytest.mark.parametrize(
    ("execution", "tolerance"),
    [
        (fv.Execution("float32", fold=False), 1e-3),
        (fv.Execution("float32", channels_last=False), 1e-3),
        (fv.Execution("bfloat16"), 0.05),
    ],
)
def test_executions_give_the_same_images_up_to_rounding(address, execution, tolerance):
    net = toys.plain()
    objective = obj.parse(address)
    executions = fv.Execution("float32"), execution
    one, two = (fv.render(net, address, transforms=(), steps=8, execution=each) for each in executions)
    assert (one.images - two.images).abs().mean() < tolerance
    clean = [objective(net.capture(rendering.images, objective.layers)).item() for rendering in (one, two)]
    assert clean[1] == pytest.approx(clean[0], rel=tolerance, abs=tolerance)
    assert (two.execution, two.recipe.execution) == (execution, repr(execution))


@pytest.mark.parametrize("toy", [toys.Vit, toys.ChannelsLast, toys.Functional, toys.Dict, toys.Twice, toys.Flattening])
def test_bfloat16_runs_on_any_network_and_restores_it(toy):
    net = toys.network(toy())
    before = {name: (value.clone(), value.dtype, value.stride()) for name, value in net.module.state_dict().items()}
    layer = next(name for name in net.table if name)
    rendering = fv.render(net, f'"{layer}":1', transforms=(), steps=3, execution=fv.Execution("bfloat16"))
    assert rendering.images.dtype == rendering.history.dtype == torch.float32
    assert rendering.history.isfinite().all()
    for name, value in net.module.state_dict().items():
        expected, dtype, stride = before[name]
        assert torch.equal(value, expected) and (value.dtype, value.stride()) == (dtype, stride)


def test_precision_is_measured_once_per_network_and_layer(monkeypatch):
    monkeypatch.setattr(autotune_module, "MIN_PASSES", 4)
    measured = []

    def is_faster(network, layers, input_size, single, lower, required, count):
        measured.append((sorted(layers), count, input_size, single, lower, required))
        return len(measured) == 1

    monkeypatch.setattr(autotune_module, "_is_faster", is_faster)
    monkeypatch.setattr(autotune_module, "has_quick_bfloat16", lambda _: True)
    net, single, lower = toys.plain(), fv.Execution("float32"), fv.Execution("bfloat16")
    assert fv.render(net, "conv2:1", steps=3).execution == single  # too short for a measurement
    assert not measured
    for _ in range(2):
        assert fv.render(net, "conv2:1", steps=4).execution == lower
    assert measured == [(["conv2"], 1, (32, 32), single, lower, 0.85)]
    assert fv.render(net, "logit:bee", steps=4).execution == single  # another layer is measured separately
    assert measured[1][-1] == pytest.approx(0.9)  # and keeps the precision of the network if it is about as fast
    assert fv.render(net, "conv2:1", steps=4, execution=single).execution == single
    assert len(measured) == 2
    fv.render(net, "conv1:1", steps=4)
    assert measured[2][-1] == pytest.approx(0.8)
    autotune_module._cache_file().write_text("corrupt")
    fv.render(net, "conv2:1", steps=4)
    assert measured[3][-1] == 0.85


@pytest.mark.parametrize(("seconds", "quick"), [(0.0006, True), (0.0025, True), (0.04, False)])
def test_a_processor_that_emulates_bfloat16_is_found_by_one_convolution(monkeypatch, seconds, quick):
    """A CPU without AVX-512 takes 20 to 40 times as long: a trial on GoogLeNet took half a minute."""
    tried, has_quick_bfloat16 = [], autotune_module.has_quick_bfloat16.__wrapped__

    def repeat(run, **_):
        tried.append(run().dtype)
        return [0.001 if tried[-1] == torch.float32 else seconds, 9.0]

    monkeypatch.setattr(autotune_module.timeit, "repeat", repeat)
    assert has_quick_bfloat16(torch.device("cpu")) == quick
    assert tried == [torch.float32, torch.bfloat16]
    assert has_quick_bfloat16(torch.device("cuda")) and len(tried) == 2


def test_a_network_is_not_tried_in_a_precision_that_is_emulated(monkeypatch):
    monkeypatch.setattr(autotune_module, "MIN_PASSES", 1)
    monkeypatch.setattr(autotune_module, "has_quick_bfloat16", lambda _: False)
    monkeypatch.setattr(autotune_module, "_is_faster", lambda *_: pytest.fail("tried"))
    assert fv.render(toys.plain(), "conv2:1", steps=2).execution == fv.Execution("float32")


def passes(monkeypatch, ratio, *, error=0.0, noise=0.0, seed=0):
    """Let passes in bfloat16 take a fraction of the time, with noise on all times; return the list of times."""
    generator, found = np.random.default_rng(seed), []
    values = torch.randn(2, 3, 4, 4)

    def timed(forward, layers, images):
        lower = forward.module.conv2.weight.dtype == torch.bfloat16
        seconds = (ratio if lower else 1.0) * (1 + noise * generator.exponential())
        found.append(seconds)
        return seconds, {"conv2": values + error * lower}

    monkeypatch.setattr(autotune_module, "_pass", timed)
    return found


def is_faster(required=0.85):
    executions = fv.Execution("float32"), fv.Execution("bfloat16")
    return autotune_module._is_faster(toys.plain(), ["conv2"], (32, 32), *executions, required, 2)


@pytest.mark.parametrize(
    ("ratio", "error", "expected"), [(0.5, 0, True), (0.97, 0, False), (0.5, torch.randn(4), False)]
)
def test_lower_precision_must_be_fast_and_accurate(monkeypatch, ratio, error, expected):
    found = passes(monkeypatch, ratio, error=error)
    assert is_faster() == expected
    assert len(found) <= 2 + 2 * autotune_module.MIN_ROUNDS


@pytest.mark.parametrize(("ratio", "expected"), [(0.55, True), (0.75, True), (1.0, False)])
def test_noise_does_not_decide_the_precision(monkeypatch, ratio, expected):
    """The ratios of ResNet-50 and MobileNetV2, and no gain, with single passes that are slowed down by 20 %."""
    found = []
    for seed in range(100):
        passes(monkeypatch, ratio, noise=0.2, seed=seed)
        found.append(is_faster())
    assert found == [expected] * 100


def test_the_error_of_a_single_number_is_measured_by_its_magnitude():
    assert autotune_module._spread(torch.tensor([[-3.0]])).item() == 3
    assert autotune_module._spread(torch.tensor([1.0, 3.0])).item() == pytest.approx(2**0.5)


def test_a_tie_is_single_precision(monkeypatch):
    found = passes(monkeypatch, 0.85)
    assert not is_faster()
    assert len(found) == 2 + 2 * autotune_module.MAX_ROUNDS


def test_a_pass_returns_seconds_and_activations():
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    with toys.plain().session(["conv2"], fv.Execution("bfloat16")) as forward:
        seconds, found = autotune_module._pass(forward, ["conv2"], images)
    assert seconds > 0 and found["conv2"].dtype == torch.float32


def test_renders_without_a_writable_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(autotune_module, "MIN_PASSES", 1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fv.render(toys.plain(), "conv2:1", steps=2).execution.precision in ("float32", "bfloat16")


def test_replay_uses_the_recorded_execution(tmp_path):
    net = toys.plain()
    rendering = fv.render(net, "conv2:1", steps=5, execution=fv.Execution("bfloat16", channels_last=False))
    (path,) = rendering.save(tmp_path / "a.png")
    again = fv.replay(path, network=net)
    assert again.execution == rendering.execution
    assert again.images.equal(rendering.images)


def test_unknown_precision():
    with pytest.raises(fv.SettingError, match=r"^precision must be float32, bfloat16 or None, got 'half'$"):
        fv.Execution("half")


def test_a_trial_that_ran_out_of_memory_decides_nothing_for_good(monkeypatch):
    monkeypatch.setattr(autotune_module, "MIN_PASSES", 1)
    monkeypatch.setattr(autotune_module, "has_quick_bfloat16", lambda _: True)
    failures = iter([MemoryError(), RuntimeError("no such operation in bfloat16")])

    def is_faster(*_):
        raise next(failures)

    monkeypatch.setattr(autotune_module, "_is_faster", is_faster)
    for known in (0, 2):  # of the network and layer, and of the network; after an error of the network itself
        assert fv.render(toys.plain(), "conv2:1", steps=2).execution == fv.Execution("float32")
        assert len(autotune_module._read_choices()) == known


def test_a_trial_that_runs_out_of_memory_is_made_with_fewer_images(monkeypatch):
    monkeypatch.setattr(autotune_module, "MIN_PASSES", 1)
    monkeypatch.setattr(autotune_module, "has_quick_bfloat16", lambda _: True)
    tried = []

    def is_faster(*arguments):
        count = arguments[-1]
        tried.append(count)
        if count > 2:
            raise MemoryError
        return True

    monkeypatch.setattr(autotune_module, "_is_faster", is_faster)
    execution = fv.render(toys.plain(), "conv2:1", steps=2, batch=6).execution
    assert (execution.precision, tried) == ("bfloat16", [6, 3, 1])


def test_choices_of_several_processes_are_kept():
    autotune_module._remember({"first": "float32"})
    autotune_module._remember({"second": "bfloat16"})
    assert autotune_module._read_choices() == {"first": "float32", "second": "bfloat16"}
