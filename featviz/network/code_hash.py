"""Hash what a module computes besides its weights: the code of its parts, their attributes, hooks and other buffers."""

from __future__ import annotations

import argparse
import dis
import enum
import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import islice
from pathlib import PurePath
from sys import stdlib_module_names
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from featviz.network.state_hash import state_hash, weights_of
from featviz.network.trees import dict_of, slot_values
from featviz.network.working_copy import SharedByCopies

PLAIN = (
    int, float, complex, str, bool, bytes, type(None), type(Ellipsis), slice, range, PurePath, np.generic, torch.dtype,
    torch.device, torch.memory_format, torch.layout,
)  # fmt: skip
"""Types of values that their text describes completely."""
SETTINGS = (types.SimpleNamespace, argparse.Namespace)
"""Classes of Python's library whose objects are settings. Others, such as loggers and threads, are not described."""
FUNCTION_DEPTH, OBJECT_DEPTH, NESTING = 3, 3, 30
"""Depth to which functions in functions, objects in objects and containers in containers are described."""
MAX_ITEMS, MAX_ELEMENTS = 10_000, 2**22
"""Of a longer container, the first items are described, and of an array with more elements, as of a data set, the
shape."""
DESCRIPTORS = (staticmethod, classmethod, types.MethodType)
"""Types that hold a function as `__func__`."""
REGISTERED = ("_parameters", "_buffers", "_modules", "training")
"""Attributes of modules that are no settings: weights have a hash of their own, and parts are visited themselves."""


def code_hash(module: nn.Module) -> str:
    """Return a hash of the classes of all parts of a module, their code, attributes, hooks and non-persistent buffers.

    Args:
        module: Any module.
    """
    return _Describer(module).hashed()


