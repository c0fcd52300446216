"""Streams as they really come: one answer, whatever the shape and the cut of the bytes (endpoint.md §2)."""

import itertools
import json
import time
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import EndpointError, Kind
from batchrun.records import Answer
from batchrun.wire.decode import stream
from batchrun.wire.decode.stream import Decoder

TEXT = "你好, wörld 🙂"


def event(delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any) -> str:
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return data({"object": "chat.completion.chunk", "choices": [choice], **more})


def data(value: Any) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def plain(**more: Any) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}
    return json.dumps({"id": "r", "choices": [choice], **more}, ensure_ascii=False)


USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
HEAD = event({"role": "assistant", "content": "你好, "}, id="r", model="m", created=5, system_fingerprint="fp")
TAIL = event({"content": "wörld 🙂"}) + event({}, "stop")
USED = data({"choices": [], "usage": USAGE})
DONE = "data: [DONE]\n\n"
STREAM = HEAD + TAIL + USED + DONE


def escaped(value: Any) -> str:
    """An event in ASCII, as JavaScript relays write it: surrogates as escapes, also lone ones."""
    return f"data: {json.dumps(value)}\n\n"


def piece(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None, **more}]}


PARTS = [{"type": "thinking", "thinking": []}, {"type": "text", "text": "wörld "}, {"type": "text", "text": "🙂"}]

WHOLE: dict[str, str] = {
    "LF": STREAM,
    "CRLF": STREAM.replace("\n", "\r\n"),
    "lone CR": STREAM.replace("\n", "\r"),
    "byte order mark": "\ufeff" + STREAM,
    "data without a space": STREAM.replace("data: ", "data:"),
    "several data lines in one event": HEAD.replace(', "choices"', ',\ndata: "choices"') + TAIL + DONE,
    "event, id and retry fields": "".join(f"event: chunk\nid: 7\nretry: 10\n{part}" for part in (HEAD, TAIL, DONE)),
    "keep-alive comments": f": OPENROUTER PROCESSING\n\n{HEAD}: ping\n\n: keep-alive\n\n{TAIL}:\n\n{DONE}",
    "blank lines before the stream": "\n\n\n" + STREAM,
    "no [DONE]": HEAD + TAIL + USED,
    "no blank line at the end": (HEAD + TAIL).rstrip("\n"),
    "a line break at the end": (HEAD + TAIL).rstrip("\n") + "\r",
    "anything behind [DONE]": STREAM + "hello\n" + data({"error": "lost"}) + "data: {",
    "events behind [DONE]": STREAM + event({"content": "lost"}),
    "role on every chunk": HEAD + TAIL.replace('"content"', '"role": "assistant", "content"') + DONE,
    "empty finish reason until the last": (HEAD + TAIL).replace('"finish_reason": null', '"finish_reason": ""') + DONE,
    "content null": event({"role": "assistant", "content": None}) + HEAD + TAIL,
    "empty choices": data({"choices": []}) + HEAD + data({"choices": None}) + TAIL,
    "delta null": HEAD + data({"choices": [{"index": 0, "delta": None}]}) + TAIL,
    "message in the place of delta": (HEAD + TAIL).replace('"delta"', '"message"'),
    "choice without an index": (HEAD + TAIL).replace('"index": 0, ', ""),
    "empty data": "data:\n\ndata: \n\n" + STREAM,
    "plain JSON": plain(),
    "blank lines before plain JSON": "\n \r\n\n" + plain(),
    "plain JSON after a byte order mark": "\ufeff" + plain(),
    "plain JSON with [DONE] behind it": plain() + "\n\ndata: [DONE]\n\n",
    "no blank lines between events": STREAM.replace("\n\n", "\n"),
    "mixed line ends": HEAD.replace("\n", "\r\n") + TAIL.replace("\n\n", "\r\n\r") + DONE,
    "a character cut between its surrogates": HEAD
    + escaped(piece("wörld \ud83d"))
    + escaped(piece("\ude42"))
    + event({}, "stop"),
    "content as a list of parts": HEAD + data(piece(PARTS)) + event({}, "stop"),
    "wrong types all about": HEAD
    + data({"choices": [{"index": "x", "delta": {"content": 5, "tool_calls": 1, "refusal": []}, "finish_reason": 0}]})
    + data({"choices": [None, 3, {"delta": "x"}], "usage": "none", "id": 7.5})
    + data([1])
    + data("text")
    + data(7)
    + TAIL,
    "usage null on every chunk": (HEAD + TAIL).replace('"choices"', '"usage": null, "choices"') + USED + DONE,
    "fields that nobody knows": (HEAD + TAIL).replace('"index"', '"logprobs": {"content": [{"x": [1]}]}, "index"'),
    "unknown lines between events": HEAD + "x-trace: 7\nhello\n" + TAIL + DONE,
    "a finish reason in the last piece of text": HEAD + event({"content": "wörld 🙂"}, "stop") + DONE,
    "plain JSON behind comments": ": keep-alive\n\n: keep-alive\n\n" + plain(),
    "plain JSON with [DONE] and no space": plain() + "\ndata:[DONE]",
    "plain JSON with a delta for its message": plain().replace('"message"', '"delta"'),
    "cut in the usage behind the finish": HEAD + TAIL + 'data: {"choices": [], "usa',
    "pretty plain JSON": json.dumps(json.loads(plain()), indent=2),
}


