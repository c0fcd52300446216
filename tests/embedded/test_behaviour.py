"""What the embedded endpoint answers, refuses and spoils, without a connection."""

import json
from typing import Any, get_args

import msgspec
import pytest

from batchrun.embedded import Behaviour, Fault, parse_faults
from batchrun.embedded.answers import answer
from batchrun.embedded.faults import Script
from batchrun.embedded.quota import Quota
from batchrun.embedded.requests import ChatRequest, parse_request
from batchrun.embedded.tokens import Tokenizer, count_tokens
from batchrun.embedded.wire import ApiError

HELLO = [{"role": "user", "content": "Hello there"}]


def read(**body: Any) -> ChatRequest:
    return parse_request(json.dumps({"model": "m", "messages": HELLO, **body}).encode(), (), 1000, "bytes")


def say(text: str, **body: Any) -> str:
    return answer(read(messages=[{"role": "user", "content": text}], **body), 0)[0].text


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 3}, "model", "invalid_type"),
        ({"messages": None}, "messages", "missing_required_parameter"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": "hi"}, "messages", "invalid_type"),
        ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": [{"role": "bot", "content": "hi"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type"),
        ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0].type", "invalid_value"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
            "invalid_type",
        ),
        ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"top_p": -0.1}, "top_p", "decimal_below_min_value"),
        ({"presence_penalty": 3}, "presence_penalty", "decimal_above_max_value"),
        ({"frequency_penalty": -3}, "frequency_penalty", "decimal_below_min_value"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ({"max_tokens": 5000}, "messages", "context_length_exceeded"),
        ({"n": 0}, "n", "integer_below_min_value"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"stop": [1]}, "stop", "invalid_type"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ],
)
def test_a_bad_request_is_refused_as_openai_does(body: dict[str, Any], param: str, code: str | None) -> None:
    """The error is a 400 that names the parameter and the code."""
    with pytest.raises(ApiError) as caught:
        read(**body)
    error = json.loads(caught.value.body)["error"]
    assert (caught.value.status, error["type"]) == (400, "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    """Whatever arrives is refused, and never crashes."""
    with pytest.raises(ApiError) as caught:
        parse_request(raw, (), 1000, "bytes")
    assert caught.value.status == 400


def test_an_unknown_model_is_a_404() -> None:
    """It is, once models are named; before, any name will do."""
    raw = json.dumps({"model": "other", "messages": HELLO}).encode()
    assert parse_request(raw, (), 1000, "bytes").model == "other"
    with pytest.raises(ApiError) as caught:
        parse_request(raw, ("m",), 1000, "bytes")
    assert caught.value.status == 404
    assert json.loads(caught.value.body)["error"]["code"] == "model_not_found"


def test_the_request_of_the_api_page_is_accepted() -> None:
    """Its content is a list of parts; tokens are counted over their text."""
    request = read(messages=[{"role": "user", "content": [{"type": "text", "text": "你好"}]}], stream=True, top_p=1)
    assert (request.user, request.stream) == ("你好", True)
    assert request.prompt_tokens == 3 + 4 + count_tokens("你好", "bytes") == 9


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is 12 + 30?", "42"),
        ("What is 9 * 7?", "63"),
        ("What is 7 / 2?", "3.5"),
        ("What is 2 to the power of 10?", "1024"),
        ("What is 15 percent of 240?", "36"),
        ("What is 1 / 0?", "undefined"),
        ("What is the capital of Japan?", "Tokyo"),
        ("What is the chemical symbol for gold?", "Au"),
        ("What is the atomic number of oxygen?", "8"),
        ("Which is the largest planet in the Solar System?", "Jupiter"),
    ],
)
def test_sums_and_a_few_facts_are_right(question: str, expected: str) -> None:
    """The answer is the bare value, so that an exact score holds."""
    assert say(question) == expected


def test_numbers_beyond_a_float_are_survived() -> None:
    """It says something instead of failing."""
    assert say(f"What is {'9' * 400} * 2?")
    assert say(f"What is {'9' * 30} to the power of 99?")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A great lamp. I love it.\nLabel it positive, negative or neutral.", "positive"),
        ("Terrible. It broke at once.\nLabel it positive, negative or neutral.", "negative"),
        ("It is blue.\nLabel it positive, negative or neutral.", "neutral"),
        ("Not good at all.\nClassify the sentiment: POSITIVE/NEGATIVE.", "NEGATIVE"),
        ("Win a free prize, click now!\nClassify as spam or ham.", "spam"),
        ("质量很好，推荐。请标注为正面、负面或中性。", "正面"),
    ],
)
def test_a_labelling_prompt_gets_one_of_its_labels(text: str, label: str) -> None:
    """Words decide; one answer in 25 slips, and then another seed does not."""
    assert label in {say(text, seed=seed) for seed in range(2)}


def test_chinese_is_answered_in_chinese() -> None:
    """At least it looks so."""
    assert any("\u4e00" <= sign <= "\u9fff" for sign in say("为什么天空是蓝色的？"))


def test_the_same_body_gets_the_same_answer() -> None:
    """And `stream` is no part of what an answer depends on."""
    assert say("Tell me about rivers") == say("Tell me about rivers") == say("Tell me about rivers", stream=True)


@pytest.mark.parametrize("tokenizer", get_args(Tokenizer))
@pytest.mark.parametrize("asked", [HELLO, [{"role": "user", "content": "为什么天空是蓝色的？"}]])
def test_max_tokens_and_stop_cut_the_answer(tokenizer: Tokenizer, asked: Any) -> None:
    """By the same measure that usage is counted with, and never inside a character."""

    def reading(**more: Any) -> ChatRequest:
        return parse_request(json.dumps({"model": "m", "messages": asked, **more}).encode(), (), 1000, tokenizer)

    (whole,) = answer(reading(), 0)
    (cut,) = answer(reading(max_tokens=4), 0)
    assert (cut.finish_reason, count_tokens(cut.text, tokenizer)) == ("length", 4)
    assert whole.text.startswith(cut.text)
    assert answer(reading(max_tokens=count_tokens(whole.text, tokenizer)), 0) == [whole]


def test_stop_ends_the_answer_before_it() -> None:
    """A stop sequence is not part of the answer, and ends it in good order."""
    (whole,) = answer(read(), 0)
    (stopped,) = answer(read(stop=whole.text[5:8]), 0)
    assert (stopped.text, stopped.finish_reason) == (whole.text[:5], "stop")
    (chinese,) = answer(read(messages=[{"role": "user", "content": "你好"}], max_tokens=1), 0)
    assert chinese.text.encode().decode() == chinese.text


def test_n_gives_as_many_choices() -> None:
    """Each has its own text and reason."""
    assert len(answer(read(n=3), 0)) == 3


def test_a_json_schema_is_filled() -> None:
    """Strings, numbers, enums, arrays and nested objects fit; a label is chosen by the text."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"enum": ["positive", "negative"]},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "count": {"type": "integer"},
            "sure": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "inner": {"type": "object", "properties": {"note": {"type": ["string", "null"]}}},
        },
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    found = json.loads(say("An excellent, lovely chair", response_format=wanted, seed=1))
    assert found["label"] in ("positive", "negative")
    assert 0 <= found["score"] <= 1
    assert isinstance(found["count"], int)
    assert found["sure"] is True
    assert len(found["tags"]) == 2
    assert isinstance(found["inner"]["note"], str)
    asked = 'Answer in JSON: {"label": "…", "confidence": 0}'
    assert set(json.loads(say(asked, response_format={"type": "json_object"}))) == {"label", "confidence"}


