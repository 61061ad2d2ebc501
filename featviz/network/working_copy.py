"""Copy a module without its weights, so that preparing it to run never changes the user's module."""

from __future__ import annotations

import copy
import functools
import random
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz.network.trees import dict_of, rebuilt, slot_values, slots_of

MAX_OBJECT_DEPTH = 2
"""Objects of other classes are copied down to this depth below a module; deeper ones, as in a trainer, are shared."""
RANDOM_STATES = (np.random.Generator, np.random.RandomState, random.Random)
"""Generators that `copy.deepcopy` copies with their state."""
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device})
"""Types of most attributes of modules. Their values are immutable, so they are returned without further checks."""
CONTAINERS = (dict, list, deque, set, frozenset, tuple)
"""Types of containers that are copied together with their elements."""


class SharedByCopies:
    """Base class of values that working copies of a module share with it, as they never change."""

    __slots__ = ()


_stance_lock = Lock()
_open_contexts: list[Any] = []
"""One item per open `uncompiled`, in all threads. The first one restores the stance of the compiler."""


def working_copy(module: nn.Module, *, share_weights: bool = True) -> nn.Module:
    """Copy a module for running it: in eval mode, with frozen weights that are shared, and with its own state.

    Hooks, flags, folded normalisations and what a forward pass writes to buffers and attributes stay on the copy. The
    user's module can meanwhile run elsewhere, in another thread too.

    - Parameters share their memory with the original, and need no gradient. Other tensors are copied.
    - Containers, random generators and objects of other classes are copied as far as they are reachable from a module.
    - Bound methods, partial functions, closures and weak references that refer to a module, directly or in a container
      or object, refer to its copy, so a `forward` that was replaced on an instance runs the copy.
    - Modules compiled by `torch.compile` run uncompiled.

    Args:
        module: The module; it is not changed.
        share_weights: If false, the parameters are copied, too.

    Returns:
        The copy.
    """
    made = _Copier(share_weights)(module)
    for part in made.modules():
        _stop_observing(part)
    return made  # type: ignore[no-any-return]


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run functions compiled by `torch.compile` as they were written, within a context.

    A render runs few passes of each shape, so compiling would take longer than it saves, and hooks break it.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled; loading it takes seconds
        yield
        return
    # The stance is global, and contexts of several threads may end in any order: whichever ends last restores it.
    with _stance_lock:
        _open_contexts.append(None if _open_contexts else torch.compiler.set_stance("force_eager"))
    try:
        yield
    finally:
        with _stance_lock:
            stance = _open_contexts.pop()
            if stance is not None:
                stance.__exit__(None, None, None)


