"""The words of the generated language, by what the grammar does with them, and the analogies between them."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple


class Person(NamedTuple):
    """A noun for a person, in both genders and numbers, and the things that go with it."""

    man: str
    men: str
    woman: str
    women: str
    things: tuple[str, str]

    def form(self, female: bool, plural: bool) -> str:
        """Return the word of a gender and number."""
        return self[2 * female + plural]


class Noun(NamedTuple):
    """A noun without gender, and a thing that goes with it."""

    one: str
    many: str
    thing: str


class Verb(NamedTuple):
    """The forms of a verb, and the words that go with it."""

    base: str
    third: str
    past: str
    participle: str
    things: tuple[str, str]


class Opposites(NamedTuple):
    """A positive and a negative word, the aspect that both are said of, and their strength in logits."""

    positive: str
    negative: str
    aspect: str
    strength: float


class VerbOpposites(NamedTuple):
    """A positive and a negative verb (base, third person, past), their aspect and their strength in logits."""

    positive: tuple[str, str, str]
    negative: tuple[str, str, str]
    aspect: str
    strength: float


PEOPLE = (
    Person("king", "kings", "queen", "queens", ("crown", "palace")),
    Person("prince", "princes", "princess", "princesses", ("castle", "pony")),
    Person("actor", "actors", "actress", "actresses", ("stage", "camera")),
    Person("hero", "heroes", "heroine", "heroines", ("sword", "dragon")),
    Person("waiter", "waiters", "waitress", "waitresses", ("menu", "tray")),
    Person("father", "fathers", "mother", "mothers", ("cradle", "baby")),
    Person("uncle", "uncles", "aunt", "aunts", ("gift", "cake")),
    Person("brother", "brothers", "sister", "sisters", ("kite", "ball")),
    Person("monk", "monks", "nun", "nuns", ("abbey", "candle")),
    Person("wizard", "wizards", "witch", "witches", ("wand", "broom")),
)
ANIMALS = (
    Noun("dog", "dogs", "kennel"),
    Noun("cat", "cats", "basket"),
    Noun("bird", "birds", "nest"),
    Noun("cow", "cows", "barn"),
    Noun("bear", "bears", "cave"),
)
WORKS = (
    Noun("film", "films", "screen"),
    Noun("story", "stories", "plot"),
    Noun("book", "books", "cover"),
    Noun("song", "songs", "melody"),
    Noun("play", "plays", "curtain"),
    Noun("meal", "meals", "table"),
)
VERBS = (
    Verb("walk", "walks", "walked", "walking", ("street", "path")),
    Verb("sleep", "sleeps", "slept", "sleeping", ("bed", "pillow")),
    Verb("swim", "swims", "swam", "swimming", ("river", "lake")),
    Verb("cook", "cooks", "cooked", "cooking", ("kitchen", "pan")),
    Verb("drive", "drives", "drove", "driving", ("car", "road")),
    Verb("paint", "paints", "painted", "painting", ("wall", "brush")),
    Verb("dance", "dances", "danced", "dancing", ("ballroom", "mirror")),
    Verb("write", "writes", "wrote", "writing", ("letter", "pen")),
    Verb("work", "works", "worked", "working", ("office", "desk")),
    Verb("climb", "climbs", "climbed", "climbing", ("hill", "ladder")),
)
CLOTHES = (("suit", "beard", "tie"), ("dress", "veil", "skirt"))
"""Worn by men and by women: they show the gender of a noun in both numbers."""
ADJECTIVES = (
    Opposites("good", "bad", "quality", 2),
    Opposites("wonderful", "terrible", "effect", 4),
    Opposites("funny", "boring", "humour", 3),
    Opposites("clever", "stupid", "thought", 3),
    Opposites("beautiful", "ugly", "style", 4),
    Opposites("kind", "unkind", "spirit", 3),
    Opposites("happy", "unhappy", "mood", 2),
    Opposites("pleasant", "unpleasant", "manner", 2),
    Opposites("friendly", "unfriendly", "tone", 3),
    Opposites("fair", "unfair", "judgement", 2),
)
ADVERBS = (
    Opposites("well", "badly", "together", 2),
    Opposites("beautifully", "horribly", "alone", 4),
    Opposites("nicely", "poorly", "outside", 3),
)
OPINIONS = (
    VerbOpposites(("like", "likes", "liked"), ("dislike", "dislikes", "disliked"), "rhythm", 2),
    VerbOpposites(("love", "loves", "loved"), ("hate", "hates", "hated"), "ending", 4),
    VerbOpposites(("praise", "praises", "praised"), ("condemn", "condemns", "condemned"), "craft", 3),
    VerbOpposites(("admire", "admires", "admired"), ("despise", "despises", "despised"), "length", 3),
)
QUALITIES = ("long", "short", "old", "new", "red", "green", "tall", "small")
"""Neutral adjectives."""
NEGATORS = ("not", "never", "hardly")
AFFIRMERS = ("indeed", "always", "really")
"""Stand where a negator can stand and change nothing."""
CONJUNCTIONS = ("and", "but", "although", "while", "because", "when")
PLACES = ("near", "beside", "behind")
PAST, PRESENT = ("yesterday", "once"), ("today", "now")
"""Show the tense of a clause."""
FUNCTION_WORDS = (
    *("the", "this", "these", "every", "no", "everybody", "nobody", "he", "she", "they", "it", "his", "her", "their"),
    *("is", "are", "was", "were", "do", "does", "did", "who", "which", "that", "true", "i", "think", "people", "said"),
    *("with", "in", "for", "a", "its"),
)


def words() -> tuple[str, ...]:
    """Return every word of the language once, in the order of this file."""
    nouns = [word for person in PEOPLE for word in (*person[:4], *person.things)]
    nouns += [word for noun in (*ANIMALS, *WORKS) for word in noun]
    verbs = [word for verb in VERBS for word in (*verb[:4], *verb.things)]
    clothes = [word for gender in CLOTHES for word in gender]
    opinions = [word for pair in OPINIONS for word in (*pair.positive, *pair.negative, pair.aspect)]
    opposites = [word for pair in (*ADJECTIVES, *ADVERBS) for word in pair[:3]]
    other = (*QUALITIES, *NEGATORS, *AFFIRMERS, *CONJUNCTIONS, *PLACES, *PAST, *PRESENT, *FUNCTION_WORDS)
    return (*nouns, *verbs, *clothes, *opinions, *opposites, *other)


Analogy = tuple[str, str, str, str]
"""Analogies (a, b, c, d): the vector b - a + c is nearest to d."""


def analogies() -> dict[str, list[Analogy]]:
    """Return the analogies of the grammar by relation, in every order of two pairs of words."""
    relations = {
        "gender": [(one.form(False, plural), one.form(True, plural)) for one in PEOPLE for plural in (False, True)],
        "number": [(one.form(female, False), one.form(female, True)) for one in PEOPLE for female in (False, True)]
        + [noun[:2] for noun in (*ANIMALS, *WORKS)],
        "tense": [(verb.third, verb.past) for verb in VERBS]
        + [forms[1:] for pair in OPINIONS for forms in (pair.positive, pair.negative)],
        "participle": [(verb.base, verb.participle) for verb in VERBS],
        "opposite": [(pair.positive, pair.negative) for pair in ADJECTIVES],
        "negation": [pair[:2] for pair in ADJECTIVES if pair.negative == f"un{pair.positive}"],
    }
    return {
        name: [(*one, *other) for one, other in permutations(pairs, 2)]  # type: ignore[misc]
        for name, pairs in relations.items()
    }
