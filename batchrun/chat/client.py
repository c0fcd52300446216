"""The client: one attempt of one request, over the wire, to an Answer or an EndpointError. It never retries or waits.

Bytes are read as they come and folded by the decoder; timeouts are those of endpoint.md §5, each really cancelling the
attempt, so that its connection is closed.
"""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import httpx
import msgspec

from batchrun.chat.answer import parse_json
from batchrun.chat.faults import classify, read_error
from batchrun.chat.stream import BODY_CAP, Decoder
from batchrun.chat.transport import TRANSPORT_ERRORS, translated
from batchrun.chat.waits import stated_wait_s
from batchrun.clock import Clock
from batchrun.errors import EndpointError, Kind
from batchrun.job import Timeouts
from batchrun.records import Answer, Request, Usage

_STREAMED = b',"stream":true,"stream_options":{"include_usage":true}}'
_ERROR_CAP = 1 << 20
BYTES_PER_TOKEN = 4


class Client:
    """A `Complete` for one endpoint.

    `key` is the bearer key or None; it is taken out of every message. `raw` keeps the body of plain answers.
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
    ) -> None:
        self._url = httpx.URL(url)
        self._transport = transport
        self._timeouts = timeouts
        self._clock = clock
        self._key = key
        self._raw = raw
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
        self._extensions = {"timeout": {"connect": timeouts.connect, "read": None, "write": None, "pool": None}}

    async def complete(self, request: Request) -> Answer:
        """One attempt. Raises EndpointError, its message free of the key."""
        try:
            return await self._attempt(request)
        except EndpointError as error:
            error.message = self._redacted(error.message)
            error.body = None if error.body is None else self._redacted(error.body)
            error.args = (error.message,)
            raise

    async def _attempt(self, request: Request) -> Answer:
        now = self._clock.now
        start = now()
        timeouts = self._timeouts
        end = start + timeouts.total
        first_token: float | None = None
        first_limit = timeouts.first_token if request.stream else timeouts.total
        with anyio.CancelScope(deadline=anyio.current_time() + min(first_limit, timeouts.total)) as scope:
            try:
                response = await self._transport.handle_async_request(self._message(request))
            except TRANSPORT_ERRORS as error:
                raise translated(error) from error
            try:
                if response.status_code != 200:
                    raise await self._fault(response)
                decoder = Decoder()
                async with contextlib.aclosing(_blocks(response)) as blocks:
                    async for block in blocks:
                        if decoder.feed(block):
                            moment = now()
                            if first_token is None:
                                first_token = moment - start
                            left = min(timeouts.between_tokens if request.stream else timeouts.total, end - moment)
                            scope.deadline = anyio.current_time() + left
                        if decoder.done:
                            break
                answer = decoder.finish()
            except TRANSPORT_ERRORS as error:
                raise translated(error) from error
            finally:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
        if scope.cancelled_caught:
            raise EndpointError(
                Kind.TIMEOUT, self._timeout_message(first_token, now() - start, request), unconfirmed=True
            )
        raw = decoder.raw_text() if self._raw else None
        return msgspec.structs.replace(
            answer,
            usage=_measured(answer, request),
            raw=None if raw is None else self._redacted(raw),
            latency_s=now() - start,
            first_token_s=first_token if request.stream else None,
        )

    def _message(self, request: Request) -> httpx.Request:
        return httpx.Request(
            "POST", self._url, headers=self._headers, content=sent_body(request), extensions=self._extensions
        )

    async def _fault(self, response: httpx.Response) -> EndpointError:
        body = b""
        async with contextlib.aclosing(_blocks(response)) as blocks:
            async for block in blocks:
                body += block
                if len(body) > _ERROR_CAP:
                    break
        status = response.status_code
        if 300 <= status < 400:
            target = response.headers.get("location", "nowhere")
            message = (
                f"HTTP {status}: the endpoint redirects to {target}; redirects are not followed. Set base_url to it"
            )
            return EndpointError(Kind.NOT_FOUND, message, status=status)
        wait = stated_wait_s(response.headers, self._clock.epoch())
        try:
            error = read_error(parse_json(body))
        except ValueError:
            error = None
        text = body[:2000].decode("utf-8", "replace")
        return classify(status, error, retry_after_s=wait, body=text)

    def _timeout_message(self, first_token: float | None, waited: float, request: Request) -> str:
        timeouts = self._timeouts
        if waited >= timeouts.total * 0.999:
            return f"no whole answer in {timeouts.total:g} s ([timeouts] total)"
        if first_token is None and request.stream:
            return f"no content in {timeouts.first_token:g} s ([timeouts] first_token)"
        return f"no further content in {timeouts.between_tokens:g} s ([timeouts] between_tokens)"

    def _redacted(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


async def _blocks(response: httpx.Response) -> AsyncGenerator[bytes]:
    """The body's bytes as they come, decompressed where they are compressed, capped at BODY_CAP."""
    if "content-encoding" in response.headers:
        async for block in response.aiter_bytes():
            yield block
        return
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    size = 0
    async for block in stream:
        yield block
        size += len(block)
        if size > BODY_CAP:
            return


def sent_body(request: Request) -> bytes:
    """The bytes that go on the wire: the canonical body, and whether its answer shall be streamed."""
    return request.body[:-1] + _STREAMED if request.stream else request.body


def _measured(answer: Answer, request: Request) -> Usage:
    """The usage as reported, or an estimate from the bytes that went each way."""
    if answer.usage.source != "missing":
        return answer.usage
    texts = (answer.completion, answer.reasoning, answer.refusal, answer.tool_calls)
    prompt = -(-len(request.body) // BYTES_PER_TOKEN)
    completion = -(-sum(len(text.encode()) for text in texts if text) // BYTES_PER_TOKEN)
    return Usage(prompt, completion, prompt + completion, source="estimated")
