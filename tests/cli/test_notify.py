"""Somebody elsewhere is told what becomes of a run, and that can't harm it."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A URL, and the news that came to it."""
    news: list[dict[str, Any]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            news.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret-place", news
        server.shutdown()


def test_the_end_is_told(start: Callable[..., Any], receiver: tuple[str, list[dict[str, Any]]]) -> None:
    """A command gets JSON on stdin and no key in its environment, a URL the same as a POST; --on-end too. The URL, which may
    be a secret, is not kept.
    """
    url, news = receiver
    job = start(api_key="sk-right")
    job.rows(range(3))
    (job.folder / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[endpoint]\napi_key_env = "OWN_API_KEY"\n'
        f"[notify]\ncommand = 'cat > told.json; env > env.txt'\nurl = '{url}'\n"
    )
    job.source = "job.toml"
    job.run("--on-end", "cat > end.json", env={"OWN_API_KEY": "sk-right"})
    told = json.loads((job.folder / "told.json").read_text())
    assert told == news[0] == json.loads((job.folder / "end.json").read_text())
    assert (told["event"], told["ok"], told["requests"], told["exit_code"]) == ("complete", 3, 3, 0)
    assert "sk-right" not in (job.folder / "env.txt").read_text()
    assert "secret-place" not in (job.out / "run.json").read_text()


def test_a_long_pause_and_a_stop_are_told(
    start: Callable[..., Any], receiver: tuple[str, list[dict[str, Any]]]
) -> None:
    """A pause is told once it has lasted `paused_s`; then how the run was stopped. A URL from the environment is found."""
    url, news = receiver
    job = start(first_token_s=0.2)
    job.rows(range(200))
    (job.folder / "job.toml").write_text(
        '[input]\npath = "rows.jsonl"\n[notify]\nurl = "${NEWS_URL}"\npaused_s = 0.2\n[endpoint]\nheaders = {}\n'
    )
    job.source = "job.toml"
    with job.running("--concurrency", "4", received=4, env={"NEWS_URL": url}) as process:
        assert job.batchrun("pause", job.out).returncode == 0
        assert job.batchrun("stop", job.out).returncode == 0
        process.communicate(timeout=30)
    assert [one["event"] for one in news] == ["paused", "stopped"]
    assert news[0]["message"] == "by batchrun pause"
    assert news[1]["exit_code"] == 143


def test_who_can_t_be_told_is_noted(start: Callable[..., Any]) -> None:
    """A command that fails and a URL that can't be reached are noted, and change neither the results nor the exit code; what is
    no URL is exit 2 before anything is sent.
    """
    job = start()
    job.rows(range(3))
    job.source = "job.toml"
    tables = '[input]\npath = "rows.jsonl"\n[notify]\n'
    (job.folder / "job.toml").write_text(f"{tables}command = 'exit 7'\nurl = 'http://127.0.0.1:9/hidden'\n")
    job.run()
    assert "[notify] the command ended with exit code 7" in job.process.stderr
    assert "[notify] the url could not be told" in job.process.stderr
    assert "hidden" not in job.process.stderr
    (job.folder / "job.toml").write_text(f"{tables}url = '${{NO_SUCH_URL}}'\n")
    assert job.run(code=2) == 0
    assert "NO_SUCH_URL" in job.process.stderr


def test_a_url_that_the_run_directory_has_not_kept_is_missed(start: Callable[..., Any], receiver: Any) -> None:
    """A URL may be a secret, and is not in run.json: a call from the directory alone says that it tells nobody there, and the
    job file's next call tells it again.
    """
    url, news = receiver
    job = start()
    job.rows(range(3))
    toml = f"[input]\npath = 'rows.jsonl'\n[notify]\nurl = '{url}/secret'\n"
    (job.folder / "job.toml").write_text(toml)
    job.source = "job.toml"
    job.run()
    assert len(news) == 1
    assert "secret" not in (job.out / "run.json").read_text()
    job.rows(range(4))
    process = job.batchrun("run", "out", cwd=job.folder)
    assert process.returncode == 0, process.stderr
    assert "[notify] url is not kept in a run directory" in process.stderr
    assert len(news) == 1
    job.rows(range(5))
    job.run()
    assert len(news) == 2
