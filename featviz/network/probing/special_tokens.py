"""Name the tokens that are not on the patch grid, by perturbing the parameters that may be their vectors."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from featviz.interfaces import Shape
from featviz.network.hooks import PassDone, watch_outputs
from featviz.network.layout import Layout
from featviz.network.probing.passes import FIRST_BATCH, CallIndex, Passes
from featviz.network.trees import first_tensor
from featviz.network.working_copy import working_copy
from featviz.random import Chance

MAX_TOKEN_PARAMETERS = 32
"""Maximum number of parameters that are tried as the vector of a class token or register."""
READ_RATIO = 10
"""A token counts as read by the output if its gradient is this many times that of the mean patch."""


def name_special_tokens(passes: Passes, sequences: dict[CallIndex, Shape], layouts: dict[CallIndex, Layout]) -> None:
    """Name the tokens besides those of the grid: `cls`, and `reg0`, `reg1` … for all others.

    Args:
        passes: Runs the network.
        sequences: Shapes of outputs that may be token sequences, batch first.
        layouts: Their layouts, to which the names are added.
    """
    extras: dict[tuple[int, int, int], list[CallIndex]] = {}  # by length, prefix and number of tokens without a place
    for call in sequences:
        layout = layouts.get(call)
        grid = layout.grid(passes.spec.size) if layout and layout.kind == "tokens" else None
        if layout and grid:
            length, patches = sequences[call][1 + 2 - layout.channel], math.prod(grid)
            if length > patches:
                extras.setdefault((length, layout.prefix, length - patches), []).append(call)
    for (length, prefix, count), calls in extras.items():
        after = count - prefix
        indices = [*range(prefix), *range(-after, 0)]
        dim = 1 + 2 - layouts[calls[0]].channel
        class_tokens = _class_tokens(passes, calls, dim, length, indices)
        names, registers = [], 0
        for index in indices:
            if index in class_tokens:
                names.append(("cls", index))
            else:
                names.append((f"reg{registers}", index))
                registers += 1
        for call in calls:
            layouts[call] = replace(layouts[call], special=tuple(names))


def _class_tokens(passes: Passes, calls: list[CallIndex], dim: int, length: int, indices: list[int]) -> list[int]:
    """Return the index of the class token; none if there is no such token."""
    known: dict[int, str] = {}
    places = {index % length: index for index in indices}
    unchanged = _tokens(passes, calls[0], dim)
    for name in _token_parameters(passes, len(indices)):
        tokens = _tokens(passes, calls[0], dim, name)
        if tokens is None or unchanged is None:
            continue
        changed = set(tokens.ne(unchanged).any(1).nonzero().flatten().tolist())
        if changed and changed <= places.keys():
            known.update({places[position]: name.rpartition(".")[2].lower() for position in changed})
        if len(known) == len(indices):
            break
    named = [index for index in indices if re.search("cls|class", known.get(index, ""))]
    if named:
        return named[:1]
    unknown = [i for i in indices if not re.search("reg|stor|dist|det|mem|mask|prompt", known.get(i, ""))]
    return read_token(passes, calls[-1], dim, unknown)[:1] if unknown else []


def _token_parameters(passes: Passes, count: int) -> list[str]:
    """Return the names of parameters that may hold the vectors of up to `count` tokens, the likely ones first."""
    candidates = []
    for owner, part in passes.parts.items():
        if type(part).__module__.startswith("torch.nn"):
            continue
        for name, weight in part.named_parameters(recurse=False):
            rows = weight.numel() // max(1, weight.shape[-1]) if weight.ndim else 0
            if 1 <= rows <= count and (weight.ndim > 1 or "class" in name or "cls" in name):
                candidates.append(f"{owner}.{name}" if owner else name)
    likely = re.compile("cls|class|reg|token|stor")
    return sorted(candidates, key=lambda name: not likely.search(name.rpartition(".")[2]))[:MAX_TOKEN_PARAMETERS]


def _tokens(passes: Passes, call: CallIndex, dim: int, parameter: str | None = None) -> Tensor | None:
    """Return the tokens of an output for a grey image, (tokens, values), after a change of one parameter."""
    copy = working_copy(passes.module, share_weights=False)
    if parameter is not None:
        weight = copy.get_parameter(parameter)
        weight.data = weight.data + 1
    found = _output(passes, call, copy)
    return None if found is None else found[:1].movedim(dim, 1).flatten(2)[0]


def _output(passes: Passes, call: CallIndex, copy: nn.Module) -> Tensor | None:
    """Return one output for a grey image, batch first, and end the pass there."""
    found: list[Tensor] = []

    def note(name: str, number: int, output: object) -> None:
        tensor = first_tensor(output)
        if (name, number) == call and tensor is not None:
            found.append(tensor.detach().transpose(0, 1) if call in passes.tokens_first else tensor.detach())
            raise PassDone

    passes.watch(passes.grey(FIRST_BATCH, passes.spec.size), note, copy)
    return found[0] if found else None


def read_token(passes: Passes, call: CallIndex, dim: int, indices: list[int]) -> list[int]:
    """Return which tokens of an output the network's own output reads much more than the patches.

    Args:
        passes: Runs the network.
        call: Which output.
        dim: Its dimension of tokens.
        indices: The tokens to try. The others are the patches.
    """
    copy, tensors, outputs = passes.copy_module(), [], []

    def note(name: str, number: int, output: object) -> None:
        tensor = first_tensor(output)
        if (name, number) == call and tensor is not None and tensor.requires_grad:
            tensors.append(tensor)
        if not name and tensor is not None and tensor.is_floating_point():
            outputs.append(tensor)

    with Chance(passes.device)():
        images = passes.normalise(passes.grey(1, passes.spec.size))
        watch_outputs(copy, images, note, keep_graph=True)
    if not tensors or not outputs or outputs[0].ndim != 2 or not outputs[0].requires_grad:
        return []
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(outputs[0].square().sum(), tensors[-1], allow_unused=True)
    if gradient is None:
        return []
    gradient = gradient.transpose(0, 1) if call in passes.tokens_first else gradient
    read = gradient.movedim(dim, 1)[0].flatten(1).norm(dim=1)
    special = {index % len(read) for index in indices}
    patches = [value for i, value in enumerate(read.tolist()) if i not in special]
    return [index for index in indices if read[index] > READ_RATIO * sum(patches) / max(1, len(patches))]
