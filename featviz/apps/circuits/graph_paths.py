"""Follow the autograd graph of a network from a unit back to a layer: its paths, and the gradient along each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_PATHS = 16
"""Largest number of paths that are told apart. In a densely connected network their number is exponential."""

Node = Any
"""A node of the autograd graph."""


@dataclass(frozen=True)
class Path:
    """A way through the autograd graph from a value back to a leaf.

    Args:
        nodes: All its nodes, the value's own first.
        choices: Where it passes a sum or a concatenation, the node and the index of the input that it takes.
    """

    nodes: tuple[Node, ...]
    choices: tuple[tuple[Node, int], ...] = ()

    def gradient(self, value: Tensor, leaf: Tensor) -> Tensor:
        """Return the gradient of a value with respect to a leaf along this path alone.

        Args:
            value: The value, of one element.
            leaf: The only leaf of the graph.
        """
        handles = [node.register_hook(_keep(index)) for node, index in self.choices]
        try:
            (found,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
        return torch.zeros_like(leaf) if found is None else found


def find_paths(value: Tensor) -> list[Path]:
    """Return all paths from a value to the leaves of its graph; none where there are more than `MAX_PATHS`.

    Args:
        value: A value with a graph. Its leaves should be those of interest only.
    """
    found: list[Path] = []
    for path in _walk(value.grad_fn):
        if len(found) == MAX_PATHS:
            return []
        found.append(path)
    return found


def names_on(path: Path, made: Mapping[Node, str]) -> list[str]:
    """Return the names of the modules that a path passes, in the order of the forward pass.

    Args:
        path: The path.
        made: Names of modules by the node of their output.
    """
    return [made[node] for node in reversed(path.nodes) if node in made]


def is_cut(value: Tensor, node: Node) -> bool:
    """Whether every path from a value to a leaf passes a node.

    Args:
        value: A value with a graph.
        node: The node.
    """
    seen, waiting = {node}, [value.grad_fn]
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        following = _inputs(each)
        if not following:
            return False
        waiting += [other for _, other in following]
    return True


def _walk(start: Node) -> Iterator[Path]:
    """Yield the paths from a node, depth first, without recursion: graphs are deeper than Python's stack."""
    waiting: list[tuple[Node, Sequence[Node], Sequence[tuple[Node, int]]]] = [(start, [], [])]
    while waiting:
        node, before, choices = waiting.pop()
        nodes = [*before, node]
        following = _inputs(node)
        while len(following) == 1:
            node = following[0][1]
            nodes.append(node)
            following = _inputs(node)
        if not following:
            yield Path(tuple(nodes), tuple(choices))
        for index, other in reversed(following):
            waiting.append((other, nodes, [*choices, (node, index)]))


def _inputs(node: Node) -> list[tuple[int, Node]]:
    """Return the nodes of a node's inputs that need a gradient, by index."""
    found = [(i, other) for i, (other, _) in enumerate(node.next_functions) if other is not None]
    # After `a.copy_(b)` no gradient reaches the former values of `a`, the first input; only `b`, the last.
    return found[-1:] if node.name() == "CopyBackwards" else found


def _keep(index: int) -> Any:
    def hook(inputs: tuple[Tensor | None, ...], _: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
        return tuple(each if i == index or each is None else torch.zeros_like(each) for i, each in enumerate(inputs))

    return hook
