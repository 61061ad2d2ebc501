"""Functions that refer to modules: the working copy has copies that refer to its own modules."""

from __future__ import annotations

import functools
import types
import weakref
from collections import OrderedDict

import pytest
import torch
import toys
from torch import nn
from working_copies import IMAGES, Wrapper, module_of, ran

import featviz as fv
from featviz.network.working_copy import working_copy

# ---------------------------------------------------------------------------------------------- hidden modules


def in_list(part):
    held = [part]
    return lambda self, x: self.held[0](x), held


def in_nested(part):
    return lambda self, x: self.held["a"][0][1](x), {"a": [(None, part)]}


def in_closure(part):
    return lambda self, x: self.held(x), lambda x: part(x)


def in_listed_closure(part):
    parts = [part]
    return lambda self, x: self.held(x), lambda x: parts[0](x)


def in_dict_closure(part):
    parts = {"a": (part,)}
    return lambda self, x: self.held(x), lambda x: parts["a"][0](x)


def in_default(part):
    return lambda self, x: self.held(x), lambda x, run=part: run(x)


def in_keyword_default(part):
    return lambda self, x: self.held(x), lambda x, *, run=part: run(x)


def in_partial(part):
    return lambda self, x: self.held(x=x), functools.partial(lambda run, x: run(x), part)


def in_partial_keyword(part):
    return lambda self, x: self.held(x), functools.partial(lambda x, run: run(x), run=part)


def in_partial_closure(part):
    call = functools.partial(lambda run, x: run(x), part)
    return lambda self, x: self.held(x), lambda x: call(x)


def in_object(part):
    return lambda self, x: self.held.part(x), types.SimpleNamespace(part=part)


def in_callable_object(part):
    return lambda self, x: self.held(x), Callable(part)


def in_method(part):
    return lambda self, x: self.held(x), part.forward


def in_method_of_an_object(part):
    return lambda self, x: self.held(x), Callable(part).run


def in_closure_with_an_object(part):
    held = Callable(part)
    return lambda self, x: self.held(x), lambda x: held.run(x)


def in_recursive_closure(part):
    def call(x, again=True):
        return call(x, again=False) if again else part(x)

    return lambda self, x: self.held(x), call


def in_wrapped_function(part):
    @functools.wraps(part.forward)
    def call(x):
        return part(x)

    return lambda self, x: self.held(x), call


def in_cache(part):
    @functools.lru_cache(2)
    def call(x):
        return part(x)

    return lambda self, x: self.held(x), call


def in_set(part):
    return lambda self, x: next(iter(self.held))(x), {part}


def in_frozenset(part):
    return lambda self, x: next(iter(self.held))(x), frozenset({part})


def in_keys(part):
    return lambda self, x: next(iter(self.held))(x), {part: "name"}


def in_weak_reference(part):
    return lambda self, x: self.held()(x), weakref.ref(part)


class Callable:
    """An object that runs a module."""

    def __init__(self, part):
        self.part = part

    def __call__(self, x):
        return self.part(x)

    def run(self, x):
        return self.part(x)


HIDDEN = [
    *(in_list, in_nested, in_closure, in_listed_closure, in_dict_closure, in_default, in_keyword_default, in_partial),
    *(in_partial_keyword, in_partial_closure, in_object, in_callable_object, in_method, in_method_of_an_object),
    *(in_closure_with_an_object, in_recursive_closure, in_wrapped_function, in_cache, in_set, in_frozenset, in_keys),
    in_weak_reference,
]


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("hide", HIDDEN, ids=lambda hide: hide.__name__.removeprefix("in_"))
def test_hidden_modules_run_as_copies(hide, registered):
    """In training mode, a run of the original would change its statistics."""
    part = module_of()
    call, held = hide(part)

    class Hiding(nn.Module):
        def forward(self, x):
            return call(self, x)

    module = Hiding()
    module.held = held
    if registered:
        module.part = part
    elif hide is in_weak_reference:
        pytest.skip("a module that is referred to weakly belongs to someone else")
    before = {name: buffer.clone() for name, buffer in part.named_buffers()}
    calls = ran(part)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    copy = working_copy(module)
    assert torch.allclose(copy(IMAGES), expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in part.named_buffers())
    assert module.held is held
    assert calls == [1]  # the user's hook ran, on the copy
    if registered:
        copied = []
        copy.part.conv1.register_forward_hook(lambda *_: copied.append(1))
        copy(2 * IMAGES)  # other images, for the one that caches results
        assert copied
        part.eval()(IMAGES)
        assert len(copied) == 1


def test_containers_with_modules_as_keys_have_the_copies_as_keys():
    module = Wrapper()
    module.names = OrderedDict([(module.net, "net"), (module.net.conv1, "conv1"), ("other", 1)])
    module.some = {module.net.conv1}
    copy = working_copy(module)
    assert list(copy.names.items()) == [(copy.net, "net"), (copy.net.conv1, "conv1"), ("other", 1)]
    assert copy.some == {copy.net.conv1}
    assert list(module.names) == [module.net, module.net.conv1, "other"]


# ---------------------------------------------------------------------------------------------- replaced forward


def by_method(part):
    def forward(self, x):
        return 2 * toys.Plain.forward(self, x)

    return types.MethodType(forward, part)


def by_partial(part):
    return functools.partial(lambda run, x: 2 * run(x), part.forward)


