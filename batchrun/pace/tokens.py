"""How many tokens a request will take, estimated before it is sent, from what the answers so far have told.

Counts; it never waits.
"""

from collections.abc import Callable

import msgspec

from batchrun.records import Request, Usage
from batchrun.tokens import BYTES_PER_TOKEN, FILE_TOKENS, text_and_files

UNKNOWN_COMPLETION = 2000.0
"""Taken for an answer as long as nothing bounds it and none has come."""
FIRST = 4
"""The first so many requests must all have ended before answers teach: those that come first are the short ones."""
_MEMORY = 0.98
_LONGEST_MEMORY = 0.998
_SURE_BYTES_PER_TOKEN = 8


class Load(msgspec.Struct, frozen=True, gc=False):
    """What one request takes, in tokens: its answer likely takes `completion`, and seldom more than `longest`.

    `bound` is the most that the answer may have, 0 where nothing bounds it; `plain` is what the prompt was estimated to be
    before anything was learnt. `text` and `files` are the bytes of text and how many files there are.
    """

    prompt: float
    completion: float
    longest: float = 0.0
    bound: int = 0
    plain: float = 0.0
    text: int = 0
    files: int = 0

    @property
    def tokens(self) -> float:
        return self.prompt + self.completion

    @property
    def least(self) -> float:
        """The tokens that room is needed for: hardly any text has more bytes a token, and files may be small."""
        return self.text / _SURE_BYTES_PER_TOKEN + self.bound


class _Ratio(msgspec.Struct):
    """What was used for what was estimated, the older ones counting ever less."""

    used: float = 0.0
    estimated: float = 0.0

    def add(self, used: float, estimated: float) -> None:
        self.used = self.used * _MEMORY + used
        self.estimated = self.estimated * _MEMORY + estimated

    @property
    def value(self) -> float:
        return self.used / self.estimated if self.used and self.estimated else 1.0


class _Model(msgspec.Struct):
    """What the answers of one model have told. Prompts with files are learnt apart from those of text alone."""

    text: _Ratio
    files: _Ratio
    completion: _Ratio
    longest: float = 0.0
    started: int = 0
    first_ended: int = 0

    @property
    def known(self) -> bool:
        return self.first_ended >= FIRST and self.completion.estimated > 0


class TokenEstimate:
    """Learns bytes a token and tokens an answer, for each model. `bound` is the most tokens that an answer may have, None
    where the request doesn't bound it; `unknown` is taken for one before anything is known of it.
    """

    def __init__(self, bound: Callable[[Request], int | None], unknown: float = UNKNOWN_COMPLETION) -> None:
        self._bound = bound
        self._unknown = unknown
        self._models: dict[str, _Model] = {}

    def of(self, request: Request) -> Load:
        """The likely load. An answer is taken as long as the others were; before there are any, as long as it may be."""
        bound = self._bound(request)
        text, files = text_and_files(request.body)
        plain = text / BYTES_PER_TOKEN + files * FILE_TOKENS
        model = self._model(request)
        longest = self._unknown if bound is None else float(bound)
        completion = longest
        if model.known:
            most = float("inf") if bound is None else bound
            completion, longest = min(model.completion.value, most), min(model.longest, most)
        prompt = plain * (model.files if files else model.text).value
        return Load(prompt, completion, longest, bound or 0, plain, text, files)

    def started(self, request: Request) -> int:
        """A request goes on the wire; returns which of its model's it is."""
        model = self._model(request)
        model.started += 1
        return model.started

    def ended(self, request: Request, number: int, load: Load, usage: Usage | None) -> None:
        """What the request of that number took; None where that is not known."""
        model = self._model(request)
        model.first_ended += number <= FIRST
        if usage is None:
            return
        model.completion.add(usage.completion, 1.0)
        model.longest = max(model.longest * _LONGEST_MEMORY, usage.completion)
        if usage.source == "reported" and usage.prompt:
            (model.files if load.files else model.text).add(usage.prompt, load.plain)

    def _model(self, request: Request) -> _Model:
        found = self._models.get(request.model)
        if found is None:
            found = self._models[request.model] = _Model(_Ratio(), _Ratio(), _Ratio())
        return found
