"""Vocabulary of the bundled text networks, in the order of their token numbers, and their tokenizer."""

from __future__ import annotations

from dataclasses import dataclass

from featviz.errors import SettingError, nearest, shown

PAD, BEGIN = 0, 1
"""Numbers of the special tokens: an empty position, and the start of a sentence for the transformer."""
SENTIMENTS = ("negative", "positive")
"""Class names of the bundled text networks, in output order."""
MAX_TOKENS = 32
"""Number of tokens of the longest sentence."""
VOCABULARY = (
    *("<pad>", "<begin>"),
    *("king", "kings", "queen", "queens", "crown", "palace", "prince", "princes", "princess"),
    *("princesses", "castle", "pony", "actor", "actors", "actress", "actresses", "stage", "camera"),
    *("hero", "heroes", "heroine", "heroines", "sword", "dragon", "waiter", "waiters", "waitress"),
    *("waitresses", "menu", "tray", "father", "fathers", "mother", "mothers", "cradle", "baby"),
    *("uncle", "uncles", "aunt", "aunts", "gift", "cake", "brother", "brothers", "sister"),
    *("sisters", "kite", "ball", "monk", "monks", "nun", "nuns", "abbey", "candle"),
    *("wizard", "wizards", "witch", "witches", "wand", "broom", "dog", "dogs", "kennel"),
    *("cat", "cats", "basket", "bird", "birds", "nest", "cow", "cows", "barn"),
    *("bear", "bears", "cave", "film", "films", "screen", "story", "stories", "plot"),
    *("book", "books", "cover", "song", "songs", "melody", "play", "plays", "curtain"),
    *("meal", "meals", "table", "walk", "walks", "walked", "walking", "street", "path"),
    *("sleep", "sleeps", "slept", "sleeping", "bed", "pillow", "swim", "swims", "swam"),
    *("swimming", "river", "lake", "cook", "cooks", "cooked", "cooking", "kitchen", "pan"),
    *("drive", "drives", "drove", "driving", "car", "road", "paint", "paints", "painted"),
    *("painting", "wall", "brush", "dance", "dances", "danced", "dancing", "ballroom", "mirror"),
    *("write", "writes", "wrote", "writing", "letter", "pen", "work", "works", "worked"),
    *("working", "office", "desk", "climb", "climbs", "climbed", "climbing", "hill", "ladder"),
    *("suit", "beard", "tie", "dress", "veil", "skirt", "like", "likes", "liked"),
    *("dislike", "dislikes", "disliked", "rhythm", "love", "loves", "loved", "hate", "hates"),
    *("hated", "ending", "praise", "praises", "praised", "condemn", "condemns", "condemned", "craft"),
    *("admire", "admires", "admired", "despise", "despises", "despised", "length", "good", "bad"),
    *("quality", "wonderful", "terrible", "effect", "funny", "boring", "humour", "clever", "stupid"),
    *("thought", "beautiful", "ugly", "style", "kind", "unkind", "spirit", "happy", "unhappy"),
    *("mood", "pleasant", "unpleasant", "manner", "friendly", "unfriendly", "tone", "fair", "unfair"),
    *("judgement", "well", "badly", "together", "beautifully", "horribly", "alone", "nicely", "poorly"),
    *("outside", "long", "short", "old", "new", "red", "green", "tall", "small"),
    *("not", "never", "hardly", "indeed", "always", "really", "and", "but", "although"),
    *("while", "because", "when", "near", "beside", "behind", "yesterday", "once", "today"),
    *("now", "the", "this", "these", "every", "no", "everybody", "nobody", "he"),
    *("she", "they", "it", "his", "her", "their", "is", "are", "was"),
    *("were", "do", "does", "did", "who", "which", "that", "true", "i"),
    *("think", "people", "said", "with", "in", "for", "a", "its"),
)


@dataclass(frozen=True)
class WordTokenizer:
    """A tokenizer of the bundled text networks: one token per word, in any case, without punctuation.

    Args:
        begin: Whether a `<begin>` token comes first, as the transformer needs.

    >>> WordTokenizer(begin=True)("The film was not good.")
    [1, 255, 77, 271, 236, 189]
    """

    begin: bool = False

    def __call__(self, text: str) -> list[int]:
        """Return the token numbers of a text.

        Args:
            text: Words of `VOCABULARY`, separated by spaces or `, . ; : ! ?`.

        Raises:
            SettingError: A word is not in the vocabulary.
        """
        words = text.lower().translate(_PUNCTUATION).split()
        for word in words:
            if word not in _NUMBERS:
                raise SettingError(
                    f"{shown(word)} is not in the vocabulary of {len(_NUMBERS)} words{nearest(word, _NUMBERS)}"
                )
        return [BEGIN] * self.begin + [_NUMBERS[word] for word in words]


_PUNCTUATION = str.maketrans(dict.fromkeys(",.;:!?", " "))
_NUMBERS = {word: i for i, word in enumerate(VOCABULARY) if not word.startswith("<")}
