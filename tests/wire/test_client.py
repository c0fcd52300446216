"""One attempt over the wire, with a transport made by hand (endpoint.md §1, §5–§6)."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable

import anyio
import httpx
import pytest

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, Kind
from batchrun.records import Request, StatedLimit
from batchrun.sections import Timeouts
from batchrun.wire import deadline as deadline_module
from batchrun.wire.client import Client

URL = "https://host.example/v1/chat/completions"
KEY = "sk-very-secret"
PLAIN = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
CHUNK = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
STREAM = CHUNK + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class Body(httpx.AsyncByteStream):
    """Blocks as given; then it ends, or hangs, or sends comments for ever."""

    def __init__(self, *blocks: bytes, then: bytes | None = None) -> None:
        self.blocks, self.then, self.closed = blocks, then, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self.blocks:
            yield block
        while self.then is not None:
            await anyio.sleep(0.005)
            yield self.then

    async def aclose(self) -> None:
        self.closed = True


class Transport(httpx.AsyncBaseTransport):
    def __init__(self, answer: Callable[[], httpx.Response]) -> None:
        self.answer = answer
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer()


def response(status: int, *blocks: bytes, then: bytes | None = None, **headers: str) -> httpx.Response:
    return httpx.Response(status, stream=Body(*blocks, then=then), headers=headers)


def client(transport: Transport, timeouts: Timeouts | None = None, **more: str) -> Client:
    return Client(URL, transport, timeouts=timeouts or Timeouts(), clock=SystemClock(), key=KEY, headers=more)


def asked(stream: bool = False) -> Request:
    return Request(0, "0", "default", 0, b'{"model":"m"}', "h", "m", stream)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("sent", [PLAIN, STREAM])
async def test_the_body_is_believed(stream: bool, sent: bytes) -> None:
    """Plain and streamed bodies are both read, whichever was asked for."""
    answer = await client(Transport(lambda: response(200, sent))).complete(asked(stream))
    assert (answer.completion, answer.finish_reason, answer.usage.source) == ("hi", "stop", "estimated")


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_request_as_sent(stream: bool) -> None:
    """The request has the page's headers, extra headers, and asks for a stream only where wanted."""
    transport = Transport(lambda: response(200, PLAIN))
    await client(transport, **{"X-Title": "t"}).complete(asked(stream))
    request = transport.requests[0]
    assert (request.method, str(request.url)) == ("POST", URL)
    wanted = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "X-Title": "t"}
    assert {name: request.headers[name] for name in wanted} == wanted
    extra = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    assert json.loads(request.content) == {"model": "m", **extra}


@pytest.mark.anyio
async def test_key_is_redacted() -> None:
    """A key that the endpoint echoes is in no part of the error."""
    sent = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(401, sent))).complete(asked())
    error = caught.value
    assert error.kind is Kind.CREDENTIALS
    assert KEY not in f"{error.message}{error.body}{error}{error.args}"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_secrets_are_redacted_wherever_they_are_echoed(status: int) -> None:
    """The key and secret headers are in no part of an error, also where a relay echoes the request in its own way."""
    key, token = 'sk-a/b"c\\d', "tok-0123456789abcdef"
    echo = {"error": {"message": f"headers: {{Authorization: Bearer {key}}}, x-token: {token}", "code": key}}
    sent = json.dumps(echo).replace("/", "\\/").encode()
    made = Client(
        URL,
        Transport(lambda: response(status, sent)),
        timeouts=Timeouts(),
        clock=SystemClock(),
        key=key,
        headers={"x-token": token},
    )
    with pytest.raises(EndpointError) as caught:
        await made.complete(asked())
    error = caught.value
    shown = f"{error.message}{error.body}{error}{error.args}{error.param}"
    assert "[key]" in shown
    assert not {part for part in (key, token, json.dumps(key)[1:-1]) if part in shown}