def by_closure(part):
    own = part.forward

    @functools.wraps(own)
    def forward(x):
        return 2 * own(x)

    return forward


def by_default(part):
    return lambda x, own=part.forward: 2 * own(x)


def by_class_function(part):
    return lambda x: 2 * toys.Plain.forward(part, x)


def by_partial_of_a_function(part):
    return functools.partial(lambda self, x: 2 * toys.Plain.forward(self, x), part)


class Doubled:
    """A wrapper around a forward pass, as quantisation and offloading libraries make."""

    def __init__(self, part):
        self.part, self.own = part, part.forward

    def __call__(self, x):
        return 2 * self.own(x)

    def forward(self, x):
        return 2 * type(self.part).forward(self.part, x)


def by_object(part):
    return Doubled(part)


def by_method_of_an_object(part):
    return Doubled(part).forward


REPLACED = [by_method, by_partial, by_closure, by_default, by_class_function, by_partial_of_a_function, by_object]
REPLACED += [by_method_of_an_object]


@pytest.mark.parametrize("replace", REPLACED, ids=lambda replace: replace.__name__.removeprefix("by_"))
def test_a_forward_that_was_replaced_on_an_instance_runs_the_copy(replace):
    module = Wrapper()
    module.net = module_of()
    expected = 2 * toys.network(toys.Plain()).module.eval()(IMAGES)
    own = module.net.forward = replace(module.net)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    copy = working_copy(module)
    seen = ran(copy.net)
    assert torch.allclose(copy(IMAGES), expected)
    assert seen == [1]
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert vars(module.net)["forward"] is own


def test_a_wrapper_that_replaces_the_forward_of_its_submodules():
    """As timm users do to collect attention maps: `block.forward = wrapper(block)`."""
    maps = []

    def wrapper(block):
        own = block.forward

        def forward(x):
            out = own(x)
            maps.append(out.detach())
            return out

        return forward

    module = module_of()
    for part in (module.conv1, module.conv2):
        part.forward = wrapper(part)
    net = fv.Network(module, size=8, **toys.HALF)
    assert torch.equal(net.capture(IMAGES, ["conv1"])["conv1"], maps[-1])
    assert module.conv1.forward.__closure__


def test_functions_keep_their_name_attributes_and_unset_variables():
    def maker(part):
        def forward(x, *, factor=2):
            """Run."""
            return part(x) * factor if factor else later(x)

        forward.mark = [1]
        if part is None:
            later = None  # a variable of the closure without a value
        return forward

    module = Wrapper()
    module.run = maker(module.net)
    copy = working_copy(module)
    assert copy.run is not module.run
    assert (copy.run.__name__, copy.run.mark) == ("forward", [1])
    assert copy.run.__kwdefaults__ == {"factor": 2}
    assert copy.run(IMAGES).shape == (2, 5)
    with pytest.raises(NameError, match="later"):
        copy.run(IMAGES, factor=0)


def test_functions_that_refer_to_no_module_are_shared():
    seen = []

    def note(x):
        seen.append(x)

    def recursive(n):
        return recursive(n - 1) if n else 0

    module = Wrapper()
    module.note, module.recursive = note, recursive
    copy = working_copy(module)
    assert copy.note is note
    assert copy.recursive is recursive or copy.recursive(3) == 0


def test_functions_that_call_each_other_run_the_copies():
    part = module_of()

    def even(x, n):
        return part(x) if n == 0 else odd(x, n - 1)

    def odd(x, n):
        return even(x, n - 1)

    module = Wrapper()
    module.part, module.run = part, odd
    copy = working_copy(module)
    calls = ran(copy.part)
    copy.run(IMAGES, 3)
    assert calls == [1]
    assert not part.bn1.num_batches_tracked


# ---------------------------------------------------------------------------------------------- hooks


def test_hooks_of_the_copy_stay_on_the_copy():
    module = module_of()
    copy = working_copy(module)
    for part in copy.modules():
        part.register_forward_hook(lambda *_: pytest.fail("a hook of the copy ran"))
        part.register_forward_pre_hook(lambda *_: pytest.fail("a hook of the copy ran"))
    module(IMAGES)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_hooks_of_the_user_run_on_the_copy():
    seen = []

    def double(part, _, out):
        seen.append(part)
        return 2 * out

    class Recorder:
        def __init__(self):
            self.seen = []

        def note(self, part, inputs):
            self.seen.append(part)

    recorder, module = Recorder(), module_of()
    handle = module.head.register_forward_hook(double)
    module.head.register_forward_pre_hook(recorder.note)
    copy = working_copy(module)
    expected = toys.network(toys.Plain()).module.eval()(IMAGES)
    assert torch.allclose(copy(IMAGES), 2 * expected)
    assert seen == recorder.seen == [copy.head]
    handle.remove()
    assert not module.head._forward_hooks and copy.head._forward_hooks


def test_hooks_that_are_methods_of_the_module_write_to_the_copy():
    class Counting(Wrapper):
        def __init__(self):
            super().__init__()
            self.count = 0
            self.net.register_forward_hook(self.note)
            self.net.register_forward_pre_hook(functools.partial(type(self).note, self))

        def note(self, *_):
            self.count += 1

    module = Counting()
    copy = working_copy(module)
    copy(IMAGES)
    assert (copy.count, module.count) == (2, 0)
