"""Batches of images that are rendered in one call."""

from dataclasses import replace

import pytest
import toys

import featviz as fv
from featviz.apps.shared.rendering.batch import BATCH_SIZE, Batch
from featviz.io import Store


@pytest.mark.parametrize(("images", "counted"), [(3, 3), (40, BATCH_SIZE)])
def test_precision_is_measured_with_as_many_images_as_run_together(tmp_path, monkeypatch, images, counted):
    counts = []

    def measured(network, layers, count, view, execution, passes):
        counts.append(count)
        return replace(execution, precision="float32")

    monkeypatch.setattr("featviz.engine.job.autotune", measured)
    net = toys.plain()
    objectives = [fv.objectives.Channel("conv2", i % 3) for i in range(images)]
    batch = Batch.of(net, objectives, range(images), Store(tmp_path), steps=4)
    assert counts == [counted]
    monkeypatch.undo()
    alone = fv.render(net, objectives[1], seed=1, steps=4, execution=fv.Execution("float32"))
    assert batch.names[1] == alone.recipe.hash


def test_a_param_that_shares_tensors_is_measured_with_one_image(tmp_path):
    net, objectives = toys.plain(), [fv.objectives.Channel("conv2", i) for i in range(3)]
    shared = fv.param.Image(16, spatial=fv.param.Shared())
    batch = Batch.of(net, objectives, range(3), Store(tmp_path), steps=4, param=shared)
    alone = fv.render(net, objectives[1], seed=1, steps=4, param=shared, execution=fv.Execution("float32"))
    assert batch.names[1] == alone.recipe.hash


def test_a_joint_batch_is_measured_with_all_of_its_images(tmp_path):
    net, objective = toys.plain(), fv.objectives.Channel("conv2", 1) * (1.5 + fv.objectives.Diversity("conv1"))
    batch = Batch.of(net, [objective], range(3), Store(tmp_path), steps=4, param=fv.param.Image(16, batch=3))
    assert batch.is_joint
    assert len(batch) == len(set(batch.names)) == 3