@pytest.mark.anyio
@pytest.mark.parametrize("before", range(990, 1000))
async def test_no_cut_leaves_half_a_key(before: int) -> None:
    """Messages and bodies are redacted before they are cut to length, not after."""
    for wrap in ('{{"error": "{}"}}', "{}", "data: {}\n\n"):
        for length in (before, before + 990):
            sent = wrap.format("x" * length + KEY * 3).encode()
            with pytest.raises(EndpointError) as caught:
                await client(Transport(lambda sent=sent: response(500, sent))).complete(asked())  # type: ignore[misc]
            assert KEY[:6] not in f"{caught.value.message}{caught.value.body}"
            assert len(caught.value.message) <= 1000
            assert len(caught.value.body or "") <= 2000


@pytest.mark.anyio
async def test_key_is_redacted_in_an_answer() -> None:
    """A key that a relay puts into the answer itself is not stored either."""
    calls = [{"id": "a", "function": {"name": "f", "arguments": f'{{"key": "{KEY}"}}'}}]
    message = {"content": f"your key is {KEY}", "reasoning": KEY, "refusal": KEY, "tool_calls": calls}
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    answer = await client(Transport(lambda: response(200, body))).complete(asked())
    texts = (answer.completion, answer.reasoning, answer.refusal, answer.tool_calls)
    assert answer.completion == "your key is [key]"
    assert not any(KEY in (text or "") for text in texts)


@pytest.mark.anyio
async def test_key_is_redacted_in_a_raw_body() -> None:
    """The kept raw body of an answer holds no key."""
    sent = PLAIN[:-1] + f', "echo": "{KEY}"}}'.encode()
    made = Client(
        URL, Transport(lambda: response(200, sent)), timeouts=Timeouts(), clock=SystemClock(), key=KEY, raw=True
    )
    answer = await made.complete(asked())
    assert answer.raw is not None
    assert KEY not in answer.raw


@pytest.mark.anyio
@pytest.mark.parametrize(("said", "expected"), [("true", True), ("False", False), ("maybe", None), (None, None)])
async def test_should_retry_is_carried(said: str | None, expected: bool | None) -> None:
    """What the endpoint says about asking again goes with the fault."""
    made = response(500, **({} if said is None else {"x-should-retry": said}))
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: made)).complete(asked())
    assert caught.value.should_retry is expected


REDIRECTS = [
    ("https://elsewhere.example/v1", "https://elsewhere.example/v1"),
    ("/login?next=/v1", "https://host.example/login?next=/v1"),
    ("//cdn.example/x", "https://cdn.example/x"),
    ("http://h:port/", "http://h:port/"),
    ("", "nowhere"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(("location", "target"), REDIRECTS)
async def test_redirect_names_its_target(status: int, location: str, target: str) -> None:
    """A redirect of any kind is an error that names where it leads, whole."""
    transport = Transport(lambda: response(status, PLAIN, **({"location": location} if location else {})))
    with pytest.raises(EndpointError) as caught:
        await client(transport).complete(asked())
    assert f"redirects to {target}, and" in caught.value.message
    assert (caught.value.kind, caught.value.status) == (Kind.NOT_FOUND, status)
    assert len(transport.requests) == 1


@pytest.mark.anyio
async def test_a_message_is_one_line() -> None:
    """Line breaks in an endpoint's message can't forge lines of a log."""
    sent = json.dumps({"error": {"message": "bad\r\nkey\n  found"}}).encode()
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(400, sent))).complete(asked())
    assert caught.value.message == "HTTP 400: bad key found"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [201, 202, 206])
async def test_an_answer_under_another_2xx(status: int) -> None:
    """The body is believed under any status of success."""
    assert (await client(Transport(lambda: response(status, PLAIN))).complete(asked())).completion == "hi"