def cut(body: bytes) -> list[int]:
    """Every cut there is: byte by byte."""
    return list(range(len(body)))


def fed(body: bytes, cuts: list[int] | None = None) -> Answer:
    decoder = Decoder()
    edges = [0, *sorted(cuts or []), len(body)]
    for start, end in itertools.pairwise(edges):
        decoder.feed(body[start:end])
        if decoder.done:
            break
    return decoder.finish()


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_whole_answer(text: str) -> None:
    """Every shape of a whole answer gives the same text and finish reason, at once or byte by byte."""
    body = text.encode()
    answer = fed(body)
    assert (answer.completion, answer.finish_reason) == (TEXT, "stop")
    assert fed(body, cut(body)) == answer


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 2000), max_size=12))
def test_any_cut_gives_the_same_answer(name: str, cuts: list[int]) -> None:
    """Where the network cuts the bytes never changes the answer."""
    body = WHOLE[name].encode()
    assert fed(body, [cut % (len(body) + 1) for cut in cuts]) == fed(body)


def test_envelope_is_read() -> None:
    """Identity and usage are taken from wherever in the stream they stand."""
    answer = fed(STREAM.encode())
    assert (answer.response_id, answer.model, answer.created, answer.system_fingerprint) == ("r", "m", 5, "fp")
    assert (answer.usage.prompt, answer.usage.completion, answer.usage.total) == (3, 4, 7)
    assert answer.usage.source == "reported"


USAGES: dict[str, tuple[str, tuple[int, int, str]]] = {
    "null at the end": (data({"usage": USAGE}) + event({}, "stop", usage=None), (3, 4, "reported")),
    "cumulative": (
        event({"content": "a"}, usage={**USAGE, "completion_tokens": 1}) + event({}, "stop", usage=USAGE),
        (3, 4, "reported"),
    ),
    "as text": (event({}, "stop", usage={"prompt_tokens": "3", "completion_tokens": "4"}), (3, 4, "reported")),
    "missing": (event({}, "stop"), (0, 0, "missing")),
    "an empty object": (event({}, "stop", usage={}), (0, 0, "missing")),
    "nonsense": (event({}, "stop", usage={"prompt_tokens": "many", "completion_tokens": -1}), (0, 0, "missing")),
}


@pytest.mark.parametrize(("text", "expected"), USAGES.values(), ids=USAGES)
def test_usage(text: str, expected: tuple[int, int, str]) -> None:
    """The last usage that is not null counts; it is never added up; where there is none it is marked."""
    usage = fed((HEAD + text).encode()).usage
    assert (usage.prompt, usage.completion, usage.source) == expected


def test_reasoning_and_refusal() -> None:
    """Reasoning under either name and a refusal are folded apart from the content."""
    for key in ("reasoning", "reasoning_content"):
        answer = fed((event({key: "a"}) + event({key: "b", "refusal": "no"}) + event({}, "stop")).encode())
        assert (answer.reasoning, answer.refusal, answer.completion) == ("ab", "no", None)


