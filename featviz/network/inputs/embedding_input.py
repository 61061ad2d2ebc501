"""Let a module that reads token ids run on embedding sequences, which have gradients and token ids do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from featviz.errors import AddressError, ModelError, SettingError, nearest
from featviz.network.inputs.input_spec import InputSpec
from featviz.network.inputs.replaced_forward import own_forward, with_forward, without_forward
from featviz.network.inputs.token_spec import TokenSpec
from featviz.network.module_errors import raise_if_several_inputs
from featviz.network.neutral_state import neutral_state
from featviz.network.probing.passes import FIRST_BATCH, raise_unless_size_error
from featviz.network.working_copy import uncompiled, working_copy
from featviz.random import Chance

PROBED_LENGTH, MORE_TOKENS = 16, 4
"""Number of tokens on which a network is measured, and how many more it gets in the second pass at least."""
_LOOKUP = "_featviz_lookup"
"""Name of the attribute that `on_embeddings` adds to its copy of a module."""


@dataclass(frozen=True)
class Lookup:
    """Where a module looks its token ids up, and which ids it gets beside an embedding sequence.

    The ids matter where a module reads more from them than their vectors: which tokens are padding, or where the text
    ends.

    Args:
        embedding: Name of the `nn.Embedding`.
        neutral: Id of a token that stands for text.
        frame: Ids of special tokens before and after a text.
        bound: Ids of the text that is being read; empty for none.
        batch_second: Whether the embedding gets the ids as (length, n).
    """

    embedding: str
    neutral: int
    frame: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    bound: tuple[int, ...] = ()
    batch_second: bool = False

    def ids(self, length: int) -> tuple[int, ...]:
        """Return token ids of a length: those of the bound text, or neutral ones at any other length."""
        if len(self.bound) == length:
            return self.bound
        before, after = self.frame
        inside = length - len(before) - len(after)
        return (*before, *(self.neutral,) * inside, *after) if inside > 0 else (self.neutral,) * length


def on_embeddings(module: nn.Module, lookup: Lookup) -> nn.Module:
    """Return a module with the same parts and weights, which gets embedding sequences in place of token ids.

    The user's module is not changed: see `with_forward`.

    Args:
        module: The user's module, or one that this function returned.
        lookup: Where it looks token ids up.

    Returns:
        A module of the same class, from (n, d, 1, length) to the output of the user's module.
    """
    return with_forward(module, _forward, {_LOOKUP: lookup})


def lookup_of(module: nn.Module) -> Lookup:
    """Return where a module that `on_embeddings` returned looks its token ids up."""
    return vars(module)[_LOOKUP]  # type: ignore[no-any-return]


def _forward(self: nn.Module, images: Float[Tensor, "n d 1 length"]) -> Any:
    """Run a working copy on embedding sequences. Takes the place of its own `forward`."""
    if images.shape[2] != 1:
        raise SettingError(f"an embedding sequence must have shape (n, d, 1, length), got {tuple(images.shape)}")
    lookup = lookup_of(self)
    # Copied, because modules may write to the output of an embedding, and to the ids.
    embedded = images[:, :, 0].transpose(1, 2).clone(memory_format=torch.contiguous_format)
    ids = torch.tensor(lookup.ids(embedded.shape[1]), device=images.device).repeat(len(images), 1)
    with _looked_up(self.get_submodule(lookup.embedding), ids, embedded, batch_second=lookup.batch_second):
        return own_forward(self)(ids)


@contextmanager
def _looked_up(
    embedding: nn.Module, ids: Int[Tensor, "n length"], embedded: Float[Tensor, "n length d"], *, batch_second: bool
) -> Iterator[None]:
    """Let the embedding of a working copy return given vectors for given ids, within a context.

    Other ids, such as those that a decoder gets, are looked up as usual.
    """
    before = vars(embedding).get("forward")
    own = embedding.forward
    forms = [(ids, embedded), (ids.T, embedded.transpose(0, 1)), (ids.flatten(), embedded.flatten(0, 1))]
    if batch_second:  # tried first: of as many texts as tokens, the transposed ids can equal the ids
        forms[:2] = forms[1::-1]

    def look_up(input: Tensor) -> Any:  # noqa: A002, the name that callers of `nn.Embedding` may use
        for known, vectors in forms:
            if input.shape == known.shape and bool((input == known).all()):
                return vectors
        return own(input)

    vars(embedding)["forward"] = look_up
    try:
        yield
    finally:
        del vars(embedding)["forward"]
        if before is not None:
            vars(embedding)["forward"] = before


# ---------------------------------------------------------------------------------------------- finding the embedding


@neutral_state()
def text_input(module: nn.Module, tokens: TokenSpec, label: str) -> tuple[nn.Module, InputSpec]:
    """Return a module that gets embedding sequences, and the specification of these.

    Args:
        module: The user's module, which gets token ids.
        tokens: What it expects.
        label: Name of the module for messages.

    Raises:
        ModelError: The module has no embedding, or does not call it with the ids.
        AddressError: The module has no embedding of the given name.
        SettingError: Several embeddings get the ids, or the vocabulary has more tokens than the embedding has rows.
    """
    module = without_forward(module, _LOOKUP) if _LOOKUP in vars(module) else module
    lookup, length = find_lookup(module, tokens, label)
    width = module.get_submodule(lookup.embedding).embedding_dim
    assert isinstance(width, int)
    return on_embeddings(module, lookup), InputSpec((1, length), (0.0,) * width, (1.0,) * width)


def probed_length(longest: int) -> int:
    """Return the number of tokens on which a network is measured. A larger number must be possible, too."""
    return min(PROBED_LENGTH, max(longest - MORE_TOKENS, MORE_TOKENS), max(longest - 1, 1))


def find_lookup(module: nn.Module, tokens: TokenSpec, label: str) -> tuple[Lookup, int]:
    """Find the embedding that looks the token ids up, by running a module on ids.

    Args:
        module: The user's module. It is not changed.
        tokens: What it expects.
        label: Name of the module for messages.

    Returns:
        The embedding and neutral ids, and the number of tokens on which the module can be measured: its longest
        sequence if it takes no shorter ones.

    Raises:
        ModelError: The module has no embedding, or does not call it with the ids.
        AddressError: The module has no embedding of the given name.
        SettingError: Several embeddings get the ids, or the vocabulary has more tokens than the embedding has rows.
    """
    tables = {name: part for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    if not tables:
        bags = [name for name, part in module.named_modules() if isinstance(part, nn.EmbeddingBag)]
        found = f"{label} looks its tokens up in the nn.EmbeddingBag {bags[0]!r}, which sums them" if bags else ""
        raise ModelError(
            f"{found or f'{label} has no nn.Embedding'}; give a network with an nn.Embedding for its tokens"
        )
    if tokens.embedding is not None and tokens.embedding not in tables:
        raise AddressError(f"no nn.Embedding {tokens.embedding!r} in {label}{nearest(tokens.embedding, tables)}")
    _check_rows(tables, tokens.embedding or max(tables, key=lambda name: tables[name].num_embeddings), tokens, label)
    lookup = Lookup("", tokens.neutral, tokens.frame)
    called, length = _embeddings_with_ids(module, tokens, lookup)  # whether the batch is second, by embedding
    fitting = [name for name in called if tables[name].num_embeddings >= tokens.size] or list(called)
    named = fitting if tokens.embedding is None else [name for name in called if name == tokens.embedding]
    if not named:
        which = "no nn.Embedding" if tokens.embedding is None else f"the nn.Embedding {tokens.embedding!r}"
        negation = "" if tokens.embedding is None else "not "
        raise ModelError(f"{which} of {label} is {negation}called with the token ids; its first input must be the ids")
    if len(named) > 1:
        listed = ", ".join(map(repr, named))
        raise SettingError(
            f"several embeddings of {label} get the token ids: {listed}; name one: embedding={named[0]!r}"
        )
    _check_rows(tables, named[0], tokens, label)
    return replace(lookup, embedding=named[0], batch_second=called[named[0]]), length


def _check_rows(tables: Mapping[str, nn.Embedding], name: str, tokens: TokenSpec, label: str) -> None:
    """Check that an embedding has a row for each token of the vocabulary.

    Raises:
        SettingError: The embedding has fewer rows.
    """
    rows = tables[name].num_embeddings
    if rows < tokens.size:
        raise SettingError(
            f"the vocabulary has {tokens.size} tokens, but the embedding {name!r} of {label} has {rows} rows; give the "
            "vocabulary of this network"
        )


def _embeddings_with_ids(module: nn.Module, tokens: TokenSpec, lookup: Lookup) -> tuple[dict[str, bool], int]:
    """Return the embeddings that are called with token ids, and the number of tokens that the module takes.

    Returns:
        For each embedding by name, whether it gets the ids with the batch second; and the number of tokens.
    """
    device = next((weight.device for weight in module.parameters()), torch.device("cpu"))
    for length in dict.fromkeys((probed_length(tokens.length), tokens.length)):
        copy = working_copy(module, share_weights=False)
        called: dict[str, bool] = {}
        count = FIRST_BATCH + (length == FIRST_BATCH)  # another number than that of tokens, to distinguish them
        ids = torch.tensor(lookup.ids(length), device=device).repeat(count, 1)
        for name, part in copy.named_modules():
            if isinstance(part, nn.Embedding):
                part.register_forward_pre_hook(_notes_ids(name, ids, called))
        try:
            with Chance(device)(), torch.no_grad(), uncompiled():
                copy(ids.clone())
            return called, length
        except Exception as error:
            raise_unless_size_error(error)
            raise_if_several_inputs(module, type(module).__name__, error, "token ids")
            if length == tokens.length:
                error.add_note(f"while running {type(module).__name__} on sequences of {length} token ids")
                raise
    raise AssertionError


def _notes_ids(name: str, ids: Tensor, called: dict[str, bool]) -> Any:
    def note(_: nn.Module, given: tuple[Any, ...]) -> None:
        first = given[0] if given else None
        if not isinstance(first, Tensor) or first.is_floating_point():
            return
        for known in (ids, ids.T, ids.flatten()):
            if first.shape == known.shape and bool((first == known).all()):
                called.setdefault(name, known.shape == ids.T.shape)

    return note
