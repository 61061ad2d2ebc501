"""Give a module another `forward`, without changing the user's module."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

_OWN_FORWARD = "_featviz_own_forward"
"""Name of the attribute that keeps what was set as `forward` on the user's module itself; `None` for nothing."""


def with_forward(module: nn.Module, forward: Callable[..., Any], state: Mapping[str, Any]) -> nn.Module:
    """Return a module with the same parts and weights, and another `forward`.

    Only the outermost object is another one: it shares its dictionaries of parts, weights and hooks with the user's
    module, which is not changed. A pass runs on working copies of it, never on itself.

    Args:
        module: The user's module, or one that this function returned.
        forward: Function of a module and its arguments. `own_forward` is what it replaces.
        state: Attributes that the function reads, by name.

    Returns:
        A module of the same class.
    """
    made: nn.Module = object.__new__(type(module))
    vars(made).update(vars(module))
    if _OWN_FORWARD not in vars(module):
        vars(made)[_OWN_FORWARD] = vars(module).get("forward")
    vars(made).update(state)
    # A method, because working copies bind methods to themselves.
    vars(made)["forward"] = types.MethodType(forward, made)
    return made


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """Return the `forward` of the user's module, bound to a module that `with_forward` returned, or to a copy of it."""
    return vars(module)[_OWN_FORWARD] or types.MethodType(type(module).forward, module)


def without_forward(module: nn.Module, *state: str) -> nn.Module:
    """Return a module as it was before `with_forward`.

    Args:
        module: A module that `with_forward` returned.
        state: Names of the attributes that the function reads.
    """
    own = vars(module)[_OWN_FORWARD]
    dropped = {_OWN_FORWARD, "forward", *state}
    made: nn.Module = object.__new__(type(module))
    vars(made).update({name: value for name, value in vars(module).items() if name not in dropped})
    vars(made).update({} if own is None else {"forward": own})
    return made
