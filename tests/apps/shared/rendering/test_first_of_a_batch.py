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
