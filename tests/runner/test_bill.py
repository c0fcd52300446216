"""The bill of whole runs: what endpoints say of tokens and tiers, faults that cost something, and sums that agree."""

import json
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import batchrun

OPENAI = "https://api.openai.com/v1"
RELAY = "https://api.quzhi.life/v1"
HERE = "http://127.0.0.1:1/v1"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
Reply = dict[str, Any] | tuple[int, Any] | str


def body(text: str = "x", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice], "usage": USAGE, **more}


def event(**more: Any) -> str:
    return f"data: {json.dumps(more)}\n\n"


def endpoint(*replies: Reply) -> httpx.MockTransport:
    """Answers with one after another, the last again and again."""
    left: Iterator[Reply] = iter(replies)
    last = replies[-1]

    def answer(_request: httpx.Request) -> httpx.Response:
        reply = next(left, last)
        if isinstance(reply, str):
            return httpx.Response(200, text=reply, headers={"content-type": "text/event-stream"})
        status, content = reply if isinstance(reply, tuple) else (200, reply)
        return httpx.Response(status, json=content)

    return httpx.MockTransport(answer)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., batchrun.Outcome]:
    """A run of `rows` rows against an endpoint; the model is `m`, at 1 and 10 dollars a million tokens unless it is said."""
    monkeypatch.chdir(tmp_path)

    def call(wire: httpx.MockTransport, *, base_url: str = HERE, rows: int = 1, **more: Any) -> batchrun.Outcome:
        Path("rows.jsonl").write_text("".join(json.dumps({"prompt": f"p{n}"}) + "\n" for n in range(rows)))
        tables: dict[str, Any] = {
            "input": {"path": "rows.jsonl"},
            "endpoint": {"base_url": base_url, "model": more.pop("model", "m")},
            "prices": {"m": {"input": 1, "output": 10}},
            "output": {"path": "out"},
            "retry": {"max_wait_s": 0.0},
            "limits": {"concurrency": 1},
            **more,
        }
        return batchrun.run(batchrun.Job(**tables), transport=wire, environ={})

    return call


def in_millionths(outcome: batchrun.Outcome) -> list[Decimal | None]:
    """What each result cost, in millionths of a dollar."""
    costs = outcome.results["cost_usd"].to_pylist()
    return [None if cost is None else Decimal(repr(cost)) * 10**6 for cost in costs]


ONE: dict[str, tuple[Reply, int]] = {
    "plain": (body(), 2000),
    "another name": (body(model="gpt-4o"), 2000),
    "reasoning apart": (body(usage={**USAGE, "total_tokens": 1900}), 10_000),
    "reasoning inside": (body(usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 90}}), 2000),
    "Anthropic's own words": (
        body(usage={"input_tokens": 100, "output_tokens": 100, "cache_read_input_tokens": 900}),
        2000,
    ),
    "its usage in the last event": (
        event(model="m", choices=[{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}])
        + event(choices=[], usage=USAGE)
        + "data: [DONE]\n\n",
        2000,
    ),
}


@pytest.mark.parametrize(("reply", "cost"), ONE.values(), ids=ONE)
def test_what_one_answer_costs(run: Callable[..., batchrun.Outcome], reply: Reply, cost: int) -> None:
    """By the job's own price of the asked name, whoever answers and however it counts."""
    outcome = run(endpoint(reply), params={"stream": isinstance(reply, str)})
    assert in_millionths(outcome) == [cost]
    assert outcome.cost_usd == outcome.results["cost_usd"][0].as_py()
    assert outcome.rows[-1]["price_source"] == "job"


HALF = event(model="m", choices=[{"index": 0, "delta": {"content": "half"}}], usage=USAGE)
FAULTS: dict[str, Reply] = {
    "an error behind content": HALF + event(error={"message": "overloaded", "code": 500}),
    "an error in a choice": {
        "model": "m",
        "choices": [{"index": 0, "message": {"content": "half"}, "error": {"message": "boom", "code": 502}}],
        "usage": USAGE,
    },
    "no choices": {"model": "m", "choices": [], "usage": USAGE},
    "broken off": body(choices=[{"index": 0, "message": {"content": "half"}, "finish_reason": "error"}]),
    "nothing in it": body(""),
    "an error with usage": (500, {"error": {"message": "sorry"}, "usage": USAGE}),
}


