"""The words that the embedded endpoint answers from: opinions, topics and a little common knowledge.

The lists stand in lexicon.json beside this module, and are read when first asked for. They are short on purpose: the
answers should be plausible, not perfect. Code must never stand in the data, nor words in the code.
"""

import functools
from pathlib import Path

import msgspec

_DATA = Path(__file__).with_name("lexicon.json")
_CHINESE = "\u4e00"
"""The first of the ideographs: a word above it is Chinese."""


class Lexicon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words in lower case. `good` and `bad` are what a text may say, `positive`, `negative` and `neutral` what a label for
    it may be called; `hedges` make a weak opinion none, `negations` turn the words behind them.

    `topics` are words by label, `elements` symbol and atomic number by name. A fact is the words that must all stand in a
    question, and its answer. `{echo}` in a sentence is the start of what was asked.
    """

    good: frozenset[str]
    bad: frozenset[str]
    hedges: frozenset[str]
    negations: frozenset[str]
    positive: frozenset[str]
    negative: frozenset[str]
    neutral: frozenset[str]
    topics: dict[str, frozenset[str]]
    capitals: dict[str, str]
    elements: dict[str, tuple[str, int]]
    facts: list[tuple[list[str], str]]
    sentences: list[str]
    chinese_sentences: list[str]
    filler: str

    @property
    def opinions(self) -> frozenset[str]:
        """Every label that says how good something is."""
        return self.positive | self.negative | self.neutral


@functools.cache
def lexicon() -> Lexicon:
    """The lexicon, read once."""
    return msgspec.json.decode(_DATA.read_bytes(), type=Lexicon)


@functools.cache
def chinese_opinions() -> list[str]:
    """The labels in Chinese, which stand in a text without spaces around them."""
    return sorted(word for word in lexicon().opinions if word > _CHINESE)


@functools.cache
def chinese_words() -> list[tuple[str, int]]:
    """Good and bad words in Chinese with what they count."""
    found = [(word, 1) for word in lexicon().good if word > _CHINESE]
    return found + [(word, -1) for word in lexicon().bad if word > _CHINESE]