@pytest.mark.anyio
async def test_latency_ends_at_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short wait for the end of the connection's body is no part of an answer's latency."""
    monkeypatch.setattr(deadline_module, "DONE_LINGER_S", 0.2)
    answer = await client(Transport(lambda: response(200, STREAM, then=b": x\n\n"))).complete(asked(stream=True))
    assert answer.latency_s is not None
    assert answer.latency_s < 0.2


@pytest.mark.anyio
async def test_redirect_is_not_followed() -> None:
    """A redirect is an error that names its target; nothing is sent there."""
    transport = Transport(lambda: response(307, location="https://elsewhere.example/v1"))
    with pytest.raises(EndpointError, match=r"https://elsewhere\.example/v1") as caught:
        await client(transport).complete(asked())
    assert caught.value.kind is Kind.NOT_FOUND
    assert len(transport.requests) == 1


TIMEOUTS = {
    "first_token": (Timeouts(first_token=0.03), (), b": ping\n\n"),
    "between_tokens": (Timeouts(between_tokens=0.03), (CHUNK,), b": ping\n\n"),
    "total": (Timeouts(total=0.05), (CHUNK,), CHUNK),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", TIMEOUTS)
async def test_timeout(name: str) -> None:
    """Each timeout ends the attempt, unconfirmed, closes its body and says which; comments keep none alive."""
    timeouts, blocks, then = TIMEOUTS[name]
    made = response(200, *blocks, then=then)
    with pytest.raises(EndpointError, match=name) as caught:
        await client(Transport(lambda: made), timeouts).complete(asked(stream=True))
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.TIMEOUT, True)
    assert isinstance(made.stream, Body)
    assert made.stream.closed


@pytest.mark.anyio
async def test_a_connection_held_open_after_done() -> None:
    """[DONE] ends the answer, though the connection stays open."""
    answer = await client(Transport(lambda: response(200, STREAM, then=b": x\n\n"))).complete(asked(stream=True))
    assert answer.completion == "hi"


ENDED = CHUNK + b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.mark.anyio
@pytest.mark.parametrize("then", [b": ping\n\n", b""])
async def test_a_whole_answer_is_not_lost_for_want_of_its_end(monkeypatch: pytest.MonkeyPatch, then: bytes) -> None:
    """Every choice has its finish reason, and then comes neither `[DONE]` nor the end: the answer is taken, and soon."""
    monkeypatch.setattr(deadline_module, "END_LINGER_S", 0.05)
    with anyio.fail_after(5):
        answer = await client(Transport(lambda: response(200, ENDED, then=then))).complete(asked(stream=True))
    assert (answer.completion, answer.finish_reason) == ("hi", "stop")


@pytest.mark.anyio
async def test_one_of_two_choices_is_no_whole_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two were asked for, the first one's end is not the answer's: the second is waited for, as long as for content."""
    monkeypatch.setattr(deadline_module, "END_LINGER_S", 0.0)
    two = Request(0, "0", "default", 0, b'{"model":"m","n":2}', "h", "m", True)
    made = Transport(lambda: response(200, ENDED, then=b": ping\n\n"))
    with pytest.raises(EndpointError) as caught:
        await client(made, Timeouts(between_tokens=0.2)).complete(two)
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.TIMEOUT, True)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
async def test_plain_json_that_is_held_open_is_taken(stream: bool) -> None:
    """A whole JSON answer whose connection stays open is an answer when the time is over, not a loss."""
    limits = Timeouts(between_tokens=0.1, total=0.3)
    answer = await client(Transport(lambda: response(200, PLAIN, then=b"\n")), limits).complete(asked(stream=stream))
    assert answer.completion == "hi"