@pytest.mark.parametrize("reply", FAULTS.values(), ids=FAULTS)
def test_a_fault_that_states_its_usage_is_billed(run: Callable[..., batchrun.Outcome], reply: Reply) -> None:
    """The result costs what all its attempts are known to have cost, also where none of them brought an answer."""
    stream = {"params": {"stream": isinstance(reply, str)}}
    outcome = run(endpoint(reply, body()), **stream)
    assert in_millionths(outcome) == [4000]
    assert outcome.results["attempts"].to_pylist() == [2]
    assert outcome.results["unconfirmed_attempts"].to_pylist() == [0]
    assert outcome.cost_usd == 0.004
    assert outcome.rows[-1]["input_cost_usd"] == 0.002
    once = {"max_attempts": 1, "max_wait_s": 0.0}
    failed = run(endpoint(body(), reply, body()), **stream, rows=3, retry=once, output={"path": "again"})
    assert failed.failed == 1
    assert in_millionths(failed) == [2000] * 3
    assert failed.results["prompt_tokens"].to_pylist() == [1000] * 3
    assert failed.cost_usd == 0.006


GATEWAYS: dict[str, Reply] = {
    "504": (504, {"error": {"message": "upstream timed out"}}),
    "524": (524, "A timeout occurred"),
    "an error behind content, no usage": HALF.replace(json.dumps(USAGE), "null")
    + event(error={"message": "overloaded"}),
}


@pytest.mark.parametrize("reply", GATEWAYS.values(), ids=GATEWAYS)
def test_what_may_have_been_billed_is_unconfirmed(run: Callable[..., batchrun.Outcome], reply: Reply) -> None:
    """A gateway that gave up, or an error behind content: nobody says what it cost."""
    outcome = run(endpoint(reply, body()), params={"stream": isinstance(reply, str)})
    assert in_millionths(outcome) == [2000]
    assert outcome.results["unconfirmed_attempts"].to_pylist() == [1]


def test_what_failed_keeps_its_cost_when_it_is_asked_again(run: Callable[..., batchrun.Outcome]) -> None:
    """`retry_failed` adds to the bill, and takes nothing from it."""
    refused = (400, {"error": {"message": "no", "type": "invalid_request_error"}, "usage": USAGE})
    assert run(endpoint(refused)).cost_usd == 0.002
    again = batchrun.run(
        batchrun.Job(
            input={"path": "rows.jsonl"},
            endpoint={"base_url": HERE, "model": "m"},
            prices={"m": {"input": 1, "output": 10}},
            output={"path": "out"},
        ),
        transport=endpoint(body()),
        environ={},
        retry_failed=True,
    )
    assert (again.ok, in_millionths(again)) == (1, [4000])
    assert again.cost_usd == 0.004


def test_the_tier_and_the_cost_that_the_endpoint_states(run: Callable[..., batchrun.Outcome]) -> None:
    """As it answered, in columns of their own, which only results have where some answer stated them."""
    stated = body(service_tier="flex", usage={**USAGE, "cost": 0.0123})
    outcome = run(endpoint(stated, body()), rows=2)
    assert outcome.results["service_tier"].to_pylist() == ["flex", None]
    assert outcome.results["endpoint_cost_usd"].to_pylist() == [0.0123, None]
    plain = run(endpoint(body()), output={"path": "plain"})
    assert not {"service_tier", "endpoint_cost_usd"} & set(plain.results.column_names)


def test_flex_is_half(run: Callable[..., batchrun.Outcome]) -> None:
    """A known model at its known endpoint, at the tier that was served; what has no price there is null, and why is told."""
    million = {"prompt_tokens": 10**6, "completion_tokens": 0, "total_tokens": 10**6}
    tiers = [body(model="gpt-5", service_tier=tier, usage=million) for tier in ("default", "flex", "vip")]
    outcome = run(endpoint(*tiers), base_url=OPENAI, model="gpt-5", prices={}, rows=3)
    assert in_millionths(outcome) == [1_250_000, 625_000, None]
    total = outcome.rows[-1]
    assert (total["cost_usd"], total["unpriced"]) == (1.875, 1)
    assert "no price for tier vip" in total["price_source"]
    assert "≥ $1.8750, 1 request has no known price" in repr(outcome)


