"""How many tokens a request is estimated to take, before it is sent and after others were answered (endpoint.md §5)."""

import pytest

from batchrun.pace.tokens import FIRST, UNKNOWN_COMPLETION, Load, TokenEstimate
from batchrun.records import Request, Usage
from batchrun.tokens import FILE_TOKENS, prompt_tokens

PROMPT = b'{"messages":[{"content":"' + b"word " * 34 + b'","role":"user"}],"model":"m"}'


def request(body: bytes = PROMPT, model: str = "m") -> Request:
    return Request(0, "0", "default", 0, body, "h", model)


def learn(estimate: TokenEstimate, asked: Request, usage: Usage, times: int = FIRST) -> None:
    """Ask and answer it so often, one after another."""
    for _ in range(times):
        load = estimate.of(asked)
        estimate.ended(asked, estimate.started(asked), load, usage)


@pytest.mark.parametrize(("bound", "completion"), [(None, UNKNOWN_COMPLETION), (300, 300), (0, 0)])
def test_before_any_answer(bound: int | None, completion: float) -> None:
    """A prompt is four bytes a token; an answer is as long as it may be, and a good length where nothing bounds it."""
    load = TokenEstimate(lambda _request: bound).of(request())
    assert (load.prompt, load.completion, load.tokens) == (len(PROMPT) / 4, completion, len(PROMPT) / 4 + completion)


def test_what_answers_needed_is_learnt() -> None:
    """An answer is estimated as long as those before it, the later ones counting more; never longer than it may be."""
    bounds: list[int | None] = [None]
    estimate = TokenEstimate(lambda _request: bounds[0])
    for completion, times in ((10, 100), (100, 20)):
        learn(estimate, request(), Usage(50, completion, 50 + completion), times)
    learnt = estimate.of(request()).completion
    assert 10 + 90 * 20 / 120 < learnt < 60
    bounds[0] = 20
    assert estimate.of(request()).completion == 20


@pytest.mark.parametrize("tokens", [30, 57, 200])
def test_bytes_per_token_are_learnt(tokens: int) -> None:
    """A prompt is estimated with what others turned out to take for their bytes, whatever the language."""
    estimate = TokenEstimate(lambda _request: 0)
    learn(estimate, request(), Usage(tokens, 0, tokens))
    assert estimate.of(request()).prompt == pytest.approx(tokens)
    assert estimate.of(request(PROMPT * 4)).prompt == pytest.approx(4 * tokens)


def test_an_estimated_usage_teaches_no_bytes_per_token() -> None:
    """Where the endpoint reports no usage, what was made of it can't tell how it counts."""
    estimate = TokenEstimate(lambda _request: None)
    learn(estimate, request(), Usage(1, 7, 8, source="estimated"))
    load = estimate.of(request())
    assert (load.prompt, load.completion) == (len(PROMPT) / 4, 7)


def test_models_are_learnt_apart() -> None:
    """A model that thinks aloud doesn't make another's answers long."""
    estimate = TokenEstimate(lambda _request: None)
    for model, completion in (("terse", 5), ("verbose", 5000)):
        learn(estimate, request(model=model), Usage(50, completion, 50 + completion))
    assert estimate.of(request(model="terse")).completion == 5
    assert estimate.of(request(model="verbose")).completion == 5000


def test_nothing_is_learnt_before_the_first_have_ended() -> None:
    """The answers that come first are the short ones: they teach nothing until the slow ones among the first are there."""
    estimate = TokenEstimate(lambda _request: 500)
    started = [(estimate.started(request()), estimate.of(request())) for _ in range(30)]
    for number, load in started[1:]:
        estimate.ended(request(), number, load, Usage(50, 5, 55))
    assert estimate.of(request()).completion == 500
    estimate.ended(request(), *started[0], Usage(50, 450, 500))
    assert 5 < estimate.of(request()).completion < 50
    assert estimate.of(request()).longest == 450


def test_the_longest_answer_fades() -> None:
    """What is to be expected at most is the longest answer of late, and never more than the request allows."""
    bounds: list[int | None] = [None]
    estimate = TokenEstimate(lambda _request: bounds[0])
    learn(estimate, request(), Usage(50, 1000, 1050))
    assert estimate.of(request()).longest == 1000
    bounds[0] = 600
    assert estimate.of(request()).longest == 600
    learn(estimate, request(), Usage(50, 10, 60), times=2500)
    assert estimate.of(request()).longest == pytest.approx(10)


PARTS = {
    "image": b'{"image_url":{"url":"data:image/png;base64,%s"},"type":"image_url"}',
    "audio": b'{"input_audio":{"data":"%s","format":"wav"},"type":"input_audio"}',
    "file": b'{"file":{"file_data":"data:application/pdf;base64,%s"},"type":"file"}',
    "image by URL": b'{"image_url":{"url":"https://host.example/a.png"},"type":"image_url"}',
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("took", [85, 1100, 25_550])
def test_a_file_is_not_reckoned_by_its_bytes(part: bytes, took: int) -> None:
    """A megabyte within a request is no text of a quarter of a million tokens. What files take is learnt by itself, and
    teaches nothing of text.
    """
    content = part % (b"iVBORw0K" * 131_072) if b"%s" in part else part
    asked = request(PROMPT[:-1] + b',"content":[' + content + b"]}")
    estimate = TokenEstimate(lambda _request: None)
    assert FILE_TOKENS < estimate.of(asked).prompt < FILE_TOKENS + 100
    assert FILE_TOKENS < prompt_tokens(asked.body) < FILE_TOKENS + 100
    learn(estimate, asked, Usage(took, 10, took + 10))
    assert estimate.of(asked).prompt == pytest.approx(took)
    assert estimate.of(request()).prompt == len(PROMPT) / 4


def test_words_about_a_file_are_text() -> None:
    """A prompt that speaks of `"image_url":` has it escaped in its JSON, and is text."""
    body = b'{"messages":[{"content":"\\"image_url\\": x"}]}'
    assert prompt_tokens(body) == -(-len(body) // 4)


@pytest.mark.parametrize(
    ("load", "least"),
    [(Load(900, 10, bound=50, text=2000, files=3), 300), (Load(1e6, 10, text=800), 100)],
)
def test_what_a_request_needs_at_least(load: Load, least: float) -> None:
    """Only what is sure is held against a request: its text, at eight bytes a token, and the answer that it asks for."""
    assert load.least == least
