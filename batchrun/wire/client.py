"""The client: one attempt of one request, over the wire, to an Answer or an EndpointError. It never retries or waits.

Bytes are read as they come and folded by the decoder; timeouts are those of endpoint.md §5, each really cancelling the
attempt, so that its connection is closed. Nothing that leaves here holds a key.
"""

import contextlib
from collections.abc import AsyncGenerator, Callable

import anyio
import httpx
import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.job import Timeouts
from batchrun.records import CHAT, PATHS, Answer, Request, StatedLimit, Usage
from batchrun.tokens import BYTES_PER_TOKEN, prompt_tokens
from batchrun.wire.address import beside
from batchrun.wire.decode.answer import parse_json
from batchrun.wire.decode.shapes import choices_of, decoder_for
from batchrun.wire.decode.stream import Decoder
from batchrun.wire.decode.unpack import Unpacker
from batchrun.wire.faults.classify import classify, read_error
from batchrun.wire.faults.duration import present
from batchrun.wire.faults.quota import stated_limits
from batchrun.wire.faults.waits import stated_wait_s
from batchrun.wire.redact import Redactor, secrets_of
from batchrun.wire.transport import TRANSPORT_ERRORS, translated

_STREAMED = b',"stream":true,"stream_options":{"include_usage":true}}'
_ERROR_CAP = 1 << 20
_MESSAGE_CHARS = 1000
_BODY_CHARS = 2000
_SHOWN_CHARS = 200
_SHORTEST_IN_ANSWERS = 12
ERROR_BODY_S = 10.0
"""How long an error's body may take to come: its status is known already, and a drip must not hide it."""
END_LINGER_S = 5.0
"""How long usage and `[DONE]` are waited for once every choice has ended: some endpoints keep the connection open."""
DONE_LINGER_S = 0.1
"""How long the end of a body is waited for behind `[DONE]`, so that its connection can be used again."""


