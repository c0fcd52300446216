"""What a request ends in, as a Result: an answer, a fault, or a row that nothing can be asked of."""

from collections.abc import Iterable
from typing import Any

from batchrun.errors import EndpointError, Kind
from batchrun.ledger.lines import Tally
from batchrun.records import Answer, Request, Result, Row, Usage


def answered(request: Request, answer: Answer, tally: Tally) -> Result:
    """The result of a request that was answered; `tally` has its attempts."""
    cost = None if answer.cost is None else answer.cost.plus(tally.cost)
    return Result(
        row=request.row,
        id=request.id,
        variant=request.variant,
        sample=request.sample,
        request_hash=request.hash,
        status="ok",
        completion=answer.completion,
        finish_reason=answer.finish_reason,
        refusal=answer.refusal,
        reasoning=answer.reasoning,
        tool_calls=answer.tool_calls,
        model=answer.model,
        endpoint=answer.endpoint,
        response_id=answer.response_id,
        system_fingerprint=answer.system_fingerprint,
        created=answer.created,
        latency_s=answer.latency_s,
        first_token_s=answer.first_token_s,
        response=answer.raw,
        embeddings=answer.embeddings,
        attempts=tally.sent,
        unconfirmed_attempts=tally.unconfirmed,
        started_at=tally.started_at,
        asked_model=request.model,
        cost=None if cost is None else cost.total,
        input_cost=None if cost is None else cost.input,
        price_source=answer.price_source,
        **_used(answer.usage),
    )


def failed(request: Request, error: EndpointError, tally: Tally | None) -> Result:
    """The result of a request that failed for good; `tally` is None where it was refused before it was sent."""
    tally = tally or Tally()
    usage, cost = error.usage, tally.cost
    return Result(
        row=request.row,
        id=request.id,
        variant=request.variant,
        sample=request.sample,
        request_hash=request.hash,
        status="failed",
        model=request.model,
        endpoint=error.endpoint,
        error_kind=error.kind,
        error_status=error.status,
        error_message=error.message,
        response=error.body,
        attempts=tally.sent,
        unconfirmed_attempts=tally.unconfirmed,
        started_at=tally.started_at,
        asked_model=request.model,
        cost=None if cost is None else cost.total,
        input_cost=None if cost is None else cost.input,
        price_source=error.price_source,
        **({} if usage is None else _used(usage)),
        **({} if error.answer is None else _kept(error.answer)),
    )


def _kept(answer: Answer) -> dict[str, Any]:
    """What is kept of an answer that does not count as one: it was paid for."""
    return {
        "completion": answer.completion,
        "finish_reason": answer.finish_reason,
        "reasoning": answer.reasoning,
        "response_id": answer.response_id,
        "system_fingerprint": answer.system_fingerprint,
        "created": answer.created,
        "latency_s": answer.latency_s,
        "first_token_s": answer.first_token_s,
    }


def _used(usage: Usage) -> dict[str, Any]:
    """The columns of a usage."""
    return {
        "prompt_tokens": usage.prompt,
        "cached_tokens": usage.cached,
        "completion_tokens": usage.completion,
        "reasoning_tokens": usage.reasoning,
        "total_tokens": usage.total,
        "usage_source": usage.source,
        "service_tier": usage.service_tier,
        "endpoint_cost_usd": usage.endpoint_cost_usd,
    }


def unusable(row: Row, message: str, variants: Iterable[str], samples: int) -> list[Result]:
    """The failed results of a row that no request can be built from."""
    return [
        Result(
            row=row.index,
            id=row.id,
            variant=variant,
            sample=sample,
            request_hash="",
            status="failed",
            error_kind=Kind.BAD_ROW,
            error_message=f"{row.where}: {message}",
        )
        for variant in variants
        for sample in range(samples)
    ]
