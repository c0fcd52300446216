"""How fast the embedded endpoint answers, on a loop whose time is virtual: its app alone, without a connection."""

import json
from typing import Any

import anyio
import pytest

from batchrun.embedded import Behaviour, parse_faults
from batchrun.embedded.app import build_app
from virtual import BEGIN, VirtualLoop

LONG = {"model": "m", "messages": [{"role": "user", "content": "Tell me of rivers in 50 words"}]}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


class Client:
    """Asks the app, and keeps the second at which each piece of a body came."""

    def __init__(self, **settings: Any) -> None:
        self._app = build_app(Behaviour(**settings))

    async def ask(self, **more: Any) -> list[tuple[float, bytes]]:
        body, got, whole = json.dumps({**LONG, **more}).encode(), list[tuple[float, bytes]](), anyio.Event()
        to_read = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            if to_read:
                return to_read.pop()
            await whole.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                got.append((anyio.current_time() - BEGIN, message["body"]))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                whole.set()

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await self._app(scope, receive, send)  # type: ignore[arg-type]
        assert whole.is_set()
        return got


@pytest.mark.anyio
async def test_slots_queue() -> None:
    """Two at a time: five answers of a second each take one, one, two, two and three, in the order in which they came."""
    client, ended = Client(slots=2, first_token_s=1.0), list[tuple[int, float]]()

    async def ask(number: int) -> None:
        await client.ask()
        ended.append((number, anyio.current_time() - BEGIN))

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
    assert [at for _, at in ended] == [1.0, 1.0, 2.0, 2.0, 3.0]
    assert [number // 2 for number, _ in ended] == [0, 0, 1, 1, 2]


@pytest.mark.anyio
async def test_a_paced_stream_comes_piece_by_piece() -> None:
    """The first piece after `first_token_s`, the rest at the stated speed; a plain answer when its last token is due."""
    client = Client(first_token_s=2.0, tokens_per_s=10)
    usage = {"include_usage": True}
    streamed = await client.ask(stream=True, stream_options=usage)
    tokens = json.loads(streamed[-1][1].split(b"data: ")[-2])["usage"]["completion_tokens"]
    assert streamed[0][0] == 2.0
    assert len(streamed) > 20
    assert streamed[-1][0] == pytest.approx(2.0 + tokens / 10, rel=0.1)
    began = streamed[-1][0]
    (plain,) = await client.ask()
    assert plain[0] - began == pytest.approx(2.0 + tokens / 10)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_drips(stream: bool) -> None:
    """The fault `slow` spreads an answer over its seconds."""
    got = await Client(faults=parse_faults("slow seconds=300")).ask(stream=stream)
    assert len(got) > 1
    assert got[-1][0] == pytest.approx(300.0, rel=0.05)


@pytest.mark.anyio
async def test_a_quota_fills_by_the_same_time() -> None:
    """Requests above the minute's are refused until the minute has filled again."""
    client = Client(requests_per_minute=2)
    answers = [await client.ask() for _ in range(3)]
    assert [b"rate_limit_exceeded" in got[-1][1] for got in answers] == [False, False, True]
    await anyio.sleep(30)
    assert b"rate_limit_exceeded" not in (await client.ask())[-1][1]
