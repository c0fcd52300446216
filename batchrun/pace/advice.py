"""What a person can do about a fault that every row would meet: one sentence for each."""

from batchrun.errors import EndpointError, Kind

_ADVICE = {
    Kind.NOT_FOUND: "check [endpoint] base_url and model (--base-url, --model)",
    Kind.CREDIT: "top up the account, or raise its limit",
    Kind.CONNECT: "check that the endpoint is up and that [endpoint] base_url is right",
    Kind.RATE_LIMITED: "wait until the limit is renewed, or lower [limits] requests_per_minute",
    Kind.MALFORMED: "check that [endpoint] base_url is an OpenAI-compatible endpoint",
    Kind.TIMEOUT: "raise [timeouts] total, first_token or between_tokens (--timeout): each attempt may have been billed",
    Kind.BAD_REQUEST: "every row so far was refused in these words: correct the job, or the rows",
}
_GO_ON = "; the same command goes on from here"


def is_page(error: EndpointError) -> bool:
    """A page for people under HTTP 200: of an endpoint that answered nobody before, it means another address."""
    return error.kind is Kind.SERVER and error.status == 200 and error.remedy is not None


def advice(error: EndpointError, key_env: str | None) -> str | None:
    """What to do about it; None where the fault alone doesn't tell. `key_env` is the variable that holds the key."""
    if error.remedy is not None:
        return error.remedy
    if error.kind is Kind.CREDENTIALS:
        named = key_env or "OPENAI_API_KEY"
        return f"check the key in the variable {named} ([endpoint] api_key_env names another)"
    if error.status is not None and 300 <= error.status < 400:
        return "if that is the endpoint's own address, set [endpoint] base_url to it"
    if error.kind is Kind.BAD_REQUEST and error.param:
        return f"every row so far was refused for `{error.param}`: change it under [params], or take it out"
    return _ADVICE.get(Kind.MALFORMED if is_page(error) else error.kind)


def stop_message(error: EndpointError, key_env: str | None) -> str:
    """Why a run was stopped, what to do, and that nothing is lost meanwhile."""
    what = advice(error, key_env) or "the endpoint does not answer: try again when it is up"
    return f"stopped ({error.kind}): {error.message}; {what}{_GO_ON}"
