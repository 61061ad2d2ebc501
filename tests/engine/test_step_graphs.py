"""What can be checked about recorded steps without a GPU; `tests/slow/test_cuda.py` runs them on one."""

import pytest
import torch
import toys

import featviz as fv
from featviz import optimizers
from featviz.engine import step_graphs
from featviz.engine.job import Job
from featviz.engine.step_graphs import StepGraphs, _first, _place
from featviz.objectives import as_objectives
from featviz.optimizers import state_of


def test_the_plan_says_why_no_step_was_replayed():
    rendering = fv.render(toys.plain(), "conv2:1", steps=3)
    assert rendering.plan == "no step was replayed as a CUDA graph: the network is not on a CUDA GPU"


@pytest.mark.parametrize(
    ("optimizer", "recordable"),
    [
        (optimizers.Adam(), False),  # on the CPU, the rate of each step comes from Python
        (optimizers.Ascent(), True),
        (optimizers.Clipped(1.0), True),
        (optimizers.Normalized(optimizers.Adam()), False),
        (optimizers.Smoothed(1.0), True),
    ],
)
def test_steps_of_optimizers_with_all_state_in_tensors_are_recordable(optimizer, recordable):
    leaves = [torch.rand(1, 3, 8, 8, requires_grad=True)]
    assert (state_of(optimizer.begin(leaves, 5)) is not None) == recordable


def test_adam_on_a_gpu_takes_the_same_steps():
    """Its rates and counter are tensors there, which this test has on the CPU."""
    found = []
    for kind in ("plain", "recordable"):
        leaf = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        anchors, adam = [leaf.detach().clone()], optimizers.Adam(0.08, 0.2, 0.3)
        stepper = adam.begin([leaf], 10)
        if kind == "recordable":
            rates = [0.016 + 0.064 * (1 + torch.tensor(torch.pi * i / 10).cos().item()) / 2 for i in range(10)]
            stepper = optimizers._RecordableAdam([leaf], anchors, rates, 0.3, adam.betas)
        for _ in range(10):
            (leaf.sin() * leaf).sum().backward()
            stepper.step()
        found.append(leaf.detach())
    assert torch.allclose(*found, atol=1e-5)
    assert int(stepper.state[0]) == 10


def test_errors_name_the_line_that_cannot_be_recorded():
    def mine():
        return torch.zeros(2) + torch.zeros(3)

    try:
        try:
            mine()
        finally:
            raise ValueError("the end of the recording")
    except ValueError as error:
        first = _first(error)
        assert _place(first).startswith("mine (test_step_graphs.py, line ")


def test_what_a_graph_reads_from_outside_is_kept(monkeypatch):
    """A cache may drop a tensor that a graph still reads; on a GPU the address is all that the graph knows."""
    tensors = step_graphs._tensors_on
    monkeypatch.setattr(step_graphs, "_tensors_on", lambda value, _: tensors(value, "cpu"))
    weight, cached = torch.rand(4, requires_grad=True), torch.rand(8)
    with step_graphs._Constants() as constants:
        cached.sum()  # before the recording
        constants.begin_again()
        seen = weight * cached[4:]
        seen.square().sum().backward()
        torch.zeros(2).add_(1)
    kept = {tensor.untyped_storage().data_ptr() for tensor in constants._from_outside.values()}
    assert kept == {each.untyped_storage().data_ptr() for each in (weight, cached)}


def test_ramps_take_the_progress_as_a_tensor():
    ramp = fv.objectives.Ramp(1, 3, 0.2, 0.6) * fv.objectives.Channel("conv2", 1)
    acts = toys.plain().capture(torch.rand(2, 3, 32, 32), ["conv2"])
    for done in (0.0, 0.3, 0.9):
        one, two = (ramp(acts.of(torch.zeros(2, 3, 32, 32), done=each)) for each in (done, torch.tensor(done)))
        assert torch.allclose(one, two)


def test_no_step_is_replayed_on_a_cpu():
    job = Job.prepare(
        toys.plain(), as_objectives("conv2:1"), fv.param.Image(), (), 0, None, fv.Execution("float32"), 30
    )
    graphs = StepGraphs(job, None, None, 30, 30)
    assert graphs.step(5, None) is None and graphs.replayed == 0