def test_a_senseless_schema_is_a_400() -> None:
    """It is the request's fault, and not a crash."""
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": "low"}}}
    with pytest.raises(ApiError) as caught:
        say("x", response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    assert caught.value.status == 400


def test_faults_are_read_from_inline_text_json_and_files(tmp_path: Any) -> None:
    """The three ways give the same records."""
    expected = (
        Fault(action="reset", every=7),
        Fault(status=429, first=3, headers={"retry-after": "2"}),
        Fault(action="cut", match="order 12", times=1),
    )
    assert parse_faults('reset every=7; 429 first=3 retry-after=2; cut match="order 12" times=1') == expected
    text = msgspec.json.encode(expected).decode()
    assert parse_faults(text) == expected
    file = tmp_path / "faults.json"
    file.write_text(text)
    assert parse_faults(str(file)) == expected
    assert parse_faults(" ") == ()


@pytest.mark.parametrize(
    "text", ["explode", "reset every", "reset every=x", "status", "99", '{"status": 1}', "a.json", 'cut match="']
)
def test_a_wrong_fault_script_says_so(text: str) -> None:
    """As ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r"fault|action|status"):
        parse_faults(text)


def test_faults_apply_where_their_conditions_hold() -> None:
    """The first that applies is played; `times` counts for each body."""
    script = Script(parse_faults("500 every=3; reset match=x times=1; 503 after=6"), 0)
    bodies = [b"x", b"x", b"x", b"y", b"xx", b"x", b"x"]
    chosen = [script.choose(number, body, hash(body)) for number, body in enumerate(bodies, 1)]
    assert [fault and (fault.status or fault.action) for fault in chosen] == [
        "reset", None, 500, None, "reset", 500, 503
    ]  # fmt: skip


def test_probability_is_seeded() -> None:
    """The same seed spoils the same requests."""
    faults = (Fault(status=500, probability=0.3),)
    runs = [[Script(faults, seed).choose(1, b"", 0) is None for _ in range(1)] for seed in (1, 1)]
    assert runs[0] == runs[1]
    script = Script(faults, 1)
    hit = sum(script.choose(number, b"", 0) is not None for number in range(1000))
    assert 250 < hit < 350


def test_quota_refuses_and_tells_when_to_return() -> None:
    """A bucket holds one minute's worth; the wait that is told is enough."""
    quota = Quota(2, 0)
    quota.admit(1, 0.0)
    quota.admit(1, 0.0)
    with pytest.raises(ApiError) as caught:
        quota.admit(1, 0.0)
    headers = dict(caught.value.headers)
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"30", b"30000")
    assert (headers[b"x-ratelimit-limit-requests"], headers[b"x-ratelimit-reset-requests"]) == (b"2", b"1m0s")
    quota.admit(1, 30.0)


