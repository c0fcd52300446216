"""The other request shapes of the embedded endpoint, spoken to by httpx."""

import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from batchrun.embedded import embedded_endpoint


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with embedded_endpoint() as url, httpx.Client(base_url=url, trust_env=False, timeout=5) as made:
        yield made


def test_texts(client: httpx.Client) -> None:
    """A completion and a response hold what the chat that they mean would be answered."""
    made = client.post("/completions", json={"model": "m", "prompt": "What is 12 + 30?"}).json()
    assert (made["object"], made["choices"][0]["text"], made["choices"][0]["finish_reason"]) == (
        "text_completion",
        "42",
        "stop",
    )
    made = client.post("/responses", json={"model": "m", "input": "What is 12 + 30?"}).json()
    assert (made["status"], made["output"][0]["content"][0]["text"]) == ("completed", "42")
    assert made["usage"]["input_tokens"] + made["usage"]["output_tokens"] == made["usage"]["total_tokens"]
    cut = client.post("/responses", json={"model": "m", "input": "Say 40 words.", "max_output_tokens": 2}).json()
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_vectors(client: httpx.Client) -> None:
    """One text has one vector, the same every time and in either encoding; `dimensions` is its length."""
    body = {"model": "m", "input": ["a b", "a c"], "dimensions": 8}
    plain = client.post("/embeddings", json=body).json()
    assert client.post("/embeddings", json=body).json() == plain
    coded = client.post("/embeddings", json={**body, "encoding_format": "base64"}).json()
    for one, other in zip(plain["data"], coded["data"], strict=True):
        assert struct.unpack("<8f", base64.b64decode(other["embedding"])) == pytest.approx(one["embedding"])
    assert plain["usage"]["total_tokens"] == plain["usage"]["prompt_tokens"] > 0


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/completions", {"prompt": ["a", "b"]}),
    ("/completions", {"prompt": "a", "stream": True}),
    ("/responses", {}),
    ("/responses", {"input": [7]}),
    ("/embeddings", {"input": []}),
    ("/embeddings", {"input": "a", "dimensions": 0.5}),
]


@pytest.mark.parametrize(("path", "body"), REFUSED, ids=str)
def test_refused(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """What is not understood is refused in OpenAI's error shape."""
    answer = client.post(path, json={"model": "m", **body})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
