"""Finds the labels that a prompt offers, and picks one of them by counting words.

Pure and deterministic. It knows no language: it splits on letters and looks into lexicon.py.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence

from batchrun.embedded.lexicon import chinese_opinions, chinese_words, lexicon

_WORD = r"[\"'`“‘*]?[^\W\d_][\w-]{0,30}[\"'`”’*]?"
_LIST = re.compile(
    rf"{_WORD}(?:\s*,\s*{_WORD})*\s*(?:,\s*)?(?:\bor\b|\band\b|/|\|)\s*{_WORD}(?:\s*[/|]\s*{_WORD})*|"
    rf"{_WORD}(?:\s*,\s*{_WORD})+"
)
_ASKS = re.compile(
    r"\b(?:label\w*|classif\w*|categor\w*|sentiment|one of|choose|options|answer (?:with|only))\b", re.IGNORECASE
)
_ASKS_CHINESE = re.compile("标注|分类|标签|情感|判断|归类|选择")
_SPLIT = re.compile(r"\s*(?:,|/|\||\bor\b|\band\b)\s*")
_TOKENS = re.compile(r"[a-z]+(?:'[a-z]+)?|[\u4e00-\u9fff]+")
_SLIP = 25  # one label in so many is another than the words say, as with any annotator


def find_labels(text: str) -> tuple[tuple[str, ...], str]:
    """Find the labels offered in `text`, and the text without them; no labels if it doesn't ask to label."""
    if _ASKS_CHINESE.search(text):
        places = sorted((at, word) for word in chinese_opinions() if (at := text.find(word)) >= 0)
        if len(places) > 1:
            labels = tuple(word for _, word in places)
            return labels, text.replace("".join(labels), "")
    asked = [found.end() for found in _ASKS.finditer(text)]
    if not asked:
        return (), text
    opinions = lexicon().opinions
    best: tuple[int, int, tuple[str, ...], re.Match[str]] | None = None
    for found in _LIST.finditer(text):
        labels = tuple(dict.fromkeys(word.strip("\"'`“”‘’*") for word in _SPLIT.split(found[0]) if word))
        if not 2 <= len(labels) <= 20:
            continue
        known = sum(label.lower() in opinions for label in labels)
        before = bisect_right(asked, found.start() + 1)
        distance = found.start() - asked[before - 1] if before else 10_000
        if not known and distance > 60:
            continue  # a list in the text that is to be labelled, not a list of labels
        if best is None or (known, -distance) > best[:2]:
            best = (known, -distance, labels, found)
    if best is None:
        return (), text
    _, _, labels, found = best
    return labels, text[: found.start()] + text[found.end() :]


def opinion(text: str) -> int:
    """How good (above zero) or bad (below) the words of `text` are."""
    words = lexicon()
    score, negated, hedged = 0, 0, False
    for word in _TOKENS.findall(text.lower().replace("’", "'")):
        if word > "\u4e00":
            score += sum(value for known, value in chinese_words() if known in word)
            continue
        value = (word in words.good) - (word in words.bad)
        hedged = hedged or word in words.hedges
        score += -value if negated and word not in words.negations else value
        negated = 3 if word in words.negations else max(0, negated - 1)
    return 0 if hedged and abs(score) < 2 else score


def pick_label(labels: Sequence[str], text: str, chance: int) -> str:
    """One of `labels` for `text`; `chance` is a hash that decides where words don't, and slips now and then."""
    if chance % _SLIP == 0:
        return labels[chance // _SLIP % len(labels)]
    known, score = lexicon(), opinion(text)
    wanted = known.positive if score > 0 else known.negative if score < 0 else known.neutral
    for label in labels:
        if label.lower() in wanted:
            return label
    if any(label.lower() in known.opinions for label in labels):
        sides = [label for label in labels if label.lower() not in known.neutral] or list(labels)
        return sides[chance % len(sides)]
    words = set(_TOKENS.findall(text.lower()))
    ranked = [(len(words & known.topics.get(label.lower(), frozenset({label.lower()}))), label) for label in labels]
    most = max(count for count, _ in ranked)
    ties = [label for count, label in ranked if count == most]
    return ties[chance % len(ties)]
