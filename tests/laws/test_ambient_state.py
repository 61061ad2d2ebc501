"""The same recipe gives the same image, whatever modes and precisions of PyTorch the caller has set."""

import inspect
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import toys

import featviz as fv
from featviz import methods, param, transforms
from featviz.network import neutral_state
from featviz.network.neutral_state import _PROCESS_SETTINGS

GENERATOR = torch.Generator().manual_seed(0)
IMAGE = torch.rand(1, 3, 32, 32, generator=GENERATOR)
ALL_TRANSFORMS = (*transforms.STANDARD, transforms.Noise(0.1), transforms.GaussianBlur(1), transforms.ColorShift(0.1))


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul_precision(precision):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def backend_precision(operation, precision):
    backend = getattr(torch.backends.mkldnn, operation)
    before = backend.fp32_precision
    backend.fp32_precision = precision
    try:
        yield
    finally:
        backend.fp32_precision = before


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype": lambda: default_dtype(torch.float64),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "matmul precision": lambda: matmul_precision("medium"),
    "convolution precision": lambda: backend_precision("conv", "bf16"),
    "matmul precision of the CPU": lambda: backend_precision("matmul", "bf16"),
    "anomaly mode": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "deterministic algorithms": lambda: deterministic(),
}


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def rendered(given, **more):
    return lambda net: fv.render(net, ["conv2:1", "logit:bee"], param=given, **{"steps": 4, **more}).images


CALLS = {
    "render": rendered(None, transforms=ALL_TRANSFORMS, robustness_views=1),
    "render tiles": rendered(param.Image((128, 192)), execution=fv.Execution(tile=128)),
    **{
        f"render {name}": rendered(param.Image(32, spatial=getattr(param, name)()))
        for name in ("Pixel", "Pyramid", "Phase", "CPPN")
    },
    "render LUCID": rendered(None, transforms=transforms.LUCID),
    "start": rendered(param.Image(32, spatial=param.Pixel()), start=IMAGE[0]),
    "score": lambda net: fv.score(net, ["logit:0", "conv1:2"], IMAGE.clone()),
    "dream": lambda net: fv.dream(net, IMAGE[0], octaves=2, steps=2).images,
    "fit_prior": lambda net: fv.fit_prior([IMAGE[0].clone(), IMAGE[0] / 2 + 0.1]),
    **{
        f"explain by {name}": (lambda method: lambda net: fv.explain(net, IMAGE.clone(), "logit:0", method).map)(
            getattr(methods, name)()
        )
        for name in methods.__all__
        if inspect.isclass(getattr(methods, name))
        and name not in ("Scouter", "IntegratedGradients", "NoiseTunnel", "Attention", "Rollout", "GradientRollout")
    },
    "explain by RISE": lambda net: fv.explain(net, IMAGE.clone(), "logit:0", methods.RISE(8)).map,
    "explain by IntegratedGradients": lambda net: (
        fv.explain(net, IMAGE.clone(), "logit:0", methods.IntegratedGradients(steps=24)).map
    ),
    "layers": lambda net: str(net.layers()),
    "outputs": lambda net: net.outputs_of(),
}


def same(one, two):
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and np.array_equal(one.cpu().numpy(), two.cpu().numpy())
    return one == two


@pytest.fixture(scope="module")
def expected():
    return {name: call(toys.plain()) for name, call in CALLS.items()}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("call", CALLS)
def test_the_state_of_the_caller_changes_nothing(call, state, expected):
    net = toys.plain()
    with STATES[state]():
        found = CALLS[call](net)
    assert same(found, expected[call])


@pytest.mark.parametrize("state", ["autocast", "matmul precision", "convolution precision"])
def test_states_of_precision_change_what_pytorch_computes(state):
    """Check that these settings change results of plain PyTorch."""
    if state != "autocast" and not torch.cpu._is_amx_tile_supported():
        pytest.skip("this processor computes float32 in full precision, whatever is allowed")
    image, weight = torch.rand(4, 16, 64, 64, generator=GENERATOR), torch.rand(32, 16, 3, 3, generator=GENERATOR)
    expected = image @ image.mT, torch.nn.functional.conv2d(image, weight)
    with STATES[state]():
        found = image @ image.mT, torch.nn.functional.conv2d(image, weight)
    assert not all(torch.equal(one.float(), two) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("state", ["inference mode", "default dtype", "autocast"])
def test_a_network_may_be_loaded_in_any_state(state):
    expected = fv.render(fv.load("motifnet"), "stage1:2", param=param.Image(48), steps=2).images
    with STATES[state]():
        net = fv.load("motifnet")
    assert torch.equal(fv.render(net, "stage1:2", param=param.Image(48), steps=2).images, expected)
    found = fv.explain(net, torch.full((1, 3, 96, 96), 0.4), "logit:0", methods.GradCAM())
    assert found.map.isfinite().all()


def test_a_module_made_in_inference_mode_is_rendered():
    with torch.inference_mode():
        torch.manual_seed(0)
        module = toys.Plain()
    torch.manual_seed(0)
    classes = ("ant", "bee", "cat", "dog", "elk")
    net, usual = (fv.Network(each, size=32, classes=classes, **toys.HALF) for each in (module, toys.Plain()))
    for name, call in CALLS.items():
        if name != "fit_prior":
            assert same(call(net), call(usual)), name


def test_settings_of_the_process_are_restored_when_the_last_of_several_threads_ends():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with neutral_state():
            entered.set()
            leave.wait()

    with default_dtype(torch.float64), matmul_precision("medium"):
        thread = threading.Thread(target=other)
        with neutral_state():
            thread.start()
            entered.wait()
            assert torch.get_default_dtype() == torch.float32
        assert torch.get_default_dtype() == torch.float32  # the other thread still needs it
        leave.set()
        thread.join()
        assert (torch.get_default_dtype(), torch.get_float32_matmul_precision()) == (torch.float64, "medium")
    assert not any(setting._open for setting in _PROCESS_SETTINGS)


def test_the_state_is_restored_after_an_error():
    with default_dtype(torch.float64), pytest.raises(fv.SettingError):
        fv.render(toys.plain(), "conv2:1", steps=-1)
    with default_dtype(torch.float64):
        with pytest.raises(fv.AddressError):
            fv.render(toys.plain(), "nothing:1", steps=1)
        assert torch.get_default_dtype() == torch.float64


def test_gradients_are_enabled_in_a_neutral_state_and_as_before_after_it():
    for outside in (torch.no_grad(), torch.inference_mode()):
        with outside:
            with neutral_state():
                assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()
