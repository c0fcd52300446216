"""The embedded endpoint as a real child process, spoken to by httpx."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchrun.embedded import Behaviour, embedded_endpoint, parse_faults

ROOT = str(Path(__file__).parents[2])


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=5) as made:
        yield made


def body(text: str = "What is 12 + 30?", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def stats(client: httpx.Client, url: str) -> dict[str, int]:
    found: dict[str, int] = client.get(url.removesuffix("/v1") + "/stats").json()
    return found


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]


def test_both_shapes_models_and_unknown_paths(client: httpx.Client) -> None:
    """Plain and streamed answers hold the same text; other paths and methods get OpenAI's error shape."""
    with embedded_endpoint() as url:
        plain = client.post(f"{url}/chat/completions", json=body()).json()
        assert plain["object"] == "chat.completion"
        assert plain["choices"][0]["message"] == {"role": "assistant", "content": "42"}
        assert plain["choices"][0]["finish_reason"] == "stop"
        assert plain["usage"] == {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
        assert plain["system_fingerprint"]

        answer = client.post(url.removesuffix("/v1") + "/chat/completions", json=body("Hello", stream=True))
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-request-id"]
        assert answer.text.endswith("data: [DONE]\n\n")
        chunks = events(answer.text)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert all("usage" not in chunk for chunk in chunks)
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        whole = client.post(f"{url}/chat/completions", json=body("Hello")).json()
        assert said == whole["choices"][0]["message"]["content"]

        options = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
        chunks = events(client.post(f"{url}/chat/completions", json=body("Hello", **options)).text)
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["total_tokens"] > 0
        assert {choice["index"] for chunk in chunks for choice in chunk["choices"]} == {0, 1}

        assert [model["id"] for model in client.get(f"{url}/models").json()["data"]] == [
            "embedded-small", "claude-3-5-sonnet-20241022",
        ]  # fmt: skip
        for method, path, status in (("GET", "/nothing", 404), ("GET", "/chat/completions", 405)):
            refused = client.request(method, url + path)
            assert (refused.status_code, set(refused.json()["error"])) == (status, {"message", "type", "param", "code"})
        assert client.post(f"{url}/chat/completions", content=b"{").status_code == 400


def test_key_limits_and_models(client: httpx.Client) -> None:
    """A wrong key is a 401, an unnamed model a 404, one request too many a 429 that says when to return."""
    with embedded_endpoint(Behaviour(api_key="right", models=("m",), requests_per_minute=2)) as url:
        path = f"{url}/chat/completions"
        for headers in ({}, {"authorization": "Bearer wrong"}):
            refused = client.post(path, json=body(), headers=headers)
            assert (refused.status_code, refused.json()["error"]["type"]) == (401, "invalid_request_error")
        client.headers["authorization"] = "Bearer right"
        assert client.post(path, json={**body(), "model": "other"}).json()["error"]["code"] == "model_not_found"
        first = client.post(path, json=body())
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        client.post(path, json=body())
        refused = client.post(path, json=body())
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after-ms"]) <= 30_000
        assert int(refused.headers["retry-after"]) <= 30
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"


def test_every_fault_is_seen_as_meant(client: httpx.Client) -> None:
    """Resets, cuts, errors in streams, pages and garbage reach the client; the endpoint goes on."""
    script = (
        "reset match=RESET; cut match=CUT; error_in_stream match=INSIDE; html match=HTML; garbage match=GARBAGE;"
        "503 match=STATUS retry-after=1; as_json match=PLAIN;"
        "stall match=STALL seconds=5 part=headers; 500 match=ONCE times=1"
    )
    with embedded_endpoint(Behaviour(faults=parse_faults(script))) as url:
        path = f"{url}/chat/completions"
        for stream in (False, True):
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                client.post(path, json=body("RESET", stream=stream))
            with pytest.raises(httpx.ReadTimeout):
                client.post(path, json=body("STALL", stream=stream), timeout=0.2)
            assert client.post(path, json=body("STATUS", stream=stream)).headers["retry-after"] == "1"
            html = client.post(path, json=body("HTML", stream=stream))
            assert (html.status_code, html.headers["content-type"]) == (502, "text/html")
            garbage = client.post(path, json=body("GARBAGE", stream=stream))
            assert garbage.status_code == 200
            with pytest.raises(ValueError, match=r"."):
                garbage.json()
            assert client.post(path, json=body("PLAIN", stream=stream)).json()["object"] == "chat.completion"
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(path, json=body("CUT"))
        cut = client.post(path, json=body("CUT", stream=True))
        assert "[DONE]" not in cut.text
        assert all(chunk["choices"][0]["finish_reason"] is None for chunk in events(cut.text))
        assert "error" in client.post(path, json=body("INSIDE")).json()
        inside = client.post(path, json=body("INSIDE", stream=True))
        assert inside.status_code == 200
        assert "error" in events(inside.text)[-1]
        assert [client.post(path, json=body("ONCE")).status_code for _ in range(2)] == [500, 200]
        seen = stats(client, url)
        assert seen["received"] == seen["answered"] + seen["aborted"] == 18
        assert (seen["ok"], seen["aborted"], seen["in_flight"]) == (3, 5, 0)


def test_who_leaves_the_queue_is_not_answered(client: httpx.Client) -> None:
    """A client that gives up while all slots are taken, or while its answer is generated, is noticed: it is counted as
    aborted, and its place goes to the next.
    """
    with embedded_endpoint(Behaviour(slots=1, faults=parse_faults("slow match=LONG seconds=600"))) as url:
        path = f"{url}/chat/completions"
        with ThreadPoolExecutor(2) as pool:
            gone = [pool.submit(client.post, path, json=body(f"LONG {n}"), timeout=0.3) for n in range(2)]
            assert all(isinstance(one.exception(), httpx.ReadTimeout) for one in gone)
        assert client.post(path, json=body("short")).status_code == 200
        seen = stats(client, url)
        assert (seen["ok"], seen["aborted"], seen["in_flight"], seen["max_in_flight"]) == (1, 2, 0, 2)


def test_repeats_are_counted_and_the_ledger_is_kept(client: httpx.Client, tmp_path: Path) -> None:
    """`repeated` counts what was answered ok again; the ledger file has a line for each event, at once."""
    ledger = tmp_path / "ledger.jsonl"
    with embedded_endpoint(Behaviour(faults=parse_faults("500 first=1")), str(ledger)) as url:
        for text in ("a", "a", "a", "b"):
            client.post(f"{url}/chat/completions", json=body(text))
        seen = stats(client, url)
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert (seen["distinct"], seen["repeated"], seen["ok"], seen["errors"]) == (2, 1, 3, 1)
    assert seen["prompt_tokens"] > 0
    assert [line["event"] for line in lines] == ["received"] + ["received", "answered"] * 3
    assert lines[0]["sha"] == lines[1]["sha"] != lines[-1]["sha"]


def test_it_ignores_ctrl_c_and_ends_with_its_parent() -> None:
    """SIGINT and SIGTERM change nothing; a SIGKILL of the parent ends the child too."""
    code = (
        "import time, subprocess\nfrom batchrun.embedded import embedded_endpoint\n"
        "with embedded_endpoint() as url:\n print(url, flush=True)\n time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(int(listed[0]), number)
        assert httpx.get(f"{url}/models", trust_env=False).status_code == 200
        parent.kill()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/models", trust_env=False)
        except httpx.TransportError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the endpoint outlived its parent")


def test_a_start_that_fails_says_so(tmp_path: Path) -> None:
    """RuntimeError, and no process is left."""
    with pytest.raises(RuntimeError, match="before it listened"), embedded_endpoint(ledger=str(tmp_path / "no" / "x")):
        pass


def test_the_package_imports_neither_server_nor_framework() -> None:
    """A parent that only spawns the endpoint pays for none of it."""
    code = (
        "import sys, batchrun.embedded; "
        "print(sorted({'starlette', 'uvicorn', 'batchrun.embedded.app'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": ROOT}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.strip() == "[]"