class Reset(Body):
    """Breaks off behind its blocks."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for block in self.blocks:
            yield block
        raise httpx.ReadError("reset")


@pytest.mark.anyio
@pytest.mark.parametrize(("sent", "whole"), [(ENDED, True), (CHUNK, False), (PLAIN, True), (PLAIN[:-1], False)])
async def test_what_was_whole_before_the_connection_was_lost_is_kept(sent: bytes, whole: bool) -> None:
    """A body that breaks off behind a whole answer is paid for, and kept; one that breaks off within it is lost."""
    asking = client(Transport(lambda: httpx.Response(200, stream=Reset(sent))))
    if whole:
        assert (await asking.complete(asked(stream=True))).completion == "hi"
        return
    with pytest.raises(EndpointError) as caught:
        await asking.complete(asked(stream=True))
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.DISCONNECTED, True)


@pytest.mark.anyio
async def test_a_limit_in_http_200_has_its_wait_in_the_headers() -> None:
    """A rate limit that comes as HTTP 200 is waited for as long as its Retry-After says."""
    said = b'{"error":{"message":"too many","code":"rate_limit_exceeded"}}'
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(200, said, **{"retry-after": "3"}))).complete(asked())
    assert (caught.value.kind, caught.value.retry_after_s) == (Kind.RATE_LIMITED, 3.0)


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "body"), [(429, b""), (200, b'{"error":{"code":"rate_limit_exceeded"}}')])
async def test_a_moment_is_by_the_endpoints_own_clock(status: int, body: bytes) -> None:
    """An endpoint whose clock is years off names a moment by that clock, which its Date tells: what counts is the
    difference. A Date that is none is passed over.
    """
    until = {"retry-after": "Wed, 21 Oct 2015 07:28:09 GMT"}
    for date, wait_s in (("Wed, 21 Oct 2015 07:28:00 GMT", 9.0), ("yesterday", 0.0)):
        with pytest.raises(EndpointError) as caught:
            await client(Transport(lambda date=date: response(status, body, date=date, **until))).complete(asked())  # type: ignore[misc]
        assert caught.value.retry_after_s == wait_s


@pytest.mark.anyio
async def test_what_nobody_thought_of_spoils_one_answer_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the program's own while it reads an answer is that attempt's: the run and what is in flight go on."""

    def broken(_self: object) -> None:
        raise ZeroDivisionError(f"oops {KEY}")

    monkeypatch.setattr("batchrun.wire.decode.stream.Decoder.finish", broken)
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(200, PLAIN))).complete(asked())
    assert (caught.value.kind, caught.value.unconfirmed) == (Kind.MALFORMED, True)
    assert caught.value.message == "the answer can't be read (ZeroDivisionError: oops [key])"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.anyio
async def test_where_the_unforeseen_happened_is_told_to_who_looks_closer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its traceback is in the log that `--debug` shows, once for each place, without the key."""

    def broken(_self: object) -> None:
        raise ZeroDivisionError(f"oops {KEY}")

    monkeypatch.setattr("batchrun.wire.decode.stream.Decoder.finish", broken)
    asking = client(Transport(lambda: response(200, PLAIN)))
    with caplog.at_level("DEBUG", "batchrun"):
        for _ in range(3):
            with pytest.raises(EndpointError):
                await asking.complete(asked())
    assert len(caplog.records) == 1
    assert "Traceback" in caplog.text
    assert "in broken" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["id", "model", "system_fingerprint", "finish_reason"])
async def test_key_is_redacted_around_an_answer(where: str) -> None:
    """A relay may put the key into any field that is kept."""
    body = json.loads(PLAIN)
    (body["choices"][0] if where == "finish_reason" else body)[where] = f"x-{KEY}"
    answer = await client(Transport(lambda: response(200, json.dumps(body).encode()))).complete(asked())
    kept = (answer.response_id, answer.model, answer.system_fingerprint, answer.finish_reason)
    assert "x-[key]" in kept
    assert KEY not in str(kept)


@pytest.mark.anyio
async def test_a_placeholder_for_a_key_is_a_word_in_answers() -> None:
    """`EMPTY`, as local servers are given, is no secret: an answer that has the word keeps it; a message need not."""
    asking = Client(
        URL,
        Transport(lambda: response(200, PLAIN.replace(b'"hi"', b'"The EMPTY label"'))),
        timeouts=Timeouts(),
        clock=SystemClock(),
        key="EMPTY",
    )
    assert (await asking.complete(asked())).completion == "The EMPTY label"


@pytest.mark.anyio
async def test_googles_delay_is_a_stated_wait() -> None:
    """Google says in the details of a 429 when to come back."""
    said = b'{"error":{"code":429,"message":"Quota exceeded","details":[{"@type":"x/RetryInfo","retryDelay":"3.5s"}]}}'
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(429, said))).complete(asked())
    assert caught.value.retry_after_s == 3.5


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent", [PLAIN[:-9], b'{"id":"r-17","choices":[]}', b"upstream busy r-17\n", CHUNK + b'data: {"r-17\n\n']
)
async def test_a_malformed_answer_shows_how_it_begins(sent: bytes) -> None:
    """The start of a body that can't be read is in the message, where everybody sees it; a key in it is not."""
    body = sent.replace(b"r-17", KEY.encode() + b" r-17")
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: response(200, body))).complete(asked())
    fault = caught.value
    assert fault.kind is Kind.MALFORMED
    assert "r-17" in fault.message or '"content": "hi"' in fault.message
    assert KEY not in fault.message + (fault.body or "")