class _Describer:
    """Describes values by nested lists and texts, without addresses in memory, which differ between processes.

    Args:
        module: The module that is described.
        known: Descriptions of modules and tensors, by their id.
    """

    def __init__(self, module: nn.Module, known: dict[int, object] | None = None) -> None:
        self._module = module
        self._known: dict[int, object] = {} if known is None else known
        for values in (module.named_modules(), module.named_parameters(), module.named_buffers()):
            self._known |= {id(value): name for name, value in values}
        self._classes: dict[type, str] = {}  # not kept for longer, as the constants that code reads may change
        self._open: set[int] = set()  # containers and objects that are being described, which may hold themselves

    def hashed(self) -> str:
        """Return the hash of the module."""
        digest = hashlib.sha256()
        for name, part in self._module.named_modules():
            kind: Any = type(part)
            described: list[object] = [name, self._class_code(kind)]
            for key, value in sorted(vars(part).items(), key=lambda item: str(item[0])):
                if key not in REGISTERED:
                    # Keys of hooks are numbers that count up in a process.
                    is_hooks = "_hooks" in key and isinstance(value, dict)
                    described.append((key, self._or_class(list(value.values()) if is_hooks else value)))
            for key in sorted(vars(part).get("_non_persistent_buffers_set", ())):
                described.append((key, _described_array(part._buffers.get(key))))
            digest.update(repr(described).encode())
        return digest.hexdigest()

    def _or_class(self, value: object) -> object:
        """Return the description of a value; of one that cannot be described, its class."""
        try:
            return self.value(value)
        except Exception:  # also of code of the user's classes, and for values that are nested too deeply
            self._open.clear()
            return type(value).__qualname__

    def value(self, value: object, depth: int = 0) -> object:
        """Return the description of any value."""
        if isinstance(value, PLAIN):
            return type(value).__name__, str(value)
        if id(value) in self._known:
            return self._known[id(value)]
        if isinstance(value, Tensor | np.ndarray):
            return _described_array(value)
        if isinstance(value, nn.Module):
            return self._other_module(value)
        code = self.code(value, depth)
        if code is not None:
            return code
        if id(value) in self._open or len(self._open) > NESTING:
            return type(value).__qualname__
        self._open.add(id(value))
        try:
            return self._nested(value, depth)
        finally:
            self._open.discard(id(value))

    def _nested(self, value: object, depth: int) -> object:
        """Return the description of a container or an object."""
        kind: Any = type(value)
        if isinstance(value, enum.Enum):
            return kind.__qualname__, value.name
        if isinstance(value, Mapping):
            items = [(self.value(key, depth), self.value(each, depth)) for key, each in _first(value.items())]
            return kind.__qualname__, len(value), items
        if isinstance(value, Set):
            return kind.__qualname__, len(value), sorted(repr(self.value(each, depth)) for each in _first(value))
        if isinstance(value, tuple | list | deque):
            return kind.__qualname__, len(value), [self.value(each, depth) for each in _first(value)]
        package = kind.__module__.partition(".")[0]
        is_other = isinstance(value, type | types.ModuleType | SharedByCopies) or package == "torch"
        if is_other or depth >= OBJECT_DEPTH or (package in stdlib_module_names and not isinstance(value, SETTINGS)):
            return getattr(value, "__qualname__", kind.__qualname__)
        attributes = (dict_of(value) or {}) | slot_values(value)
        # Private attributes are often caches, which change with use.
        public = sorted((str(key), each) for key, each in attributes.items() if not str(key).startswith("_"))
        return self._class_code(kind), [(key, self.value(each, depth + 1)) for key, each in public]

    def _other_module(self, module: nn.Module) -> object:
        """Return the hash of a module that is not registered as a part."""
        self._known[id(module)] = type(module).__qualname__  # it may refer to itself
        tensors = state_hash(weights_of(module))
        self._known[id(module)] = _Describer(module, dict(self._known)).hashed(), tensors
        return self._known[id(module)]

    def _class_code(self, kind: type) -> str:
        """Return a hash of the code of a class and of the classes it is derived from, up to those of PyTorch."""
        if len(self._open) > NESTING:
            return kind.__qualname__
        if kind not in self._classes:
            self._classes[kind] = kind.__qualname__  # its methods may refer to it
            self._open.add(id(kind))
            own = [each for each in kind.__mro__ if not each.__module__.startswith(("torch.", "builtins"))]
            code = [
                (each.__qualname__, name, described)
                for each in own
                for name, value in vars(each).items()
                if (described := self._class_attribute(name, value)) is not None
            ]
            self._open.discard(id(kind))
            text = repr((kind.__module__, kind.__qualname__, code))
            self._classes[kind] = hashlib.sha256(text.encode()).hexdigest()
        return self._classes[kind]

    def _class_attribute(self, name: str, value: object) -> object:
        """Return the description of code and settings, and the class of others; `None` to leave it out."""
        code = self.code(value)
        if code is not None:
            return code
        if name.startswith("__") and name.endswith("__"):  # Python adds some of these when they are read
            return None
        if isinstance(value, (*PLAIN, tuple, list, dict, set, frozenset)):
            return self.value(value, OBJECT_DEPTH)
        return getattr(value, "__qualname__", type(value).__qualname__)

    def code(self, value: object, depth: int = 0) -> object:
        """Return bytecode and constants of a function, and of those that it calls or encloses; `None` for others."""
        if isinstance(value, DESCRIPTORS):
            return self.code(value.__func__, depth)
        if isinstance(value, functools.partial):
            return [self.code(value.func, depth), self.value([value.args, value.keywords], depth)]
        if isinstance(value, property):
            return [self.code(each, depth) for each in (value.fget, value.fset)]
        if isinstance(value, functools._lru_cache_wrapper):
            return self.code(value.__wrapped__, depth)
        if not isinstance(value, types.FunctionType):
            return None
        names = sorted(_globals_in(value.__code__)) if depth < FUNCTION_DEPTH else ()
        inner = [self._global(value.__globals__[name], depth + 1) for name in names if name in value.__globals__]
        if depth < FUNCTION_DEPTH:  # functions may enclose each other
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


def _first(items: Iterable[Any]) -> Iterator[Any]:
    return islice(items, MAX_ITEMS)


def _described_array(array: object) -> object:
    """Return type, shape and content of an array; of one that cannot be read the class."""
    kind = type(array).__qualname__
    try:
        if isinstance(array, np.ndarray):
            text = array.dtype.str, array.shape
            if array.size > MAX_ELEMENTS or array.dtype.hasobject:
                return kind, text
            return kind, text, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        assert isinstance(array, Tensor)
        text = str(array.dtype), tuple(array.shape)
        return kind, text, state_hash({"": array.detach().to_dense()}) if array.numel() <= MAX_ELEMENTS else ""
    except Exception:  # nested, quantised or without values
        return kind


def _globals_in(code: types.CodeType) -> set[str]:
    """Return the names of the global variables that code reads, also those of functions inside of it."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return names.union(*(_globals_in(each) for each in code.co_consts if isinstance(each, types.CodeType)))


def _enclosed(function: types.FunctionType) -> list[object]:
    """Return the variables of the functions around a function that it uses."""
    empty = types.CellType()  # of a variable that has no value yet
    return [cell.cell_contents for cell in function.__closure__ or () if cell != empty]
