"""The client: one attempt of one request, over the wire, to an Answer or an EndpointError. It never retries or waits.

Bytes are read as they come and folded by the decoder; timeouts are those of endpoint.md §5, each really cancelling the
attempt, so that its connection is closed. Nothing that leaves here holds a key.
"""

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import anyio
import httpx
import msgspec

from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.records import CHAT, PATHS, Answer, Request, StatedLimit, Usage
from batchrun.sections import Timeouts
from batchrun.tokens import BYTES_PER_TOKEN, prompt_tokens
from batchrun.wire.address import beside
from batchrun.wire.carrier import Transport
from batchrun.wire.deadline import Deadline
from batchrun.wire.decode.reasoning import split_thinking
from batchrun.wire.decode.shapes import choices_of, decoder_for
from batchrun.wire.decode.stream import Decoder
from batchrun.wire.empty import emptiness, is_empty
from batchrun.wire.faults.duration import present
from batchrun.wire.faults.quota import stated_limits
from batchrun.wire.faults.transport import translated
from batchrun.wire.faults.waits import stated_wait_s
from batchrun.wire.outgoing import headers_for, most_tokens, sent_body
from batchrun.wire.redact import Redactor, secrets_of
from batchrun.wire.refusal import blocks, refusal

_log = logging.getLogger(__name__)
_MESSAGE_CHARS = 1000
_BODY_CHARS = 2000
_SHOWN_CHARS = 200
_TIMED_OUT = "each attempt may have been billed"
_SHORTEST_IN_ANSWERS = 12
_KEPT = (
    "raw",
    "completion",
    "reasoning",
    "refusal",
    "tool_calls",
    "finish_reason",
    "model",
    "response_id",
    "system_fingerprint",
)
"""The texts of an answer that are stored."""


