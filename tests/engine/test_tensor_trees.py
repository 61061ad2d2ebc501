"""Values that hold tensors in tuples, lists and dicts."""

from typing import NamedTuple

import pytest
import torch

from featviz import transforms as T
from featviz.engine.tensor_trees import map_tensors, same, to_device
from featviz.random import Generators


class Named(NamedTuple):
    """A draw whose numbers have names."""

    at: torch.Tensor
    count: int


def test_trees_keep_their_structure():
    tree = {"a": [torch.ones(2), (1, None, "x")], "b": T.Warp((T.Shift(0.2),)).draw(Generators([1]), (3, 8, 9))}
    doubled = map_tensors(lambda tensor: 2 * tensor, tree)
    assert same(tree, tree) and not same(tree, doubled)
    assert torch.equal(doubled["b"].coordinates, 2 * tree["b"].coordinates) and doubled["a"][1] == (1, None, "x")
    named = map_tensors(torch.clone, Named(torch.ones(2), 3))
    assert to_device(named, torch.device("cpu")) is not named and type(to_device(named, torch.device("cpu"))) is Named
    moved = to_device(tree, torch.device("cpu"))
    assert moved["b"].used == ((0, 0),) and tree["b"].used is None and torch.equal(moved["a"][0], torch.ones(2))
    with pytest.raises(TypeError, match="object is neither a tensor nor a plain value"):
        map_tensors(torch.clone, [object()])