class _Copier:
    """Copies values that are reachable from a module. What is referred to twice is copied once."""

    def __init__(self, share_weights: bool) -> None:
        self._share_weights = share_weights
        self._made: dict[int, Any] = {}  # by the id of the original
        self._originals: list[Any] = []  # kept alive: another thread may replace them, and ids are used again

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """Return the copy of a value, or the value itself if it holds no state of its own.

        Args:
            value: Anything.
            depth: Number of objects of other classes between the module and the value.
        """
        if type(value) in ATOMS:
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, CONTAINERS):
            return self._container(value, depth)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self._callee(value.__self__))
        if isinstance(value, functools.partial):
            given = {key: self(each, depth) for key, each in value.keywords.items()}
            return functools.partial(self(value.func, depth), *(self(each, depth) for each in value.args), **given)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, functools._lru_cache_wrapper):
            wrapped = self(value.__wrapped__)
            same = wrapped is value.__wrapped__
            return value if same else functools.lru_cache(**value.cache_parameters())(wrapped)
        if isinstance(value, weakref.ref):
            return _Reference(self(target)) if isinstance(target := value(), nn.Module) else value
        if isinstance(value, torch.Generator):
            return self._remember(value, value.clone_state())
        if isinstance(value, (np.ndarray, *RANDOM_STATES)):
            return self._remember(value, copy.deepcopy(value))
        return self._object(value, depth) if depth < MAX_OBJECT_DEPTH and _is_plain(value) else value

    def _remember(self, value: Any, made: Any) -> Any:
        self._made[id(value)] = made
        self._originals.append(value)
        return made

    def _module(self, module: nn.Module) -> nn.Module:
        if isinstance(module, torch.jit.ScriptModule):
            with torch.no_grad():  # its state is in C++, where weights are cloned
                scripted = copy.deepcopy(module).eval()
            for weight in scripted.parameters():  # it has no method `requires_grad_`
                weight.requires_grad_(False)
            return self._remember(module, scripted)  # type: ignore[no-any-return]
        made = self._remember(module, object.__new__(_Uncompiled if _is_compiled(module) else type(module)))
        # Written to `__dict__`, because a user's `__setattr__` or `train` may do more.
        vars(made).update({name: self(value) for name, value in list(vars(module).items())})
        self._fill_slots(made, module, 0)
        vars(made)["training"] = False
        vars(made).pop("_compiled_call_impl", None)  # set by `module.compile()`
        if isinstance(made, _Uncompiled):
            vars(made).pop("forward", None)
        return made  # type: ignore[no-any-return]

    def _tensor(self, tensor: Tensor) -> Tensor:
        # Inference tensors cannot take part in a backward pass; their copies can.
        shared = isinstance(tensor, nn.Parameter) and self._share_weights and not tensor.is_inference()
        with torch.inference_mode(False):
            made = tensor.detach() if shared else tensor.detach().clone()
            if isinstance(tensor, nn.Parameter) and not isinstance(made, nn.Parameter):
                made = nn.Parameter(made, requires_grad=False)
                with suppress(TypeError):  # a class with slots
                    made.__class__ = type(tensor)
        self._remember(tensor, made)
        attributes = {name: self(value) for name, value in list(vars(tensor).items()) if name not in vars(made)}
        vars(made).update(attributes)
        return made

    def _container(self, value: Any, depth: int) -> Any:
        # Items are those of a snapshot, because another thread may write to the original.
        if isinstance(value, tuple | frozenset):
            old = list(value)
            items = [self(item, depth) for item in old]
            if all(new is item for new, item in zip(items, old, strict=True)):
                return value
            return rebuilt(value, items)
        # `copy.copy` calls `__reduce_ex__` of an `OrderedDict`, which is slow; its own `copy` leaves out attributes.
        plain = type(value) is dict or (type(value) is OrderedDict and not vars(value))
        try:
            made = self._remember(value, value.copy() if plain else copy.copy(value))
        except Exception:  # of a class of the user's that cannot be copied
            return value
        if plain and not made:  # as most dicts of hooks
            return made
        if isinstance(value, dict):
            base: Any = OrderedDict if isinstance(value, OrderedDict) else dict  # a subclass may do more
            entries = list(base.items(made))
            if any(isinstance(key, nn.Module) for key, _ in entries):
                base.clear(made)
            for key, item in entries:
                base.__setitem__(made, self(key) if isinstance(key, nn.Module) else key, self(item, depth))
        else:
            items = [self(item, depth) for item in list(made)]
            made.clear()
            (made.update if isinstance(value, set) else made.extend)(items)
        return made

    def _function(self, function: types.FunctionType) -> Any:
        """Return a function that refers to copies of modules; the function itself if it refers to none."""
        original = vars(function).get("_torchdynamo_orig_callable")
        if original is not None:  # made by torch.compile
            return self(original)
        if not _refers_to_module(function):
            return function
        cells = function.__closure__ or ()
        renewed = [_is_filled(cell) and _refers_to_module(cell.cell_contents) for cell in cells]
        made_cells = tuple(types.CellType() if new else cell for new, cell in zip(renewed, cells, strict=True))
        code, name = function.__code__, function.__name__
        made = types.FunctionType(code, function.__globals__, name, None, made_cells or None)
        self._remember(function, made)  # before it is complete, since functions may refer to each other
        for new, made_cell, cell in zip(renewed, made_cells, cells, strict=True):
            if new:
                made_cell.cell_contents = self._callee(cell.cell_contents)
        made.__defaults__ = function.__defaults__ and tuple(map(self._callee, function.__defaults__))
        given = function.__kwdefaults__
        made.__kwdefaults__ = given and {key: self._callee(each) for key, each in given.items()}
        vars(made).update(vars(function))
        return made

    def _callee(self, value: Any) -> Any:
        """Copy a value that refers to a module. Others are shared, such as a list of the user that a hook fills."""
        return self(value) if _refers_to_module(value) else value

    def _object(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)
        made = self._remember(value, kind.__new__(kind))
        attributes = dict_of(value)
        if attributes is not None:
            vars(made).update({name: self(each, depth + 1) for name, each in list(attributes.items())})
        self._fill_slots(made, value, depth + 1)
        return made

    def _fill_slots(self, made: Any, value: Any, depth: int) -> None:
        """Copy the attributes in `__slots__`."""
        kind: Any = type(value)
        for name, each in slot_values(value).items():
            slots_of(kind)[name].__set__(made, self(each, depth))


