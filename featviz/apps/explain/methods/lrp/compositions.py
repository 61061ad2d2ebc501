"""Gates and recurrent layers, composed of functions that have a gradient rule each.

PyTorch computes them by one function, whose parts cannot be given rules. To add one, write it in terms of other
functions and add it to `COMPOSED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from featviz.apps.explain.methods.lrp.relevance import FunctionCall
from featviz.apps.shared.operations.attention_functions import multi_head_attention
from featviz.apps.shared.operations.torch_functions import functions_named
from featviz.errors import SettingError

Cell = Callable[[Tensor, tuple[Tensor, ...], Tensor, Tensor | None], tuple[Tensor, ...]]
"""(weighted input, state, recurrent weight, recurrent bias or `None`) → next state, of one time step."""


def gated_linear_unit(*args: Any, **kwargs: Any) -> Tensor:
    """Compute `F.glu`: the first half of the channels, with the second half as gate."""
    given = FunctionCall(F.glu, args, kwargs).given("input", "dim")
    signal, gate = given["input"].chunk(2, given.get("dim", -1))
    return signal * gate.sigmoid()  # type: ignore[no-any-return]


def matrix_sum(*args: Any, **kwargs: Any) -> Tensor:
    """Compute `torch.addmm` and `torch.baddbmm`: a product of matrices and a term, such as a bias."""
    given = FunctionCall(torch.addmm, args, kwargs).given("input", "mat1", "mat2")
    one, other = (given[old if old in given else new] for old, new in (("mat1", "batch1"), ("mat2", "batch2")))
    term, beta, alpha = given["input"], given.get("beta", 1), given.get("alpha", 1)
    if term.ndim == 1 and not term.requires_grad and not other.requires_grad:
        return F.linear(one, alpha * other.mT, beta * term)
    return beta * term + alpha * torch.matmul(one, other)  # type: ignore[no-any-return]


# ----------------------------------------------------------------------------------------------------------- recurrent


def lstm_cell(x: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Return the next hidden and cell state. The gates count as constant, so the signal gets all relevance.

    Differs: with epsilon > 0, the sums over the input and over the hidden state are stabilised each on its own.

    Source: Arras et al. 2017, https://arxiv.org/abs/1706.07206, "LRP-all" of Arras et al. 2019,
        https://arxiv.org/abs/1909.12114.
    """
    hidden, cell = state
    enter, forget, content, leave = (x + F.linear(hidden, weight, bias)).chunk(4, -1)
    cell = forget.sigmoid().detach() * cell + enter.sigmoid().detach() * content.tanh()
    return leave.sigmoid().detach() * cell.tanh(), cell


def gru_cell(x: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Return the next hidden state. The gates count as constant."""
    (hidden,) = state
    parts, recurrent = x.chunk(3, -1), F.linear(hidden, weight, bias).chunk(3, -1)
    reset, keep = ((parts[i] + recurrent[i]).sigmoid().detach() for i in (0, 1))
    content = (parts[2] + reset * recurrent[2]).tanh()
    return ((1 - keep) * content + keep * hidden,)


def tanh_cell(x: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Return the next hidden state."""
    return ((x + F.linear(state[0], weight, bias)).tanh(),)


def relu_cell(x: Tensor, state: tuple[Tensor, ...], weight: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    """Return the next hidden state."""
    return ((x + F.linear(state[0], weight, bias)).relu(),)


def _layers(cell: Cell, states: int) -> Callable[..., tuple[Tensor, ...]]:
    """Return a function with the arguments of PyTorch's own recurrent function that runs a cell step by step.

    Args:
        cell: The cell.
        states: Number of tensors in its state: 2 for an LSTM, 1 for the others.
    """

    def run(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
        packed = isinstance(args[1], Tensor | list | tuple) and isinstance(args[0], Tensor) and args[0].ndim == 1
        initial, weights, biased, layers, _, _, both, *rest = args[1:] if packed else args
        steps = _unpacked(x, args[0]) if packed else x.transpose(0, 1) if rest and rest[0] else x
        given = (initial,) if isinstance(initial, Tensor) else tuple(initial)
        per_run = len(weights) // (layers * (1 + both))
        final: list[list[Tensor]] = [[] for _ in range(states)]
        for layer in range(layers):
            outs = []
            for direction in range(1 + both):
                number = layer * (1 + both) + direction
                own = weights[number * per_run : (number + 1) * per_run]
                out, last = _one_direction(cell, steps, tuple(s[number] for s in given), own, biased, direction == 1)
                outs.append(out)
                for kept, one in zip(final, last, strict=True):
                    kept.append(one)
            steps = torch.cat(outs, -1)
        out = steps.flatten(0, 1) if packed else steps.transpose(0, 1) if rest and rest[0] else steps
        return out, *(torch.stack(kept) for kept in final)

    return run


def _unpacked(x: Tensor, sizes: Tensor) -> Tensor:
    """Return the steps of a packed sequence, (steps, n, channels).

    Raises:
        SettingError: The sequences have different lengths.
    """
    if len(set(sizes.tolist())) > 1:
        raise SettingError("LRP takes packed sequences of one length; explain each sequence on its own")
    return x.unflatten(0, (len(sizes), -1))


def _one_direction(
    cell: Cell, steps: Tensor, state: tuple[Tensor, ...], own: Sequence[Tensor], biased: bool, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a cell over all steps, the last one first if `backwards`; return the outputs and the last state."""
    count = 4 if biased else 2
    weight_in, weight_hidden, *biases = own[:count]
    bias_in, bias_hidden = biases or (None, None)
    projection = own[count] if len(own) > count else None  # of an LSTM with `proj_size`
    weighted = F.linear(steps, weight_in, bias_in).unbind(0)
    found = []
    for x in reversed(weighted) if backwards else weighted:
        state = cell(x, state, weight_hidden, bias_hidden)
        if projection is not None:
            state = (F.linear(state[0], projection), *state[1:])
        found.append(state[0])
    return torch.stack(found[::-1] if backwards else found), state


def _single(cell: Cell) -> Callable[..., Any]:
    """Return a function with the arguments of PyTorch's cell function."""

    def run(x: Tensor, state: Any, weight_in: Tensor, weight: Tensor, *biases: Any, **named: Any) -> Any:
        bias_in, bias = (*biases, *named.values(), None, None)[:2]
        given = (state,) if isinstance(state, Tensor) else tuple(state)
        found = cell(F.linear(x, weight_in, bias_in), given, weight, bias)
        return found[0] if isinstance(state, Tensor) else found

    return run


def _named(pairs: Mapping[str, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    return {function: made for name, made in pairs.items() for function in functions_named(name, [torch])}


COMPOSED: Mapping[Any, Callable[..., Any]] = {
    F.multi_head_attention_forward: multi_head_attention,
    F.glu: gated_linear_unit,
    **dict.fromkeys((torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm), matrix_sum),
    **_named(
        {
            "lstm": _layers(lstm_cell, 2),
            "gru": _layers(gru_cell, 1),
            "rnn_tanh": _layers(tanh_cell, 1),
            "rnn_relu": _layers(relu_cell, 1),
            "lstm_cell": _single(lstm_cell),
            "gru_cell": _single(gru_cell),
            "rnn_tanh_cell": _single(tanh_cell),
            "rnn_relu_cell": _single(relu_cell),
        }
    ),
}
"""Functions that are composed of others."""
