"""Faults whose kind alone would lead a person wrong carry their own advice (endpoint.md §7)."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from batchrun.clock import SystemClock
from batchrun.errors import EndpointError, Kind
from batchrun.job import Timeouts
from batchrun.pace.advice import advice
from batchrun.records import Request
from batchrun.wire.client import Client


class Body(httpx.AsyncByteStream):
    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.sent


async def fault(status: int, sent: bytes) -> EndpointError:
    class Transport(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(status, stream=Body(sent))

    client = Client("http://h/v1/chat/completions", Transport(), timeouts=Timeouts(), clock=SystemClock())
    with pytest.raises(EndpointError) as caught:
        await client.complete(Request(0, "0", "default", 0, b'{"model":"m"}', "h", "m"))
    return caught.value


CHALLENGES = [
    b"<html><head><title>Just a moment...</title></head></html>",
    b"<!DOCTYPE html><title>Attention Required! | Cloudflare</title>",
    b"<html><body>Enable JavaScript and cookies to continue</body></html>",
    b"<html><title>DDoS-Guard</title></html>",
    b'<html><script src="/cdn-cgi/challenge-platform/h/b/x.js"></script></html>',
]


@pytest.mark.anyio
@pytest.mark.parametrize("status", [200, 403, 503])
@pytest.mark.parametrize("page", CHALLENGES)
async def test_a_challenge_for_browsers_says_that_it_is_one(status: int, page: bytes) -> None:
    """A firewall that takes us for a bot has nothing to do with the key, under any status."""
    error = await fault(status, page)
    assert "a challenge for browsers stands before the endpoint" in error.message
    assert "let API clients pass" in (advice(error, None) or "")
    assert error.kind is (Kind.CREDENTIALS if status == 403 else Kind.SERVER)


@pytest.mark.anyio
async def test_words_of_a_challenge_in_json_are_no_page() -> None:
    """An error that speaks of a captcha is an error like others."""
    error = await fault(400, json.dumps({"error": {"message": "the image <img> holds a captcha"}}).encode())
    assert error.kind is Kind.BAD_REQUEST


SCHEMES = [
    b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
    b"Client sent an HTTP request to an HTTPS server.\n",
    b"<html>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br /></html>",
]


@pytest.mark.anyio
@pytest.mark.parametrize("said", SCHEMES)
async def test_a_port_of_tls_that_answers_in_http(said: bytes) -> None:
    """It is the address that is wrong, for every row: no row is refused for it."""
    error = await fault(400, said)
    assert (error.kind, error.unconfirmed) == (Kind.CONNECT, False)
    assert "speaks TLS" in error.message
    assert "https://" in (advice(error, None) or "")


@pytest.mark.anyio
async def test_an_error_inside_a_stream_is_no_other_endpoint() -> None:
    """An endpoint that breaks its streams off is one that speaks our language; a page is of another."""
    broken = await fault(200, b'data: {"error":{"code":502,"message":"Provider disconnected"}}\n\n')
    page = await fault(200, b"<html><title>Welcome to nginx!</title></html>")
    assert "OpenAI-compatible" not in (advice(broken, None) or "")
    assert "OpenAI-compatible" in (advice(page, None) or "")


@pytest.mark.anyio
async def test_a_407_is_about_the_proxy() -> None:
    """Without a tunnel the proxy's refusal comes as the answer."""
    error = await fault(407, b"denied")
    assert (error.kind, error.status) == (Kind.CREDENTIALS, 407)
    assert "the proxy's own user name" in (advice(error, "OPENAI_API_KEY") or "")