@pytest.mark.anyio
async def test_stated_wait_is_carried() -> None:
    """A 429 carries the wait that its headers state."""
    made = response(429, **{"retry-after": "3"})
    with pytest.raises(EndpointError) as caught:
        await client(Transport(lambda: made)).complete(asked())
    assert (caught.value.kind, caught.value.retry_after_s) == (Kind.RATE_LIMITED, 3.0)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 429])
async def test_stated_limits_are_told(status: int) -> None:
    """What the headers say of the endpoint's limits is told, with an answer and with a refusal; silence tells nothing."""
    told: list[tuple[str, list[StatedLimit]]] = []
    said = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "9"}
    for headers in (said, {}):
        made = Transport(lambda headers=headers: response(status, PLAIN, **headers))  # type: ignore[misc]
        asking = Client(URL, made, timeouts=Timeouts(), clock=SystemClock(), on_limits=lambda *said: told.append(said))
        with contextlib.suppress(EndpointError):
            await asking.complete(asked())
    assert told == [("m", [StatedLimit("requests", 60, 9)])]


TRANSPORT_FAULTS = [
    (httpx.ConnectError("refused"), Kind.CONNECT, False),
    (httpx.ReadError("reset"), Kind.DISCONNECTED, True),
    (httpx.ReadTimeout("slow"), Kind.TIMEOUT, True),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("raised", "kind", "unconfirmed"), TRANSPORT_FAULTS, ids=str)
async def test_transport_fault(raised: Exception, kind: Kind, unconfirmed: bool) -> None:
    """A transport's exception is an EndpointError that says whether the request was sent."""

    def fail() -> httpx.Response:
        raise raised

    with pytest.raises(EndpointError) as caught:
        await client(Transport(fail)).complete(asked())
    assert (caught.value.kind, caught.value.unconfirmed) == (kind, unconfirmed)


def named(transport: Transport, **models: str) -> Client:
    return Client(URL, transport, timeouts=Timeouts(), clock=SystemClock(), endpoint="here", models=models)


@pytest.mark.anyio
async def test_answers_and_errors_say_whose_they_are() -> None:
    """The endpoint's name goes with the answer and with the fault, whoever looks at them later."""
    assert (await named(Transport(lambda: response(200, PLAIN))).complete(asked())).endpoint == "here"
    for made in (response(500), response(200, PLAIN[:-9])):
        with pytest.raises(EndpointError) as caught:
            await named(Transport(lambda made=made: made)).complete(asked())  # type: ignore[misc]
        assert caught.value.endpoint == "here"


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_model_has_its_own_name_at_an_endpoint(stream: bool) -> None:
    """The name is put into the body as it is sent; the request, its body and its hash stay what they were."""
    request = Request(0, "0", "default", 0, b'{"messages":[{"a":1.50}],"model":"m","z":"\\u00e4"}', "h", "m", stream)
    before = bytes(request.body)
    transport = Transport(lambda: response(200, PLAIN))
    await named(transport, m='house/"m"').complete(request)
    await named(transport, other="x").complete(request)
    renamed, same = (sent.content for sent in transport.requests)
    assert json.loads(renamed) == {**json.loads(same), "model": 'house/"m"'}
    assert renamed.startswith(b'{"messages":[{"a":1.50}],"model":"house/\\"m\\"","z":"\\u00e4"')
    assert request.body == before