def test_parallel_calls_under_one_index_are_kept_apart() -> None:
    """Some endpoints number all calls 0: one with another id and a name begins again, and what follows goes to it. A new id
    alone begins nothing: some make one for every piece.
    """
    pieces: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
        {"index": 0, "id": "b", "function": {"name": "g", "arguments": '{"x"'}},
        {"index": 0, "id": "c", "function": {"arguments": ": 1"}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "id": "d", "function": {"name": "h", "arguments": "[]"}},
    ]
    text = "".join(event({"tool_calls": [piece]}) for piece in pieces) + event({}, "tool_calls")
    calls = json.loads(fed(text.encode()).tool_calls or "")
    found = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    assert found == [("f", "{}"), ("g", '{"x": 1}'), ("h", "[]")]


def test_a_stream_has_ended_when_each_choice_has() -> None:
    """With so many choices as were asked for, each with a finish reason, a stream is whole before its body ends."""
    decoder = Decoder()
    for text, one, two in (
        (HEAD, False, False),
        (event({}, "stop"), True, False),
        (event({"content": "b"}, index=1), False, False),
        (event({}, "stop", index=1), True, True),
    ):
        decoder.feed(text.encode())
        assert (decoder.has_ended(1), decoder.has_ended(2)) == (one, two)
        assert (decoder.is_whole(1), decoder.is_whole(2)) == (one, two)


@pytest.mark.parametrize(
    ("count", "source"), [(10**23, "missing"), (-1, "missing"), ("x", "missing"), ("7", "reported")]
)
def test_a_count_that_is_none_is_no_usage(count: Any, source: str) -> None:
    """Usage with a number that can't be one is as good as missing: it is not 0."""
    usage = {"prompt_tokens": count, "completion_tokens": 3, "total_tokens": 10}
    assert fed(plain(usage=usage).encode()).usage.source == source


def test_tool_calls_are_joined_by_index() -> None:
    """Pieces of tool calls are joined by their index, arguments growing, the rest kept."""
    pieces = [
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "function": {"arguments": "{}", "name": None}},
    ]
    text = "".join(event({"tool_calls": [piece]}) for piece in pieces) + event({}, "tool_calls")
    answer = fed(text.encode())
    assert json.loads(answer.tool_calls or "") == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert answer.finish_reason == "tool_calls"


def test_several_choices_by_index() -> None:
    """Choices that come interleaved are kept apart; the completion is that of choice 0."""
    text = event({"content": "B"}, index=1) + event({"content": "A"}) + event({}, "stop", index=1) + event({}, "length")
    answer = fed(text.encode())
    assert (answer.completion, answer.finish_reason) == ("A", "length")


class Fault(NamedTuple):
    body: bytes
    kind: Kind
    says: str
    unconfirmed: bool | None = None