def test_tokens_are_settled_and_too_large_is_final() -> None:
    """What was reserved and not used comes back; a request beyond the limit is told no time to wait."""
    quota = Quota(0, 100)
    quota.admit(100, 0.0)
    quota.settle(100, 10)
    quota.admit(90, 0.0)
    with pytest.raises(ApiError, match="too large") as caught:
        quota.admit(101, 0.0)
    assert b"retry-after" not in dict(caught.value.headers)


@pytest.mark.parametrize(
    ("text", "as_bytes", "as_words"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog, in 1984.", 14, 13),
        ("为什么天空是蓝色的？", 8, 10),
        ("Jahrhundertereignisse", 6, 4),
        ("x[0] = {'a': 1}", 4, 12),
        ("   \n", 1, 0),
    ],
)
def test_two_tokenizers_count_differently(text: str, as_bytes: int, as_words: int) -> None:
    """Four bytes a token, or ideographs, signs and pieces of words; usage says what was counted."""
    assert (count_tokens(text, "bytes"), count_tokens(text, "words")) == (as_bytes, as_words)


def test_settings_are_checked() -> None:
    """A negative limit is a mistake, not a way to say none."""
    with pytest.raises(ValueError, match="slots"):
        Behaviour(slots=-1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"speed": 1}', type=Behaviour)
