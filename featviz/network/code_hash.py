"""Hash what a module computes besides its weights: the code of its parts, their attributes and their hooks."""

from __future__ import annotations

import enum
import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz.network.state_hash import all_tensors, state_hash
from featviz.network.trees import attributes_of
from featviz.network.working_copy import SharedByCopies

PLAIN = (
    int, float, complex, str, bool, bytes, type(None), type(Ellipsis), slice, range, np.generic, torch.dtype,
    torch.device, torch.memory_format, torch.layout,
)  # fmt: skip
"""Types of values that their repr describes completely."""
MAX_DEPTH = 3
"""Functions that others enclose, and objects in objects, are followed to this depth."""
MAX_ELEMENTS = 2**24
"""Arrays with more elements, as a data set that a module refers to, are described by their shape."""
DESCRIPTORS = (staticmethod, classmethod, types.MethodType)
"""Types that hold a function as `__func__`."""
REGISTERED = ("_parameters", "_buffers", "_modules", "training")
"""Attributes of modules that are no settings: weights have a hash of their own, and parts are visited themselves."""


def code_hash(module: nn.Module) -> str:
    """Return a hash of the classes of all parts of a module, their code, attributes and hooks.

    Args:
        module: Any module.
    """
    return _Describer(module).hashed()


class _Describer:
    """Describes values by nested lists and texts, without addresses in memory, which differ between processes.

    Args:
        module: The module that is described.
        known: Descriptions of modules, by their id.
    """

    def __init__(self, module: nn.Module, known: dict[int, object] | None = None) -> None:
        self._module = module
        self._known: dict[int, object] = {} if known is None else known
        self._known |= {id(part): name for name, part in module.named_modules()}
        self._classes: dict[type, str] = {}  # not kept for longer, as the constants that code reads may change
        self._open: set[int] = set()  # containers and objects that are being described, which may hold themselves

    def hashed(self) -> str:
        """Return the hash of the module."""
        digest = hashlib.sha256()
        for name, part in self._module.named_modules():
            own = [
                (key, self.value(list(value.values()) if "_hooks" in key and isinstance(value, dict) else value))
                for key, value in vars(part).items()
                if key not in REGISTERED
            ]
            kind: Any = type(part)
            digest.update(repr((name, self._class_code(kind), sorted(own, key=lambda pair: pair[0]))).encode())
        return digest.hexdigest()

    def value(self, value: object, depth: int = 0) -> object:
        """Return the description of any value."""
        if isinstance(value, PLAIN):
            return repr(value)
        if isinstance(value, Tensor | np.ndarray):
            return _described_array(value)
        if isinstance(value, nn.Module):
            return self._other_module(value)
        if isinstance(value, (types.FunctionType, functools.partial, property, *DESCRIPTORS)):
            return self.code(value, depth)
        if id(value) in self._open:
            return "itself"
        self._open.add(id(value))
        try:
            return self._nested(value, depth)
        finally:
            self._open.discard(id(value))

    def _nested(self, value: object, depth: int) -> object:
        """Return the description of a container or an object."""
        if isinstance(value, enum.Enum):
            return type(value).__qualname__, value.name
        if isinstance(value, Mapping):
            return [(self.value(key, depth), self.value(each, depth)) for key, each in value.items()]
        if isinstance(value, Set):
            return sorted(repr(self.value(each, depth)) for each in value)
        if isinstance(value, tuple | list | deque):
            return [self.value(each, depth) for each in value]
        kind: Any = type(value)
        is_opaque = isinstance(value, type | types.ModuleType | SharedByCopies) or kind.__module__ == "builtins"
        if is_opaque or depth >= MAX_DEPTH:
            return getattr(value, "__qualname__", kind.__qualname__)
        return self._class_code(kind), [
            (key, self.value(each, depth + 1)) for key, each in sorted(attributes_of(value).items())
        ]

    def _other_module(self, module: nn.Module) -> object:
        """Return the name of a part; the hash of a module that is not registered as one."""
        if id(module) not in self._known:
            self._known[id(module)] = type(module).__qualname__  # it may refer to itself
            tensors = state_hash(all_tensors(module))
            self._known[id(module)] = _Describer(module, dict(self._known)).hashed(), tensors
        return self._known[id(module)]

    def _class_code(self, kind: type) -> str:
        """Return a hash of the code of a class and of the classes it is derived from, up to those of PyTorch."""
        if kind not in self._classes:
            self._classes[kind] = kind.__qualname__  # its methods may refer to it
            own = [each for each in kind.__mro__ if not each.__module__.startswith(("torch.", "builtins"))]
            code = [
                (each.__qualname__, name, described)
                for each in own
                for name, value in vars(each).items()
                if (described := self._class_attribute(name, value)) is not None
            ]
            text = repr((kind.__module__, kind.__qualname__, code))
            self._classes[kind] = hashlib.sha256(text.encode()).hexdigest()
        return self._classes[kind]

    def _class_attribute(self, name: str, value: object) -> object:
        """Return the description of code and plain values, and the class of others; `None` to leave it out."""
        code = self.code(value)
        if code is not None:
            return code
        if name.startswith("__") and name.endswith("__"):  # Python adds some of these later, such as `__annotations__`
            return None
        is_plain = isinstance(value, PLAIN)
        return repr(value) if is_plain else getattr(value, "__qualname__", type(value).__qualname__)

    def code(self, value: object, depth: int = 0) -> object:
        """Return bytecode and constants of a function, and of those that it calls or encloses; `None` for others."""
        if isinstance(value, DESCRIPTORS):
            return self.code(value.__func__, depth)
        if isinstance(value, functools.partial):
            return [self.code(value.func, depth), self.value([value.args, value.keywords], depth)]
        if isinstance(value, property):
            return [self.code(each, depth) for each in (value.fget, value.fset)]
        if not isinstance(value, types.FunctionType):
            return None
        read = value.__code__.co_names if depth == 0 else ()
        inner = [self._global(value.__globals__[name], depth + 1) for name in read if name in value.__globals__]
        if depth < MAX_DEPTH:  # functions may enclose each other
            inner += [self.value(each, depth + 1) for each in _enclosed(value)]
        defaults = self.value([value.__defaults__, value.__kwdefaults__], depth + 1)
        return list(self._instructions(value.__code__)), inner, defaults

    def _global(self, value: object, depth: int) -> object:
        """Return the description of a function or constant that a function reads; `None` for anything else."""
        is_constant = isinstance(value, (*PLAIN, enum.Enum, tuple, list, dict, Tensor, np.ndarray))
        return self.value(value, depth) if is_constant else self.code(value, depth)

    def _instructions(self, code: types.CodeType) -> Iterator[object]:
        yield code.co_code
        yield code.co_names
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                yield from self._instructions(constant)
            else:
                yield self.value(constant)


def _described_array(array: Tensor | np.ndarray[Any, Any]) -> object:
    """Return type, shape and content of an array; of one that cannot be read the class and shape."""
    kind = type(array).__qualname__, str(array.dtype), tuple(array.shape)
    try:
        if isinstance(array, np.ndarray):
            array = torch.from_numpy(array.copy())
        return kind, state_hash({"": array}) if array.numel() <= MAX_ELEMENTS else ""
    except (RuntimeError, TypeError, NotImplementedError):  # sparse, on the meta device, of texts or objects
        return kind


def _enclosed(function: types.FunctionType) -> list[object]:
    """Return the variables of the functions around a function that it uses."""
    empty = types.CellType()  # of a variable that has no value yet
    return [cell.cell_contents for cell in function.__closure__ or () if cell != empty]