def _is_plain(value: Any) -> bool:
    """Whether an object is its attributes only: it can be copied without running code of its class."""
    kind: Any = type(value)
    if isinstance(value, type | types.ModuleType | SharedByCopies) or kind.__module__ == "builtins":
        return False
    # Objects with slots alone are values, often compared by identity, unless they hold a module.
    if dict_of(value) is None and not any(_refers_to_module(each, depth=1) for each in slot_values(value).values()):
        return False
    own = any(hasattr(kind, name) for name in ("__del__", "__deepcopy__", "__copy__"))
    plain_new = kind.__new__ in (object.__new__, types.SimpleNamespace.__new__)
    return not own and plain_new and kind.__reduce_ex__ is object.__reduce_ex__


def _refers_to_module(value: Any, seen: set[int] | None = None, depth: int = 0) -> bool:
    """Whether a module is reached from a value, through at most one object of another class.

    Args:
        value: Anything.
        seen: Ids of values that were looked at.
        depth: Number of objects of other classes on the way to the value.
    """
    if isinstance(value, nn.Module):
        return True
    seen = set() if seen is None else seen
    if id(value) in seen:
        return False
    seen.add(id(value))
    found = _referents(value)
    if not found and depth == 0 and _is_plain(value):
        found, depth = [*(dict_of(value) or {}).values(), *slot_values(value).values()], 1
    return any(_refers_to_module(each, seen, depth) for each in found)


def _referents(value: Any) -> list[Any]:
    """Return the values that a container holds, or that a function, method or weak reference refers to."""
    if isinstance(value, dict):
        return [*list(value), *list(value.values())]
    if isinstance(value, CONTAINERS):
        return list(value)
    if isinstance(value, types.MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.FunctionType):
        enclosed = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        compiled = vars(value).get("_torchdynamo_orig_callable")
        return [*enclosed, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), compiled]
    if isinstance(value, functools._lru_cache_wrapper):
        return [value.__wrapped__]
    return [value()] if isinstance(value, weakref.ref) else []


def _is_filled(cell: types.CellType) -> bool:
    """Whether a variable of a closure has a value yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module was returned by `torch.compile`."""
    return "_orig_mod" in module._modules and type(module).__module__.startswith("torch._dynamo")


class _Uncompiled(nn.Module):
    """Takes the place of a compiled module, and runs the original one."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original module."""
        return self._modules["_orig_mod"](*args, **kwargs)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the original module, as the compiled one does."""
        original = vars(self)["_modules"]["_orig_mod"]
        return original if name == "_orig_mod" else getattr(original, name)

    def __len__(self) -> int:
        """Return the length of the original module."""
        return len(self._orig_mod)


class _Reference(weakref.ref[nn.Module]):
    """A weak reference to the copy of a module that also keeps the copy alive."""

    def __init__(self, target: nn.Module) -> None:
        super().__init__(target)  # type: ignore[call-arg]
        self.target = target


def _stop_observing(part: nn.Module) -> None:
    """Keep a calibrated fake quantisation from adapting its range to each batch, as it does in eval mode too."""
    if isinstance(part, torch.jit.ScriptModule):
        return
    observer, enabled = part._modules.get("activation_post_process"), part._buffers.get("observer_enabled")
    if observer is None or enabled is None:
        return
    low = observer._buffers.get("min_val")
    if low is not None and low.numel() and bool(low.isfinite().all()):
        enabled.zero_()
