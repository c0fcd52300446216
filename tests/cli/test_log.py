"""`batchrun log`: the story of a run in words."""

import json
import signal
from collections.abc import Callable
from typing import Any

from batchrun.embedded import parse_faults


def events(job: Any, *flags: str) -> list[str]:
    found = json.loads(job.batchrun("log", job.out, "--json", *flags).stdout)
    return [one["event"] for one in found["events"]]


def test_a_night_has_its_story(start: Callable[..., Any]) -> None:
    """Interrupted, killed, resumed and finished: each call is told with how it ended, failures and retries between."""
    job = start(slots=4, first_token_s=0.1, faults=parse_faults("400 every=9; 503 every=7"))
    job.rows(range(40))
    with job.running("--concurrency", "4", received=12) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    with job.running("--concurrency", "4", received=8) as process:
        process.kill()
    job.run("--concurrency", "4", code=1)
    found = events(job)
    assert [one for one in found if one in ("started", "resumed", "draining", "stopped", "complete")] == [
        "started",
        "draining",
        "stopped",
        "resumed",
        "resumed",
        "complete",
    ]
    assert {"retries", "first failure"} <= set(found)
    process = job.batchrun("log", job.out)
    assert process.returncode == 0
    assert process.stdout.splitlines()[0].endswith("  started: 40 requests")
    assert "interrupted by SIGTERM" in process.stdout
    assert "resumed: 40 requests, after its process had died" in process.stdout
    assert "first failure of its kind, bad_request, in row" in process.stdout
    assert process.stdout.splitlines()[-1].endswith(" failed")
    assert len(process.stdout.splitlines()) == len(found)


def test_only_the_last_hours(start: Callable[..., Any]) -> None:
    """--since takes a time that has passed, or a date; what it can't read is exit 2."""
    job = start()
    job.rows(range(2))
    job.run()
    assert events(job, "--since", "3h") == ["started", "complete"]
    assert events(job, "--since", "2020-01-01") == ["started", "complete"]
    assert events(job, "--since", "0s") == []
    process = job.batchrun("log", job.out, "--since", "yesterday")
    assert process.returncode == 2
    assert "--since 'yesterday'" in process.stderr


def test_following_ends_with_the_run(start: Callable[..., Any]) -> None:
    """`log --follow` tells what comes, and ends when the run does."""
    job = start(slots=4, first_token_s=0.1)
    job.rows(range(40))
    with job.running("--concurrency", "4", received=4) as process:
        followed = job.batchrun("log", job.out, "--follow")
        process.communicate(timeout=20)
    assert followed.returncode == 0
    assert followed.stdout.splitlines()[-1].endswith("complete: 40 ok, 0 failed")


def test_no_key_is_in_it(start: Callable[..., Any]) -> None:
    """A key that an endpoint says back is not in the log."""
    job = start(api_key="sk-other")
    job.rows(range(2))
    job.run("--api-key-env", "OWN_API_KEY", code=3, env={"OWN_API_KEY": "sk-own-0123456789abcdef"})
    text = (job.out / "log.jsonl").read_text()
    assert '"stopped"' in text
    assert "sk-own" not in text
