"""An HTTP answer whose status is not one of success → the EndpointError that it means.

Its body may be missing, endless or unreadable: the status is known already, and stands.
"""

import contextlib
from collections.abc import AsyncGenerator

import anyio
import httpx

from batchrun.errors import EndpointError, Kind
from batchrun.wire.decode.answer import parse_json
from batchrun.wire.decode.unpack import Unpacker
from batchrun.wire.decode.usage import stated_usage
from batchrun.wire.faults.classify import classify, read_error
from batchrun.wire.faults.transport import PROXY_REMEDY, translated
from batchrun.wire.faults.waits import headers_within, stated_wait_s
from batchrun.wire.redact import Redactor

_ERROR_CAP = 1 << 20
ERROR_BODY_S = 10.0
"""How long an error's body may take to come: a drip must not hide its status."""


async def blocks(response: httpx.Response) -> AsyncGenerator[bytes]:
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


async def refusal(response: httpx.Response, url: httpx.URL, epoch: float, redacted: Redactor) -> EndpointError:
    """What it means; `url` is what was asked, `epoch` the present as the endpoint has it. What is kept of it is redacted."""
    status = response.status_code
    if 300 <= status < 400:
        return _redirect(url, status, response.headers.get("location", ""))
    if status == 407:
        said = "HTTP 407: the proxy wants other credentials"
        return EndpointError(Kind.CREDENTIALS, said, status=status, remedy=PROXY_REMEDY)
    text = redacted((await _body(response)).decode("utf-8", "replace"))
    value = None
    try:
        value = parse_json(text.encode())
        error, usage = read_error(value), stated_usage(value)
    except (ValueError, RecursionError):
        error = usage = None
    wait = stated_wait_s(response.headers, epoch, status)
    if wait is None:
        wait = stated_wait_s(headers_within(value), epoch, status)
    limit_type = response.headers.get("rate_limit_type", "")
    fault = classify(status, error, retry_after_s=wait, body=text, limit_type=limit_type)
    fault.usage = usage
    said = response.headers.get("x-should-retry", "").strip().lower()
    fault.should_retry = {"true": True, "false": False}.get(said)
    return fault


async def _body(response: httpx.Response) -> bytearray:
    """As much of the body as comes in time."""
    body = bytearray()
    with anyio.move_on_after(ERROR_BODY_S):
        try:
            async with contextlib.aclosing(blocks(response)) as pieces:
                async for piece in pieces:
                    body += piece
                    if len(body) > _ERROR_CAP:
                        break
        except EndpointError:
            pass
        except Exception as error:
            if translated(error) is None:
                raise
    return body


def _redirect(url: httpx.URL, status: int, location: str) -> EndpointError:
    """A redirect is not followed: it would carry prompts and the key elsewhere (endpoint.md §6)."""
    try:
        target = str(url.join(location)) if location else "nowhere"
    except httpx.InvalidURL:
        target = location
    message = f"HTTP {status}: the endpoint redirects to {target}, and redirects are not followed"
    return EndpointError(Kind.NOT_FOUND, message, status=status)