def test_a_local_server_has_no_clouds_price(run: Callable[..., batchrun.Outcome]) -> None:
    """Null for a name that a cloud has too, and the summary says why."""
    outcome = run(endpoint(body(model="gpt-4o")), model="gpt-4o", prices={})
    assert in_millionths(outcome) == [None]
    assert outcome.cost_usd is None
    assert "private network" in outcome.rows[-1]["price_source"]
    assert ", cost unknown: 1 request has no known price" in repr(outcome)


MODELS = [
    "m",
    "n",
    "gpt-4o",
    "gpt-4o-mini",
    "claude-3-5-sonnet-20241022",
    "nobody-xyz",
    "deepseek/deepseek-r1:free",
    None,
]


def anything(seed: int) -> httpx.MockTransport:
    """Answers, faults that cost something and faults that don't, from models priced here, there and nowhere."""
    dice = random.Random(seed)

    def reply(_request: httpx.Request) -> httpx.Response:
        prompt, completion, extra = dice.randrange(10**5), dice.randrange(1, 10**4), dice.choice([0, 0, 777])
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion + extra}
        if dice.random() < 0.3:
            usage |= {"prompt_tokens_details": {"cached_tokens": dice.randrange(prompt + 1)}}
        kind = dice.random()
        whole = body(model=dice.choice(MODELS), usage=usage, service_tier=dice.choice([None, "default", "flex", "vip"]))
        if kind < 0.1:
            return httpx.Response(500, json={"error": {"message": "sorry"}, "usage": usage})
        if kind < 0.2:
            return httpx.Response(200, json={**whole, "choices": []})
        if kind < 0.25:
            return httpx.Response(504)
        if kind < 0.3:
            return httpx.Response(400, json={"error": {"message": "no", "type": "invalid_request_error"}})
        return httpx.Response(200, json=whole)

    return httpx.MockTransport(reply)


@pytest.mark.parametrize("seed", range(4))
def test_the_bill_is_the_sum_of_the_results(run: Callable[..., batchrun.Outcome], seed: int) -> None:
    """For any mix of answers, faults, models, tiers and endpoints, in one file or in parts, also once more after a change:
    each sum of the summary is that over the results, as decimals to the pico-dollar.
    """
    more = {
        "base_url": [OPENAI, RELAY, HERE, OPENAI][seed],
        "model": ["gpt-5", "m", "m", "nobody-xyz"][seed],
        "prices": {"m": {"input": 0.123457, "output": 1.7, "cached_input": 0.012}, "n": {"input": 3, "output": 0}},
        "sweep": {"temperature": [0.0, 0.5]},
        "limits": {"concurrency": 16},
        "retry": {"max_attempts": 3, "max_wait_s": 0.0},
        "output": {"path": "out", "single_file": seed != 1},
    }
    wire = anything(seed)
    for rows in (20, 22):
        outcome = run(wire, rows=rows, **more)
        results, (*groups, total) = outcome.results, outcome.rows
        assert total["requests"] == results.num_rows == 2 * rows
        for name in (
            "attempts",
            "unconfirmed_attempts",
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "total_tokens",
        ):
            assert total[name] == sum(row[name] for row in groups) == sum(n or 0 for n in results[name].to_pylist()), (
                name
            )
        money = sum((Decimal(repr(n)) for n in results["cost_usd"].to_pylist() if n is not None), Decimal(0))
        assert Decimal(repr(total["cost_usd"] or 0.0)) == money
        assert sum(Decimal(repr(row["cost_usd"] or 0.0)) for row in groups) == money
        shares = Decimal(repr(total["input_cost_usd"] or 0.0)) + Decimal(repr(total["output_cost_usd"] or 0.0))
        assert shares == money
