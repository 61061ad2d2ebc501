"""What a network that reads text expects: its vocabulary, its longest sequence, and how text becomes token ids."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from featviz.checks import as_whole, check_number
from featviz.errors import SettingError, shown

MAX_LENGTH = 100_000
"""Longest sequence. For no limit, tokenizers of Hugging Face have 10³⁰."""
UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Output of a decoder for a part of a character."""


@dataclass(frozen=True, repr=False)
class TokenSpec:
    """What a network that reads token ids expects of its input.

    Args:
        vocabulary: Text of every token, in the order of their ids; or their number.
        length: Number of tokens of the longest sequence, special tokens included.
        pad: Id of the padding token; `None` if there is none. featviz pads nothing: each text runs at its own length.
        special: Ids of tokens that stand for no text, such as `[CLS]` and `[SEP]`.
        tokenizer: Function from text to token ids, special tokens included; or a tokenizer of Hugging Face. `None` if
            only token ids are given.
        embedding: Name of the `nn.Embedding` that looks the token ids up; `None` for the one that gets them.

    Raises:
        SettingError: A value is out of its range.

    >>> TokenSpec(("[PAD]", "good", "bad"), 8, pad=0, tokenizer=lambda text: [1]).read("good")
    (1,)
    """

    vocabulary: tuple[str, ...] | int
    length: int
    pad: int | None = None
    special: tuple[int, ...] = ()
    tokenizer: Callable[..., Any] | None = None
    embedding: str | None = None

    def __post_init__(self) -> None:
        """Convert and check the values."""
        object.__setattr__(self, "vocabulary", _as_vocabulary(self.vocabulary))
        if self.size < 1:
            raise SettingError("vocabulary must have at least 1 token, got none")
        check_number("length", self.length, at_least=1, at_most=MAX_LENGTH, whole=True)
        if self.tokenizer is not None and not callable(self.tokenizer):
            raise SettingError(f"tokenizer must be a function from text to token ids, got {shown(self.tokenizer)}")
        if self.embedding is not None and not isinstance(self.embedding, str):
            raise SettingError(f"embedding must be the name of an nn.Embedding, got {shown(self.embedding)}")
        if not isinstance(self.special, Iterable) or isinstance(self.special, str):
            raise SettingError(f"special must be a sequence of token ids, got {shown(self.special)}")
        object.__setattr__(self, "special", tuple(self._checked_id("special", each) for each in self.special))
        if self.pad is not None:
            object.__setattr__(self, "pad", self._checked_id("pad", self.pad))

    def _checked_id(self, name: str, given: Any) -> int:
        """Return an id of the vocabulary."""
        number = as_whole(name, given)
        check_number(name, number, at_least=0, at_most=self.size - 1, whole=True)
        return number

    @classmethod
    def of(cls, tokenizer: Any, *, length: int | None = None, embedding: str | None = None) -> TokenSpec:
        """Return the specification of a tokenizer of Hugging Face.

        Args:
            tokenizer: The tokenizer.
            length: Number of tokens of the longest sequence; `None` for that of the tokenizer.
            embedding: Name of the `nn.Embedding` that looks the token ids up; `None` for the one that gets them.

        Raises:
            SettingError: `tokenizer` is no tokenizer of Hugging Face, or has no maximum length.
        """
        if not is_hugging_face(tokenizer):
            raise SettingError(
                f"tokens must be a TokenSpec or a tokenizer of Hugging Face, got {shown(tokenizer)}; give any other "
                "function from text to ids as fv.TokenSpec(vocabulary, length, tokenizer=function)"
            )
        longest = tokenizer.model_max_length if length is None else length
        if length is None and not 1 <= longest <= MAX_LENGTH:
            raise SettingError("the tokenizer has no maximum length; give fv.TokenSpec.of(tokenizer, length=512)")
        vocabulary = tuple(map(str, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))
        special = tuple(tokenizer.all_special_ids)
        return cls(vocabulary, int(longest), tokenizer.pad_token_id, special, tokenizer, embedding)

    def __repr__(self) -> str:
        """Return the call, with the number of tokens in place of the vocabulary."""
        values = {"pad": self.pad, "special": self.special or None, "embedding": self.embedding}
        given = [f"{name}={value!r}" for name, value in values.items() if value is not None]
        if self.tokenizer is not None:
            given.append(f"tokenizer={getattr(self.tokenizer, '__name__', type(self.tokenizer).__name__)}")
        return f"TokenSpec({', '.join([f'{self.size} tokens', f'length={self.length}', *given])})"

    # ------------------------------------------------------------------------------------------ facts

    @property
    def size(self) -> int:
        """Number of tokens of the vocabulary."""
        return self.vocabulary if isinstance(self.vocabulary, int) else len(self.vocabulary)

    @cached_property
    def neutral(self) -> int:
        """Id of a token that stands for text, with which networks are measured."""
        # Special tokens that are not declared mostly have the first or last ids.
        middle = self.size // 2
        apart = {*self.special, self.pad}
        return next((each for each in [*range(middle, self.size), *range(middle)] if each not in apart), middle)

    @cached_property
    def frame(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Special tokens that the tokenizer puts before and after a text. Without a tokenizer, none are known."""
        if not self.special or self.tokenizer is None or isinstance(self.vocabulary, int):
            return (), ()
        try:
            ids = self.read(self.words((self.neutral,))[0])
        except Exception:  # this tokenizer cannot read a single token
            return (), ()
        inside = [i for i, each in enumerate(ids) if each not in self.special]
        return (ids[: inside[0]], ids[inside[-1] + 1 :]) if inside else ((), ())

    # ------------------------------------------------------------------------------------------ text

    def read(self, given: str | Sequence[int] | Tensor) -> tuple[int, ...]:
        """Return the token ids of a text.

        Args:
            given: Text, or token ids.

        Raises:
            SettingError: The text is empty or too long, an id is not in the vocabulary, there is no tokenizer for text,
                or what the tokenizer returns are no ids.
        """
        if isinstance(given, str):
            ids = self._tokenize(given)
        elif isinstance(given, Sequence | np.ndarray | Tensor) and not isinstance(given, bytes | bytearray):
            ids = _whole_numbers(given, "token ids must be whole numbers")
        else:
            raise SettingError(f"a text must be a str, or a sequence of token ids, got {shown(given)}")
        if not ids:
            raise SettingError("the text has no tokens; give at least one")
        wrong = next((each for each in ids if not 0 <= each < self.size), None)
        if wrong is not None:
            raise SettingError(f"no token {wrong} in the vocabulary; it has {self.size}, 0 to {self.size - 1}")
        if len(ids) > self.length:
            raise SettingError(
                f"the text has {len(ids)} tokens, and the network takes at most {self.length}; shorten it"
            )
        return tuple(ids)

    def _tokenize(self, text: str) -> list[int]:
        """Return the output of the tokenizer for a text."""
        if self.tokenizer is None:
            raise SettingError("text needs a tokenizer; give fv.TokenSpec(..., tokenizer=function), or token ids")
        if not text.strip():
            raise SettingError("the text is empty; give at least one word")
        quiet = {"verbose": False} if is_hugging_face(self.tokenizer) else {}  # else it logs that a text is too long
        found = self.tokenizer(text, **quiet)
        found = found["input_ids"] if isinstance(found, Mapping) and "input_ids" in found else found
        if not isinstance(found, Sequence | np.ndarray | Tensor) or isinstance(found, str | bytes):
            raise SettingError(f"the tokenizer must return token ids, got {shown(found)}")
        return _whole_numbers(found, "the tokenizer must return token ids")

    def words(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Return the text of tokens, without the marks that some vocabularies put where a word begins.

        Args:
            ids: Token ids.

        Returns:
            One text for each token; `"#17"` where the vocabulary is a number.
        """
        return tuple(self._word(each) for each in ids)

    def _word(self, token: int) -> str:
        if isinstance(self.vocabulary, int):
            return f"#{token}"
        raw = self.vocabulary[token]
        if token in self.special or not is_hugging_face(self.tokenizer):
            return raw
        tokenizer: Any = self.tokenizer
        text = str(tokenizer.convert_tokens_to_string([raw])).strip()
        return raw if not text or UNREADABLE in text else text


def as_token_spec(tokens: Any) -> TokenSpec:
    """Return a specification as it is, and that of a tokenizer of Hugging Face.

    Raises:
        SettingError: `tokens` is neither a specification nor a tokenizer.
    """
    return tokens if isinstance(tokens, TokenSpec) else TokenSpec.of(tokens)


def is_hugging_face(tokenizer: object) -> bool:
    """Whether something has the methods of a tokenizer of Hugging Face that are used here."""
    needed = ("convert_ids_to_tokens", "convert_tokens_to_string", "all_special_ids", "model_max_length")
    return not isinstance(tokenizer, type) and all(hasattr(tokenizer, name) for name in needed)


def _as_vocabulary(given: Any) -> tuple[str, ...] | int:
    """Return the texts of the tokens, or their number."""
    if not isinstance(given, Iterable):
        return as_whole("vocabulary", given)
    if isinstance(given, str | Mapping):
        raise SettingError(
            f"vocabulary must list the text of every token in the order of their ids, or be their number, got "
            f"{shown(given)}"
        )
    texts = tuple(given)
    wrong = [each for each in texts if not isinstance(each, str)]
    if wrong:
        raise SettingError(f"vocabulary must hold the text of every token, got {shown(wrong[0])}")
    return texts


def _whole_numbers(given: Any, problem: str) -> list[int]:
    """Return ids as numbers of Python; a batch of one sequence counts as this sequence."""
    listed = given.tolist() if isinstance(given, Tensor | np.ndarray) else list(given)
    if not isinstance(listed, list):
        raise SettingError(f"{problem}, got {shown(given)}")
    if len(listed) == 1 and isinstance(listed[0], Sequence | np.ndarray | Tensor) and not isinstance(listed[0], str):
        return _whole_numbers(listed[0], problem)
    for each in listed:
        if (
            isinstance(each, bool)
            or not hasattr(each, "__index__")
            or (isinstance(each, Tensor | np.ndarray) and each.ndim)
        ):
            raise SettingError(f"{problem}, got {shown(each)}")
    return [operator.index(each) for each in listed]
