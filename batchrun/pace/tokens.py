"""How many tokens a request will take, reckoned before it is sent, from what the answers so far have told.

Counts; it never waits.
"""

import re
from collections.abc import Callable

import msgspec

from batchrun.records import Request, Usage

BYTES_PER_TOKEN = 4.0
UNKNOWN_COMPLETION = 2000.0
"""Taken for an answer as long as nothing bounds it and none has come."""
FILE_TOKENS = 1000
"""Taken for an image or another file within a request: its bytes say nothing of its tokens."""
_FILE = re.compile(rb'(?<=[",])[A-Za-z0-9+/=_-]{1024,}')
_FILE_MARKS = (b";base64,", b'"input_audio"')
_MEMORY = 0.98
_CERTAIN = 0.8


class Load(msgspec.Struct, frozen=True, gc=False):
    """What one request takes, in tokens. `bound` is the most that its answer may have, 0 where nothing bounds it; `text`
    and `files` are what the prompt was reckoned from: bytes, and how many.
    """

    prompt: float
    completion: float
    bound: int = 0
    text: int = 0
    files: int = 0

    @property
    def tokens(self) -> float:
        return self.prompt + self.completion

    @property
    def least(self) -> float:
        """The tokens that it is certain to need room for."""
        return _CERTAIN * self.prompt + self.bound


class _Model(msgspec.Struct):
    """Sums over a model's answers, the older ones counting ever less."""

    answers: float = 0.0
    completion: float = 0.0
    prompt: float = 0.0
    text: float = 0.0


class TokenEstimate:
    """Learns bytes a token and tokens an answer, for each model. `bound` is the most tokens that an answer may have, None
    where the request doesn't bound it.
    """

    def __init__(self, bound: Callable[[Request], int | None]) -> None:
        self._bound = bound
        self._models: dict[str, _Model] = {}

    def of(self, request: Request) -> Load:
        """The likely load. An answer is taken as long as the others were; before there are any, as long as it may be."""
        bound = self._bound(request)
        text, files = _text_bytes(request.body)
        known = self._models.get(request.model)
        if known is None:
            completion = UNKNOWN_COMPLETION if bound is None else bound
        else:
            mean = known.completion / known.answers
            completion = mean if bound is None else min(mean, bound)
        per_byte = known.prompt / known.text if known is not None and known.prompt else 1 / BYTES_PER_TOKEN
        prompt = text * per_byte + files * FILE_TOKENS
        return Load(prompt, completion, bound or 0, text, files)

    def learn(self, request: Request, load: Load, usage: Usage) -> None:
        """What an answer took."""
        known = self._models.setdefault(request.model, _Model())
        known.answers = known.answers * _MEMORY + 1
        known.completion = known.completion * _MEMORY + usage.completion
        if usage.source == "reported" and usage.prompt:
            known.text = known.text * _MEMORY + load.text
            known.prompt = known.prompt * _MEMORY + max(0, usage.prompt - load.files * FILE_TOKENS)


def _text_bytes(body: bytes) -> tuple[int, int]:
    """The bytes of a body that are text, and how many files are in it."""
    if not any(mark in body for mark in _FILE_MARKS):
        return len(body), 0
    text, files = _FILE.subn(b"", body)
    return len(text), files