RATE = {"message": "slow", "type": "rate_limit_error", "code": None}
FAULTS: dict[str, Fault] = {
    "empty body": Fault(b"", Kind.DISCONNECTED, "empty", True),
    "blank body": Fault(b"\n\n \n", Kind.DISCONNECTED, "empty", True),
    "only comments": Fault(b": ping\n\n: ping\n\n", Kind.DISCONNECTED, "without an answer", True),
    "only [DONE]": Fault(DONE.encode(), Kind.DISCONNECTED, "without an answer", True),
    "[DONE] proves nothing": Fault((HEAD + DONE).encode(), Kind.DISCONNECTED, "without a finish reason", True),
    "cut in an answer": Fault(HEAD.encode(), Kind.DISCONNECTED, "without a finish reason", True),
    "one of two choices unfinished": Fault(
        (event({"content": "x"}, index=1) + HEAD + TAIL + DONE).encode(), Kind.DISCONNECTED, "finish reason", True
    ),
    "cut in an event": Fault((HEAD + 'data: {"choi').encode(), Kind.DISCONNECTED, "without a finish reason", True),
    "cut in the first event": Fault(b'data: {"choi', Kind.DISCONNECTED, "without an answer", True),
    "an event that is no JSON": Fault((HEAD + "data: busy\n\n" + TAIL).encode(), Kind.MALFORMED, "not JSON", True),
    "broken off": Fault((HEAD + event({}, "abort") + DONE).encode(), Kind.DISCONNECTED, "broke its answer off", True),
    "error event of text": Fault((HEAD + "event: error\ndata: upstream timeout\n\n").encode(), Kind.SERVER, "timeout"),
    "error event without an error object": Fault(
        (HEAD + 'event:error\ndata:{"message": "busy", "code": 429}\n\n').encode(), Kind.RATE_LIMITED, "busy"
    ),
    "error of a choice": Fault(
        (HEAD + data(piece("", error={"code": 502, "message": "upstream"}, finish_reason="error"))).encode(),
        Kind.SERVER,
        "upstream",
    ),
    "error of a later choice": Fault(
        (HEAD + TAIL + data(piece("", index=1, error={"message": "slow", "code": "slow_down"}))).encode(),
        Kind.RATE_LIMITED,
        "slow",
    ),
    "error written into a stream": Fault((HEAD + json.dumps({"error": RATE})).encode(), Kind.RATE_LIMITED, "slow"),
    "error written behind a stream": Fault(
        (HEAD + TAIL + json.dumps({"error": RATE}, indent=1)).encode(), Kind.RATE_LIMITED, "slow"
    ),
    "error in a JSON list": Fault(json.dumps([{"error": RATE}]).encode(), Kind.RATE_LIMITED, "slow"),
    "HTML page": Fault(
        b"<!DOCTYPE html><html><title>502\n Bad  Gateway</title>", Kind.SERVER, "HTML page: 502 Bad Gateway", False
    ),
    "HTML behind a comment": Fault(b"\n<!-- a > b --> <HTML lang=de><p>busy", Kind.SERVER, "an HTML page", False),
    "XML": Fault(b"<?xml version='1.0'?><error>busy</error>", Kind.MALFORMED, "not JSON", True),
    "error event": Fault((HEAD + "event: error\n" + data({"error": RATE}) + DONE).encode(), Kind.RATE_LIMITED, "slow"),
    "error as plain data": Fault((HEAD + data({"error": RATE})).encode(), Kind.RATE_LIMITED, "slow"),
    "error beside choices": Fault(data({"choices": [], "error": RATE}).encode(), Kind.RATE_LIMITED, "slow"),
    "error after the finish": Fault((HEAD + TAIL + data({"error": RATE})).encode(), Kind.RATE_LIMITED, "slow"),
    "error as plain JSON": Fault(json.dumps({"error": RATE}).encode(), Kind.RATE_LIMITED, "slow"),
    "HTML": Fault(b"<html>busy</html>", Kind.SERVER, "an HTML page", False),
    "words": Fault(b"upstream busy\n", Kind.MALFORMED, "neither JSON nor a stream"),
    "JSON list": Fault(b"[1, 2]", Kind.MALFORMED, "no object"),
    "JSON text": Fault(b'"hello"', Kind.MALFORMED, "no object"),
    "no choices": Fault(b'{"id": "r", "choices": []}', Kind.MALFORMED, "no choices"),
    "no message": Fault(b'{"choices": [{"index": 0}]}', Kind.MALFORMED, "no message"),
    "JSON cut short": Fault(plain().encode()[:-5], Kind.MALFORMED, "not JSON", True),
    "JSON nested too deep": Fault(b'{"a":' + b"[" * 200_000, Kind.MALFORMED, "not JSON", True),
    "event nested too deep": Fault(b"data: " + b"[" * 200_000 + b"\n\n", Kind.MALFORMED, "not JSON", True),
    "later event nested too deep": Fault(
        HEAD.encode() + b'data: {"x": ' + b"[" * 200_000 + b"\n\n", Kind.MALFORMED, "nested too deep", True
    ),
    "message nested too deep": Fault(
        b'{"choices": [{"message": {"content": ' + b"[" * 900 + b"]" * 900 + b"}}]}", Kind.DISCONNECTED, "", True
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_fault(fault: Fault) -> None:
    """What is no whole answer is a fault of a kind, and says whether it may have been billed."""
    body = fault.body
    for cuts in ([], cut(body) if len(body) < 2000 else [len(body) // 2]):
        with pytest.raises(EndpointError) as caught:
            fed(body, cuts)
        assert caught.value.kind is fault.kind
        assert fault.says in caught.value.message
        if fault.unconfirmed is not None:
            assert caught.value.unconfirmed is fault.unconfirmed


def test_feed_says_where_content_came() -> None:
    """Only content counts as content: not comments, roles, empty chunks, usage or [DONE]."""
    decoder = Decoder()
    fed_parts = [": ping\n\n", event({"role": "assistant", "content": ""}), event({}), HEAD, USED, DONE]
    assert [decoder.feed(part.encode()) for part in fed_parts] == [False, False, False, True, False, False]
    assert decoder.done


def test_body_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body over the cap is malformed as soon as it is over, not at its end."""
    monkeypatch.setattr(stream, "BODY_CAP", 1 << 20)
    decoder = Decoder()
    decoder.feed(b"{" + b" " * ((1 << 20) - 1))
    with pytest.raises(EndpointError, match="larger than 1 MiB"):
        decoder.feed(b" ")


@pytest.mark.parametrize("ended", [False, True])
def test_line_cap(monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """A stream line over the cap is malformed, whether its end has come or not."""
    monkeypatch.setattr(stream, "LINE_CAP", 1 << 20)
    line = event({"content": "x" * (1 << 20)})
    with pytest.raises(EndpointError, match="a line of the stream is over 1 MiB"):
        Decoder().feed((line if ended else line.rstrip("\n")).encode())


@pytest.mark.parametrize("whole", [event({"content": "x" * (5 << 20)}) + event({}, "stop"), plain(x="x" * (5 << 20))])
def test_line_of_megabytes(whole: str) -> None:
    """A line of many megabytes that comes in small reads is read whole, in a time that grows with its length alone."""
    body = whole.encode()
    started = time.process_time()
    assert fed(body, list(range(0, len(body), 1400))).finish_reason == "stop"
    assert time.process_time() - started < 2.0  # 0.03; a decoder that copies what it holds at every read takes a minute


def test_blank_megabytes_before_an_answer() -> None:
    """Blank lines that keep a connection alive before a plain answer are neither kept nor read again."""
    decoder = Decoder()
    for _ in range(20_000):
        assert decoder.feed(b"\n") is False
    assert decoder.feed(plain().encode()) is True
    assert decoder.finish().completion == TEXT
    assert decoder.raw_text() == plain()


def test_blanks_within_a_plain_answer_are_no_content() -> None:
    """A plain answer that drips blanks brings nothing: between_tokens is not re-armed by them."""
    decoder = Decoder()
    assert [decoder.feed(part) for part in (b"{", b" ", b"\n\n", b'"a": 1}')] == [True, False, False, True]


@pytest.mark.parametrize("spelling", ["end_turn", "eos", "STOP", "COMPLETE", "max_tokens", "tool_use", "RECITATION"])
def test_finish_reason_is_kept_as_sent(spelling: str) -> None:
    """An answer that ended under any name is whole, and the name is recorded as it was sent."""
    assert fed((HEAD + event({}, spelling)).encode()).finish_reason == spelling


ODD_TEXTS = ["a\ud800b", "\udc00", "x\x00y", "\ud83d\ude42 \ude42\ud83d", "\u2028\x85"]


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
@pytest.mark.parametrize("streamed", [True, False])
def test_any_text_can_be_stored(text: str, streamed: bool) -> None:
    """Lone surrogates become U+FFFD; whatever text an endpoint sends, Parquet takes it."""
    message = {"content": text, "reasoning": text, "refusal": text, "tool_calls": [{"id": text}]}
    choice = {"index": 0, "delta" if streamed else "message": message, "finish_reason": "stop"}
    sent = {"id": text, "model": text, "choices": [choice]}
    answer = fed((escaped(sent) if streamed else json.dumps(sent)).encode())
    texts = [answer.completion, answer.reasoning, answer.refusal, answer.tool_calls, answer.model, answer.response_id]
    assert pa.array(texts, pa.string()).to_pylist() == texts
    assert answer.completion == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def test_nan_in_an_answer() -> None:
    """NaN and infinities, which are no JSON, are read as null."""
    body = b'{"choices": [{"logprob": NaN, "message": {"content": "x"}, "finish_reason": "stop"}], "created": Infinity}'
    assert (fed(body).completion, fed(body).created) == ("x", None)
    streamed = (
        HEAD.encode() + b'data: {"p": NaN, "choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n'
    )
    assert fed(streamed).completion == "你好, x"


def test_function_call_of_old() -> None:
    """The older function_call is joined like a tool call's function."""
    parts = [{"name": "f", "arguments": ""}, {"arguments": '{"x"'}, {"arguments": ": 1}"}]
    text = "".join(event({"function_call": part}) for part in parts) + event({}, "function_call")
    assert json.loads(fed(text.encode()).tool_calls or "") == {"name": "f", "arguments": '{"x": 1}'}


def test_a_stream_without_a_choice_0() -> None:
    """Where no choice has index 0 the lowest one is the answer's."""
    text = event({"content": "B"}, index=2) + event({"content": "A"}, "stop", index=1) + event({}, "stop", index=2)
    assert fed(text.encode()).completion == "A"


class Sent(NamedTuple):
    """One part of a stream: its lines, and the text and finish reason that it brings."""

    lines: list[str]
    text: str = ""
    finish: str | None = None


def sent_chunk(text: str, finish: str | None, ascii_only: bool, envelope: bool) -> Sent:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
    if envelope:
        chunk |= {"id": "r", "created": 1, "usage": None}
    return Sent(["data: " + json.dumps(chunk, ensure_ascii=ascii_only), ""], text, finish)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PART = st.one_of(
    st.builds(sent_chunk, TEXTS, st.sampled_from([None, "", "stop", "length"]), st.booleans(), st.booleans()),
    st.sampled_from(
        [
            Sent([": ping", ""]),
            Sent(["event: chunk", "id: 7"]),
            Sent([""]),
            Sent(["data:", ""]),
            Sent(['data: {"choices": []}', ""]),
            Sent(["data: {", 'data:"choices":', "data:  [] }", ""]),
        ]
    ),
)


@given(st.lists(PART, max_size=8), st.data())
def test_any_stream_at_any_cut_is_what_its_parts_add_up_to(parts: list[Sent], draw: st.DataObject) -> None:
    """Texts add up in order and the last finish reason counts, whatever lies between, ends the lines or cuts the bytes."""
    end = draw.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    body = "".join(line + end for part in parts for line in part.lines).encode()
    cuts = draw.draw(st.lists(st.integers(0, len(body)), max_size=12))
    finish = next((part.finish for part in reversed(parts) if part.finish), None)
    try:
        answer = fed(body, cuts)
    except EndpointError as error:
        assert (finish, error.kind) == (None, Kind.DISCONNECTED)
        return
    assert (answer.completion, answer.finish_reason) == ("".join(part.text for part in parts), finish)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
KEYS = [
    "choices",
    "index",
    "delta",
    "message",
    "content",
    "finish_reason",
    "tool_calls",
    "function",
    "arguments",
    "name",
    "error",
    "errors",
    "code",
    "type",
    "usage",
    "prompt_tokens",
    "id",
    "detail",
]
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
CHOICE = st.fixed_dictionaries(
    {}, optional={"index": ANY, "delta": ANY | st.fixed_dictionaries({"tool_calls": ANY}), "finish_reason": ANY}
)
CHUNK = st.fixed_dictionaries({}, optional={"choices": st.lists(CHOICE, max_size=2) | ANY, "error": ANY, "usage": ANY})


@given(st.lists(ANY | CHUNK, max_size=4), st.booleans())
def test_any_json_is_an_answer_or_a_fault(values: list[Any], streamed: bool) -> None:
    """Whatever JSON an endpoint sends, it is an answer or an EndpointError, never another exception."""
    text = "".join(map(data, values)) if streamed else "".join(map(json.dumps, values[:1]))
    try:
        assert isinstance(fed(text.encode("utf-8", "replace")), Answer)
    except EndpointError as error:
        assert error.kind in Kind


@pytest.mark.parametrize(
    "body", [b"<!-- -->" * 5000 + b"<Error>no</Error>", b"<!--" * 50_000, b" \n" * 50_000 + b"<x>"]
)
def test_a_body_of_comments_is_read_once(body: bytes) -> None:
    """What stands before a page's first tag is skipped in one pass, however much of it there is."""
    decoder = Decoder()
    decoder.feed(body)
    with pytest.raises(EndpointError) as caught:
        decoder.finish()
    assert caught.value.kind is Kind.MALFORMED
    decoder = Decoder()
    decoder.feed(b"<!-- a -->\n" * 5000 + b"<html><title>Busy</title>")
    with pytest.raises(EndpointError, match="the answer is an HTML page"):
        decoder.finish()
