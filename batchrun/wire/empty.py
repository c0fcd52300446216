"""An answer with nothing in it is none: no text, tool call, refusal, vector, sound or image (contract.md §5, `[retry] empty`).

Text that is reasoning alone, between tags at its head, is no text. Where `length` ended the answer, asking again would end
alike: max_tokens went to the reasoning, and the fault says so.
"""

from batchrun.errors import EndpointError, Kind
from batchrun.records import COMPLETIONS, Answer, Request
from batchrun.wire.decode.answer import standard_finish_reason
from batchrun.wire.decode.reasoning import split_thinking


def is_empty(answer: Answer, request: Request) -> bool:
    """Whether nothing of an answer is there. Blanks are text to a text completion alone."""
    if answer.tool_calls or answer.refusal or answer.embeddings or answer.has_media:
        return False
    text = answer.completion or ""
    return not (text if request.path == COMPLETIONS else split_thinking(text)[1].strip())


def emptiness(answer: Answer, *, retry: bool) -> EndpointError:
    """The fault of an empty answer: with its usage, since it is paid for; `retry` says whether asking again makes sense."""
    said = f"finish_reason {answer.finish_reason}" if answer.finish_reason else "no finish_reason"
    message = f"the answer is empty ({said})"
    usage = answer.usage
    cut = standard_finish_reason(answer.finish_reason or "") == "length"
    if cut:
        thought = bool(usage.reasoning or answer.reasoning or answer.completion)
        used = f"{usage.completion} tokens were used up by " if usage.source == "reported" else "max_tokens went to "
        what = "the reasoning" if thought else "something that is no text"
        message = f"{message}: {used}{what}; raise max_tokens, or ask for less reasoning"
    error = EndpointError(
        Kind.EMPTY_OUTPUT,
        message,
        status=answer.status,
        body=answer.raw,
        should_retry=None if retry and not cut else False,
        usage=usage,
    )
    error.model, error.answer = answer.model, answer
    return error