class Client:
    """A `Complete` for one endpoint. `url` is that of its chat completions; the other paths stand beside it.

    `key` is the bearer key or None. It, and what is secret in `headers`, is taken out of every message and stored body.
    `raw` keeps the body of plain answers. `on_limits` hears the model that was asked, and what the answer's headers state
    of the endpoint's limits.
    """

    def __init__(
        self,
        url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        timeouts: Timeouts,
        clock: Clock,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bool = False,
        on_limits: Callable[[str, list[StatedLimit]], None] | None = None,
    ) -> None:
        self._url = httpx.URL(url)
        self._urls = {path: httpx.URL(beside(url, path)) for path in PATHS}
        self._transport = transport
        self._timeouts = timeouts
        self._clock = clock
        secrets = secrets_of(key, headers or {}, url)
        self._redacted = Redactor(secrets)
        # a placeholder such as `EMPTY` or `ollama` is a word that an answer may well have
        self._kept_redacted = Redactor(secret for secret in secrets if len(secret) >= _SHORTEST_IN_ANSWERS)
        self._raw = raw
        self._on_limits = on_limits
        wanted = {
            "Host": self._url.netloc.decode("ascii"),
            "Accept": "application/json, text/event-stream",
            "Accept-Encoding": "gzip, deflate",
            "Content-Type": "application/json",
            "User-Agent": "batchrun",
        }
        if key is not None:
            wanted["Authorization"] = f"Bearer {key}"
        self._headers = httpx.Headers(wanted)
        self._headers.update(headers or {})
        # `pool` bounds all that comes before a connection is there: also names, TLS, and what a proxy says to CONNECT
        connect = timeouts.connect
        self._extensions = {"timeout": {"connect": connect, "read": None, "write": None, "pool": connect}}

    async def complete(self, request: Request) -> Answer:
        """One attempt. Raises EndpointError, its message free of the key."""
        start = self._clock.now()
        try:
            try:
                return await self._attempt(request, start)
            except EndpointError:
                raise
            except Exception as error:
                # what nobody thought of may spoil one answer, never the run and what else is in flight
                name = type(error).__name__
                fault = EndpointError(Kind.MALFORMED, f"the answer can't be read ({name}: {error})", unconfirmed=True)
                raise fault from error
        except EndpointError as error:
            error.began_at = start
            # first redacted, then cut: a cut key would not be found
            body = None if error.body is None else self._redacted(error.body)
            message = self._redacted(error.message)
            if error.kind is Kind.MALFORMED and body:
                message += f": {_cut(body, _SHOWN_CHARS)}"
            error.message = _cut(" ".join(message.split()), _MESSAGE_CHARS)
            error.body = None if body is None else _cut(body, _BODY_CHARS)
            error.args = (error.message,)
            raise

    async def _attempt(self, request: Request, start: float) -> Answer:
        now = self._clock.now
        timeouts = self._timeouts
        end = start + timeouts.total
        between = timeouts.between_tokens if request.stream else timeouts.total
        slack = between / 100
        armed = float("-inf")
        first_token = done = ended = None
        first_limit = timeouts.first_token if request.stream else timeouts.total
        decoder = Decoder() if request.path == CHAT else decoder_for(request)
        with anyio.CancelScope(deadline=anyio.current_time() + min(first_limit, timeouts.total)) as scope:
            try:
                response = await self._transport.handle_async_request(self._message(request))
            except TRANSPORT_ERRORS as error:
                raise translated(error) from error
            try:
                if self._on_limits is not None and any(
                    b"ratelimit" in name.lower() for name, _ in response.headers.raw
                ):
                    self._on_limits(request.model, stated_limits(response.headers, self._present(response)))
                if not 200 <= response.status_code < 300:
                    raise await self._fault(response)
                async with contextlib.aclosing(_blocks(response)) as blocks:
                    async for block in blocks:
                        if decoder.feed(block):
                            moment = now()
                            ended = None
                            if moment - armed > slack:
                                # a timer a token would cost more than the token: it is set anew each hundredth of the way
                                armed = moment
                                first_token = moment - start if first_token is None else first_token
                                scope.deadline = anyio.current_time() + min(between + slack, end - moment)
                        if decoder.done:
                            if done is None:
                                done = now()
                                scope.deadline = min(scope.deadline, anyio.current_time() + DONE_LINGER_S)
                        elif ended is None and decoder.has_ended(1) and decoder.has_ended(choices_of(request)):
                            ended = now()
                            scope.deadline = min(scope.deadline, anyio.current_time() + END_LINGER_S)
            except TRANSPORT_ERRORS as error:
                if not (decoder.done or decoder.is_whole(choices_of(request))):
                    raise translated(error) from error
            except EndpointError as error:
                self._give_wait(error, response)
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        if scope.cancelled_caught and not (decoder.done or decoder.is_whole(choices_of(request))):
            raise EndpointError(
                Kind.TIMEOUT, self._timeout_message(first_token, now() - start, request), unconfirmed=True
            )
        if ended is None:
            ended = now()
        try:
            return self._measured(decoder, request, (ended if done is None else done) - start, first_token)
        except EndpointError as error:
            self._give_wait(error, response)
            raise

    def _present(self, response: httpx.Response) -> float:
        return present(response.headers, self._clock.epoch())

    def _give_wait(self, error: EndpointError, response: httpx.Response) -> None:
        """A limit that rides in HTTP 200 has its wait in the headers all the same."""
        if error.kind is Kind.RATE_LIMITED and error.retry_after_s is None:
            error.retry_after_s = stated_wait_s(response.headers, self._present(response), 429)

    def _measured(self, decoder: Decoder, request: Request, latency_s: float, first_token_s: float | None) -> Answer:
        """The decoder's answer with its times, its usage and, where wanted, its raw body."""
        answer = decoder.finish()
        raw = decoder.raw_text() if self._raw else None
        return msgspec.structs.replace(
            answer,
            usage=_usage(answer, request),
            raw=self._kept(raw),
            completion=self._kept(answer.completion),
            reasoning=self._kept(answer.reasoning),
            refusal=self._kept(answer.refusal),
            tool_calls=self._kept(answer.tool_calls),
            finish_reason=self._kept(answer.finish_reason),
            model=self._kept(answer.model),
            response_id=self._kept(answer.response_id),
            system_fingerprint=self._kept(answer.system_fingerprint),
            latency_s=latency_s,
            first_token_s=first_token_s if request.stream else None,
        )

    def _kept(self, text: str | None) -> str | None:
        """An answer's text as it may be stored: a relay can put the key into that too."""
        return None if text is None else self._kept_redacted(text)

    def _message(self, request: Request) -> httpx.Request:
        return httpx.Request(
            "POST",
            self._urls[request.path],
            headers=self._headers,
            content=sent_body(request),
            extensions=self._extensions,
        )

    async def _fault(self, response: httpx.Response) -> EndpointError:
        """What an answer that is not 200 means. Its body may be missing, endless or unreadable: the status stands."""
        status = response.status_code
        if 300 <= status < 400:
            return self._redirect(status, response.headers.get("location", ""))
        body = bytearray()
        with anyio.move_on_after(ERROR_BODY_S), contextlib.suppress(EndpointError, *TRANSPORT_ERRORS):
            async with contextlib.aclosing(_blocks(response)) as blocks:
                async for block in blocks:
                    body += block
                    if len(body) > _ERROR_CAP:
                        break
        text = self._redacted(body.decode("utf-8", "replace"))
        try:
            error = read_error(parse_json(text.encode()))
        except (ValueError, RecursionError):
            error = None
        wait = stated_wait_s(response.headers, self._present(response), status)
        fault = classify(status, error, retry_after_s=wait, body=text)
        said = response.headers.get("x-should-retry", "").strip().lower()
        fault.should_retry = {"true": True, "false": False}.get(said)
        return fault

    def _redirect(self, status: int, location: str) -> EndpointError:
        """A redirect is not followed: it would carry prompts and the key elsewhere (endpoint.md §6)."""
        try:
            target = str(self._url.join(location)) if location else "nowhere"
        except httpx.InvalidURL:
            target = location
        message = f"HTTP {status}: the endpoint redirects to {target}, and redirects are not followed"
        return EndpointError(Kind.NOT_FOUND, message, status=status)

    def _timeout_message(self, first_token: float | None, waited: float, request: Request) -> str:
        timeouts = self._timeouts
        if waited >= timeouts.total * 0.999:
            return f"no whole answer in {timeouts.total:g} s ([timeouts] total)"
        if first_token is None and request.stream:
            return f"no content in {timeouts.first_token:g} s ([timeouts] first_token)"
        return f"no further content in {timeouts.between_tokens:g} s ([timeouts] between_tokens)"


async def _blocks(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The body's bytes as they come, unpacked where they are compressed. Whoever takes them keeps the cap."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    encoding = response.headers.get("content-encoding")
    if encoding is None:
        async for block in stream:
            yield block
        return
    unpacker = Unpacker(encoding)
    async for block in stream:
        for piece in unpacker.feed(block):
            yield piece


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def sent_body(request: Request) -> bytes:
    """The bytes that go on the wire: the canonical body, and whether its answer shall be streamed."""
    return request.body[:-1] + _STREAMED if request.stream else request.body


def _usage(answer: Answer, request: Request) -> Usage:
    """The usage as reported, or an estimate from the text that went each way."""
    if answer.usage.source != "missing":
        return answer.usage
    texts = (answer.completion, answer.reasoning, answer.refusal, answer.tool_calls)
    prompt = prompt_tokens(request.body)
    completion = -(-sum(len(text.encode()) for text in texts if text) // BYTES_PER_TOKEN)
    return Usage(prompt, completion, prompt + completion, source="estimated")
