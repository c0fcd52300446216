"""How the embedded endpoint counts tokens: two measures, so that a client can meet one that is not its own.

Neither is a real tokenizer; both are the same everywhere. Pure.
"""

import re
from typing import Literal

Tokenizer = Literal["bytes", "words"]
"""`bytes`: four bytes of UTF-8 a token, as clients estimate. `words`: each ideograph, each sign and each begun six letters or
digits of a word are one; spaces cost nothing. Chinese then costs a third more than its bytes say, code twice as much, English
prose a little less.
"""

_BYTES = 4
_WORDS = re.compile("\\s*(?:[\u3040-\u30ff\u4e00-\u9fff]|[^\\W_\u3040-\u30ff\u4e00-\u9fff]{1,6}|[^\\w\\s]|_)")


def count_tokens(text: str, tokenizer: Tokenizer) -> int:
    """The tokens of `text`, a begun one counting as one."""
    if tokenizer == "bytes":
        return -(-len(text.encode()) // _BYTES)
    return sum(1 for _ in _WORDS.finditer(text))


def first_tokens(text: str, tokens: int, tokenizer: Tokenizer) -> str:
    """The start of `text` that has so many tokens; all of it where it has no more."""
    if tokenizer == "bytes":
        raw = text.encode()
        return text if len(raw) <= tokens * _BYTES else raw[: tokens * _BYTES].decode(errors="ignore")
    end = 0
    for number, found in enumerate(_WORDS.finditer(text)):
        if number == tokens:
            return text[:end]
        end = found.end()
    return text