class Client:
    """A `Complete` for one endpoint. `url` is that of its chat completions; the other paths stand beside it.

    `key` is the bearer key or None. It, what is secret in `headers`, and `secrets` are taken out of all that is told and
    stored.
    `raw` keeps the body of plain answers. `empty` says what an answer with nothing in it is: a fault, worth another attempt
    or not, or an answer. `split_think` moves the reasoning at the head of a text to where reasoning stands. `on_limits`
    hears the model that was asked, and what the answer's headers state of the endpoint's limits. `endpoint` is the name
    under which answers and errors speak of it; `models` gives the names that asked models have there, where they are others.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        timeouts: Timeouts,
        clock: Clock,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        raw: bool = False,
        empty: Literal["retry", "fail", "ok"] = "retry",
        split_think: bool = False,
        on_limits: Callable[[str, list[StatedLimit]], None] | None = None,
        endpoint: str | None = None,
        models: Mapping[str, str] | None = None,
    ) -> None:
        self._urls = {path: httpx.URL(beside(url, path)) for path in PATHS}
        self._transport = transport
        self._timeouts = timeouts
        self._clock = clock
        hidden = {*secrets, *secrets_of(key, headers or {}, url)}
        self._redacted = Redactor(hidden)
        # a placeholder such as `EMPTY` or `ollama` is a word that an answer may well have
        self._kept_redacted = Redactor(secret for secret in hidden if len(secret) >= _SHORTEST_IN_ANSWERS)
        self._raw = raw
        self._empty = empty
        self._split_think = split_think
        self._on_limits = on_limits
        self._endpoint = endpoint
        self._models = models or {}
        self._told: set[str] = set()
        host = httpx.URL(url).netloc.decode("ascii")
        self._headers = httpx.Headers(headers_for(host, key, headers or {}))
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
                self._tell_unforeseen(error)
                name = type(error).__name__
                fault = EndpointError(Kind.MALFORMED, f"the answer can't be read ({name}: {error})", unconfirmed=True)
                raise fault from error
        except EndpointError as error:
            self._make_presentable(error)
            error.began_at = start
            error.endpoint = self._endpoint
            raise

    async def _attempt(self, request: Request, start: float) -> Answer:
        decoder = Decoder() if request.path == CHAT else decoder_for(request)
        deadline = Deadline(self._timeouts, self._clock, start, stream=request.stream)
        with deadline.scope:
            try:
                response = await self._transport.handle_async_request(self._message(request))
            except Exception as error:
                raise translated(error) or error from error
            try:
                self._tell_limits(request, response)
                if not 200 <= response.status_code < 300:
                    present_ = self._present(response)
                    raise await refusal(response, self._urls[request.path], present_, self._redacted)
                await _read(response, decoder, deadline, request)
            except EndpointError as error:
                self._give_wait(decoder.settle(error), response)
                raise
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        if deadline.scope.cancelled_caught and not _is_whole(decoder, request):
            raise decoder.settle(EndpointError(Kind.TIMEOUT, deadline.message(), unconfirmed=True, remedy=_TIMED_OUT))
        latency_s = deadline.latency_s()
        try:
            answer = decoder.finish()
        except EndpointError as error:
            self._give_wait(decoder.settle(error), response)
            raise
        answer = self._kept(answer, decoder, request, latency_s, deadline.first_token_s)
        if self._empty != "ok" and is_empty(answer, request):
            raise emptiness(answer, retry=self._empty == "retry")
        return _split(answer) if self._split_think and answer.completion else answer

    def _tell_limits(self, request: Request, response: httpx.Response) -> None:
        if self._on_limits is not None and any(b"ratelimit" in name.lower() for name, _ in response.headers.raw):
            self._on_limits(request.model, stated_limits(response.headers, self._present(response)))

    def _present(self, response: httpx.Response) -> float:
        return present(response.headers, self._clock.epoch())

    def _give_wait(self, error: EndpointError, response: httpx.Response) -> None:
        """A limit that rides in HTTP 200 has its wait in the headers all the same."""
        if error.kind is Kind.RATE_LIMITED and error.retry_after_s is None:
            error.retry_after_s = stated_wait_s(response.headers, self._present(response), 429)

    def _kept(
        self, answer: Answer, decoder: Decoder, request: Request, latency_s: float, first_token_s: float | None
    ) -> Answer:
        """The answer as it may be stored: with its times, its usage, whose it is, and no key, which a relay can echo."""
        raw = decoder.raw_text() if self._raw else None
        answer = msgspec.structs.replace(
            answer,
            usage=_usage(answer, request),
            raw=raw,
            latency_s=latency_s,
            first_token_s=first_token_s if request.stream else None,
            endpoint=self._endpoint,
        )
        redacted = self._kept_redacted
        texts = ((name, text) for name in _KEPT if (text := getattr(answer, name)) is not None)
        changed = {name: clean for name, text in texts if (clean := redacted(text)) is not text}
        return msgspec.structs.replace(answer, **changed) if changed else answer

    def _message(self, request: Request) -> httpx.Request:
        return httpx.Request(
            "POST",
            self._urls[request.path],
            headers=self._headers,
            content=sent_body(request, self._models.get(request.model)),
            extensions=self._extensions,
        )

    def _tell_unforeseen(self, error: Exception) -> None:
        """Where it happened, for whoever looks closer (`--debug`): once for each place."""
        if _log.isEnabledFor(logging.DEBUG):
            told = self._redacted("".join(traceback.format_exception(error)))
            if (place := told.partition("\n\n")[0]) not in self._told:
                self._told.add(place)
                _log.debug("an answer can't be read:\n%s", told)

    def _make_presentable(self, error: EndpointError) -> None:
        """Redact what the error says and keeps; then cut it: a cut key would not be found."""
        body = None if error.body is None else self._redacted(error.body)
        message = self._redacted(error.message)
        if error.kind is Kind.MALFORMED and body:
            message += f": {_cut(body, _SHOWN_CHARS)}"
        error.message = _cut(" ".join(message.split()), _MESSAGE_CHARS)
        error.body = None if body is None else _cut(body, _BODY_CHARS)
        error.args = (error.message,)


async def _read(response: httpx.Response, decoder: Decoder, deadline: Deadline, request: Request) -> None:
    """Feed the decoder to the end of the body, or until nothing more is worth waiting for."""
    is_open_ended = "content-length" not in response.headers
    try:
        async with contextlib.aclosing(blocks(response)) as pieces:
            async for piece in pieces:
                if decoder.feed(piece):
                    deadline.content()
                    if is_open_ended and decoder.may_be_whole:
                        deadline.look_when_quiet(lambda: _is_whole(decoder, request))
                if decoder.done:
                    deadline.done()
                elif not deadline.is_ending and decoder.has_ended(1) and decoder.has_ended(choices_of(request)):
                    deadline.ended()
    except EndpointError:
        raise
    except Exception as error:
        fault = translated(error)
        if fault is None:
            raise
        if not _is_whole(decoder, request):
            raise fault from error
    finally:
        deadline.close()


def _split(answer: Answer) -> Answer:
    """The answer with the reasoning at the head of its text moved to where reasoning stands; one that is there stays."""
    thought, text = split_thinking(answer.completion or "")
    if thought is None:
        return answer
    return msgspec.structs.replace(answer, completion=text, reasoning=answer.reasoning or thought)


def _is_whole(decoder: Decoder, request: Request) -> bool:
    return decoder.done or decoder.is_whole(choices_of(request))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _usage(answer: Answer, request: Request) -> Usage:
    """The usage as reported, or an estimate from the text that went each way: no more than was allowed."""
    if answer.usage.source != "missing":
        return answer.usage
    texts = (answer.completion, answer.reasoning, answer.refusal, answer.tool_calls)
    prompt = prompt_tokens(request.body)
    completion = -(-sum(len(text.encode()) for text in texts if text) // BYTES_PER_TOKEN)
    completion = min(completion, most_tokens(request.body) or completion)
    return msgspec.structs.replace(
        answer.usage, prompt=prompt, completion=completion, total=prompt + completion, source="estimated"
    )
