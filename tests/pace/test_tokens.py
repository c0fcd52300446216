"""How many tokens a request is reckoned to take, before it is sent and after others were answered (endpoint.md §5)."""

import pytest

from batchrun.pace.tokens import FILE_TOKENS, UNKNOWN_COMPLETION, TokenEstimate
from batchrun.records import Request, Usage

PROMPT = b'{"messages":[{"content":"' + b"word " * 34 + b'","role":"user"}],"model":"m"}'


def request(body: bytes = PROMPT, model: str = "m") -> Request:
    return Request(0, "0", "default", 0, body, "h", model)


@pytest.mark.parametrize(("bound", "completion"), [(None, UNKNOWN_COMPLETION), (300, 300), (0, 0)])
def test_before_any_answer(bound: int | None, completion: float) -> None:
    """A prompt is four bytes a token; an answer is as long as it may be, and a good length where nothing bounds it."""
    load = TokenEstimate(lambda _request: bound).of(request())
    assert (load.prompt, load.completion, load.tokens) == (len(PROMPT) / 4, completion, len(PROMPT) / 4 + completion)


def test_what_answers_needed_is_learnt() -> None:
    """An answer is reckoned as long as those before it, the later ones counting more; never longer than it may be."""
    bounds: list[int | None] = [None]
    estimate = TokenEstimate(lambda _request: bounds[0])
    for completion in [10] * 100 + [100] * 20:
        estimate.learn(request(), estimate.of(request()), Usage(50, completion, 50 + completion))
    learnt = estimate.of(request()).completion
    assert 10 + 90 * 20 / 120 < learnt < 60
    bounds[0] = 20
    assert estimate.of(request()).completion == 20


@pytest.mark.parametrize("tokens", [30, 57, 200])
def test_bytes_per_token_are_learnt(tokens: int) -> None:
    """A prompt is reckoned with what others turned out to take for their bytes, whatever the language."""
    estimate = TokenEstimate(lambda _request: 0)
    for _ in range(3):
        estimate.learn(request(), estimate.of(request()), Usage(tokens, 0, tokens))
    assert estimate.of(request()).prompt == pytest.approx(tokens)
    assert estimate.of(request(PROMPT * 4)).prompt == pytest.approx(4 * tokens)


def test_an_estimated_usage_teaches_no_bytes_per_token() -> None:
    """Where the endpoint reports no usage, what was made of it can't tell how it counts."""
    estimate = TokenEstimate(lambda _request: None)
    estimate.learn(request(), estimate.of(request()), Usage(1, 7, 8, source="estimated"))
    load = estimate.of(request())
    assert (load.prompt, load.completion) == (len(PROMPT) / 4, 7)


def test_models_are_learnt_apart() -> None:
    """A model that thinks aloud doesn't make another's answers long."""
    estimate = TokenEstimate(lambda _request: None)
    for model, completion in (("terse", 5), ("verbose", 5000)):
        estimate.learn(request(model=model), estimate.of(request(model=model)), Usage(50, completion, 50 + completion))
    assert estimate.of(request(model="terse")).completion == 5
    assert estimate.of(request(model="verbose")).completion == 5000


@pytest.mark.parametrize(
    "part",
    [
        b'{"image_url":{"url":"data:image/png;base64,%s"},"type":"image_url"}',
        b'{"input_audio":{"data":"%s","format":"wav"},"type":"input_audio"}',
        b'{"file":{"file_data":"data:application/pdf;base64,%s"},"type":"file"}',
    ],
    ids=["image", "audio", "file"],
)
def test_a_file_is_not_reckoned_by_its_bytes(part: bytes) -> None:
    """A megabyte within a request is no text of a quarter of a million tokens, and teaches no such thing either."""
    body = PROMPT[:-1] + b',"content":[' + part % (b"iVBORw0K" * 131_072) + b"]}"
    estimate = TokenEstimate(lambda _request: None)
    load = estimate.of(request(body))
    assert FILE_TOKENS < load.prompt < FILE_TOKENS + 100
    estimate.learn(request(body), load, Usage(FILE_TOKENS + 80, 10, FILE_TOKENS + 90))
    assert 40 <= estimate.of(request()).prompt <= 80
