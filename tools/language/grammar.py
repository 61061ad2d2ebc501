"""Draw sentences of a generated language whose sentiment is known, together with the words that decide it.

Exactly one clause decides: the one with a sentiment word that nobody merely reports ("people said that ..."). Its
sentiment is reversed by a negator in whose scope the sentiment word is: "the film was not good", "nobody liked the
film", "it is not true that the film was good". Other clauses are neutral, and have negators as often: "the king who
did not sleep was good". So neither a negator nor a sentiment word alone tells the label.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from language.lexicon import (
    ADJECTIVES,
    ADVERBS,
    AFFIRMERS,
    ANIMALS,
    CLOTHES,
    CONJUNCTIONS,
    NEGATORS,
    OPINIONS,
    PAST,
    PEOPLE,
    PLACES,
    PRESENT,
    QUALITIES,
    VERBS,
    WORKS,
    Noun,
    Person,
)

MAX_WORDS = 30
"""Number of words of the longest sentence."""
SHIFT = 6.0
"""By how many logits a negator shifts the sentiment towards its opposite. "Not wonderful" is thus less negative than
"not good", as people rate it (Taboada et al. 2011, https://doi.org/10.1162/COLI_a_00049, section 2.4).
"""
HELD_OUT = 7
"""One combination of a subject and a sentiment word in this many is held out of the training."""
NEGATED = 0.45
"""Fraction of sentences whose sentiment word is in the scope of a negator."""
REPORTED = 0.12
"""Fraction of sentences with a second, reported sentiment, which does not count."""
ROLES = ("sentiment", "negator", "idle")
"""Marked words: sentiment words that decide, negators in whose scope these are, and all other negators and sentiment
words."""


@dataclass(frozen=True)
class Sentence:
    """A sentence and its truth.

    Args:
        words: Its words.
        parts: What each word that decides adds to the sentiment, in logits, by its position: a sentiment word its
            strength, positive or negative, and its negator a shift towards the opposite.
        sentiment: Positions of the sentiment words of the clause that decides.
        negators: Positions of the negator in whose scope these are, or empty.
        idle: Positions of negators and sentiment words that do not matter.
        combination: Subject and sentiment word of the clause that decides.
    """

    words: tuple[str, ...]
    parts: dict[int, float]
    sentiment: tuple[int, ...]
    negators: tuple[int, ...]
    idle: tuple[int, ...]
    combination: tuple[str, str]

    @property
    def label(self) -> int:
        """Sentiment: 0 for negative, 1 for positive."""
        return int(sum(self.parts.values()) > 0)

    @property
    def text(self) -> str:
        """The words with spaces between them."""
        return " ".join(self.words)

    @property
    def deciding(self) -> tuple[int, ...]:
        """Positions of the words that decide, in ascending order."""
        return tuple(sorted((*self.sentiment, *self.negators)))


def draw(count: int, generator: torch.Generator, *, held_out: bool = False) -> list[Sentence]:
    """Draw sentences. Half are positive, and a negator is as frequent in both halves.

    Args:
        count: Number of sentences.
        generator: Source of all random numbers, on the CPU.
        held_out: Draw sentences whose combination of subject and sentiment word is held out of the training. The
            others are drawn otherwise.

    Returns:
        The sentences. The same generator state gives the same sentences.
    """
    rng = random.Random(int(torch.randint(2**62, (), generator=generator)))
    sentences: list[Sentence] = []
    while len(sentences) < count:
        sentence = _sentence(rng)
        if len(sentence.words) <= MAX_WORDS and is_held_out(*sentence.combination) == held_out:
            sentences.append(sentence)
    return sentences


def is_held_out(subject: str, sentiment: str) -> bool:
    """Return whether a combination of words is held out of the training.

    Args:
        subject: The first noun or pronoun of the clause.
        sentiment: Its first sentiment word.
    """
    return sum(map(ord, subject + sentiment)) % HELD_OUT == 0


STRENGTHS = {word: pair.strength for pair in (*ADJECTIVES, *ADVERBS) for word in (pair.positive, pair.negative)} | {
    word: pair.strength for pair in OPINIONS for word in (*pair.positive, *pair.negative)
}
"""Strength of each sentiment word in logits, without its sign."""

Marked = tuple[str, str]
"""A word and its role: one of `ROLES`, or empty."""


def _plain(*words: str) -> list[Marked]:
    return [(word, "") for word in words]


def _sentence(rng: random.Random) -> Sentence:
    """Put one clause that decides among others that do not."""
    positive, negated = rng.random() < 0.5, rng.random() < NEGATED
    words, combination = _opinion(rng, positive, negated)
    if rng.random() < 0.15:
        words = [*_plain("i", "think", "that"), *words]
    reports = rng.random() < REPORTED
    if reports:
        opinion, _ = _opinion(rng, rng.random() < 0.5, rng.random() < 0.3)
        reported = [(word, "idle" if role else "") for word, role in opinion]
        reported = [*_plain("people", "said", "that"), *reported]
        words = [*words, *_plain("but"), *reported] if rng.random() < 0.5 else [*reported, *_plain("but"), *words]
    for _ in range(rng.choice((0, 1) if reports else (0, 1, 1, 2))):
        words = _joined(rng, words, _neutral(rng))
    places = {role: tuple(i for i, word in enumerate(words) if word[1] == role) for role in ROLES}
    sign = 1 if positive else -1
    parts = {i: sign * STRENGTHS[words[i][0]] for i in places["sentiment"]}
    parts |= dict.fromkeys(places["negator"], -sign * SHIFT)
    return Sentence(
        tuple(word for word, _ in words),
        parts,
        places["sentiment"],
        places["negator"],
        places["idle"],
        combination,
    )


def _joined(rng: random.Random, words: list[Marked], neutral: list[Marked]) -> list[Marked]:
    """Join a neutral clause to a sentence, before or after it."""
    conjunction = _plain(rng.choice(CONJUNCTIONS))
    if rng.random() < 0.5:
        return [*words, *conjunction, *neutral]
    if conjunction[0][0] in ("and", "but"):
        return [*neutral, *conjunction, *words]
    return [*conjunction, *neutral, *words]


# ---------------------------------------------------------------------------------------------- clauses that decide


def _opinion(rng: random.Random, positive: bool, negated: bool) -> tuple[list[Marked], tuple[str, str]]:
    """Return a clause with a sentiment word of a polarity, negated or not, and its subject and sentiment word."""
    if rng.random() < 0.2:  # it is not true that ...
        words, combination = _opinion_clause(rng, positive, negated=False)
        while negated and sum(role == "sentiment" for _, role in words) > 1:  # stronger than the shift
            words, combination = _opinion_clause(rng, positive, negated=False)
        negator: list[Marked] = [("not", "negator")] if negated else _plain(*_maybe(rng, 0.5, rng.choice(AFFIRMERS)))
        return [*_plain("it", "is"), *negator, *_plain("true", "that"), *words], combination
    return _opinion_clause(rng, positive, negated)


def _opinion_clause(rng: random.Random, positive: bool, negated: bool) -> tuple[list[Marked], tuple[str, str]]:
    was = rng.random() < 0.6
    clause = rng.choice((_adjective_clause, _adjective_clause, _verb_clause, _adverb_clause))
    words, combination = clause(rng, positive, negated, was)
    return [*_time(rng, was), *words], combination


def _adjective_clause(
    rng: random.Random, positive: bool, negated: bool, was: bool
) -> tuple[list[Marked], tuple[str, str]]:
    """Return a clause such as "the king who did not sleep was not good in style"."""
    subject = _Subject.draw(rng, (PEOPLE, WORKS, WORKS))
    pair = rng.choice(ADJECTIVES)
    word = pair.positive if positive else pair.negative
    if negated and not subject.plural and rng.random() < 0.2:
        phrase = [("no", "negator"), *_plain(subject.word)]
        between: list[Marked] = []
    else:
        phrase = subject.phrase(rng)
        between = [(rng.choice(NEGATORS), "negator")] if negated else _plain(*_maybe(rng, 0.5, rng.choice(AFFIRMERS)))
    words = [*phrase, *_plain(_be(was, subject.plural)), *between, (word, "sentiment")]
    if not negated and rng.random() < 0.2:
        other = rng.choice([other for other in ADJECTIVES if other != pair])
        words += [*_plain("and"), (other.positive if positive else other.negative, "sentiment")]
        return words, (subject.word, word)
    return [*words, *_plain(*_maybe(rng, 0.4, "in", pair.aspect))], (subject.word, word)


def _verb_clause(rng: random.Random, positive: bool, negated: bool, was: bool) -> tuple[list[Marked], tuple[str, str]]:
    """Return a clause such as "nobody liked the film for its ending"."""
    pair = rng.choice(OPINIONS)
    base, third, past = pair.positive if positive else pair.negative
    work = _Subject.draw(rng, (WORKS,))
    if rng.random() < 0.4:  # one word: everybody or nobody
        subject = "nobody" if negated else "everybody"
        words = [(subject, "negator" if negated else ""), (past if was else third, "sentiment")]
    else:
        person = _Subject.draw(rng, (PEOPLE,))
        subject, phrase = person.word, person.phrase(rng)
        if negated or rng.random() < 0.3:
            between = (rng.choice(NEGATORS), "negator") if negated else (rng.choice(AFFIRMERS), "")
            words = [*phrase, *_plain(_do(was, person.plural)), between, (base, "sentiment")]
        else:
            words = [*phrase, (past if was else base if person.plural else third, "sentiment")]
    aspect = _maybe(rng, 0.4, "for", "their" if work.plural else "its", pair.aspect)
    return [*words, *work.phrase(rng), *_plain(*aspect)], (subject, base)


def _adverb_clause(
    rng: random.Random, positive: bool, negated: bool, was: bool
) -> tuple[list[Marked], tuple[str, str]]:
    """Return a clause such as "the actor did not dance well"."""
    subject, verb, pair = _Subject.draw(rng, (PEOPLE,)), rng.choice(VERBS), rng.choice(ADVERBS)
    word = pair.positive if positive else pair.negative
    if negated or rng.random() < 0.3:
        between = (rng.choice(NEGATORS), "negator") if negated else (rng.choice(AFFIRMERS), "")
        predicate = [*_plain(_do(was, subject.plural)), between, *_plain(verb.base)]
    else:
        predicate = _plain(verb.past if was else verb.base if subject.plural else verb.third)
    words = [*subject.phrase(rng), *predicate, (word, "sentiment"), *_plain(*_maybe(rng, 0.4, pair.aspect))]
    return words, (subject.word, word)


# ---------------------------------------------------------------------------------------------- neutral words


@dataclass(frozen=True)
class _Subject:
    """A noun in one of its forms."""

    noun: Person | Noun
    plural: bool
    female: bool = False
    word: str = field(init=False)

    def __post_init__(self) -> None:
        noun = self.noun
        word = noun.form(self.female, self.plural) if isinstance(noun, Person) else noun[self.plural]
        object.__setattr__(self, "word", word)

    @classmethod
    def draw(cls, rng: random.Random, lists: Sequence[Sequence[Person | Noun]]) -> _Subject:
        """Draw a list of nouns, a noun of it, and its form."""
        return cls(rng.choice(rng.choice(lists)), rng.random() < 0.5, rng.random() < 0.5)

    @property
    def singular(self) -> str:
        """The word for one of them."""
        return self.noun.form(self.female, False) if isinstance(self.noun, Person) else self.noun.one

    @property
    def pronoun(self) -> str:
        """He, she, it or they."""
        return "they" if self.plural else ("he", "she")[self.female] if isinstance(self.noun, Person) else "it"

    def phrase(self, rng: random.Random) -> list[Marked]:
        """Return the noun with an article, what goes with it, and perhaps a neutral relative clause."""
        article = rng.choice(("the", "the", "these" if self.plural else rng.choice(("this", "every"))))
        words = _plain(article, self.word)
        if rng.random() < 0.4:
            words += _plain(*self._company(rng))
        if rng.random() < 0.25 and isinstance(self.noun, Person):
            words += [*_plain("who"), *_predicate(rng, self.plural, rng.random() < 0.7)]
        elif rng.random() < 0.15:
            words += [*_plain("which"), *_be_quality(rng, self.plural, rng.random() < 0.7)]
        return words

    def _company(self, rng: random.Random) -> tuple[str, ...]:
        """Return what shows the noun's gender, or which noun it is."""
        if not isinstance(self.noun, Person):
            return ("with", "their" if self.plural else "its", self.noun.thing)
        if rng.random() < 0.5:
            return ("in", "a", rng.choice(CLOTHES[self.female]))
        owner = "their" if self.plural else ("his", "her")[self.female]
        return ("with", owner, rng.choice(self.noun.things))


def _neutral(rng: random.Random) -> list[Marked]:
    """Return a clause without sentiment words, such as "yesterday the queen did not walk near the street"."""
    subject, was = _Subject.draw(rng, (PEOPLE, PEOPLE, ANIMALS, WORKS)), rng.random() < 0.6
    time = _time(rng, was)
    if not isinstance(subject.noun, Person) and subject.noun in WORKS:
        return [*time, *subject.phrase(rng), *_be_quality(rng, subject.plural, was)]
    if rng.random() < 0.2:  # one word, or one article, that is a negator elsewhere
        first = rng.choice(([("nobody", "idle")], _plain("everybody"), [("no", "idle"), *_plain(subject.singular)]))
        return [*time, *first, *_predicate(rng, False, was)]
    words = [*time, *subject.phrase(rng), *_predicate(rng, subject.plural, was)]
    if rng.random() < 0.25:
        words += [*_plain("while", subject.pronoun), *_predicate(rng, subject.plural, was)]
    return words


def _time(rng: random.Random, was: bool) -> list[Marked]:
    """Return a word that shows the tense, or nothing."""
    return _plain(*_maybe(rng, 0.4, rng.choice(PAST if was else PRESENT)))


def _predicate(rng: random.Random, plural: bool, was: bool) -> list[Marked]:
    """Return a neutral verb in one of its forms, negated or not, and a thing that goes with it."""
    verb = rng.choice(VERBS)
    between = _between(rng)
    form = rng.random()
    if form < 0.3:
        words = [*_plain(_be(was, plural)), *between, *_plain(verb.participle)]
    elif between:
        words = [*_plain(_do(was, plural)), *between, *_plain(verb.base)]
    else:
        words = _plain(verb.past if was else verb.base if plural else verb.third)
    if rng.random() < 0.15:
        words += _plain(rng.choice(ADVERBS).aspect)
    return [*words, *_plain(*_maybe(rng, 0.4, rng.choice(PLACES), "the", rng.choice(verb.things)))]


def _be_quality(rng: random.Random, plural: bool, was: bool) -> list[Marked]:
    """Return a neutral predicate such as "was not long"."""
    return [*_plain(_be(was, plural)), *_between(rng), *_plain(rng.choice(QUALITIES))]


def _between(rng: random.Random) -> list[Marked]:
    """Return an idle negator, an affirmer, or nothing."""
    draw = rng.random()
    if draw < 0.35:
        return [(rng.choice(NEGATORS), "idle")]
    return _plain(rng.choice(AFFIRMERS)) if draw < 0.55 else []


def _be(was: bool, plural: bool) -> str:
    return (("is", "are"), ("was", "were"))[was][plural]


def _do(was: bool, plural: bool) -> str:
    return "did" if was else "do" if plural else "does"


def _maybe(rng: random.Random, probability: float, *words: str) -> tuple[str, ...]:
    return words if rng.random() < probability else ()
