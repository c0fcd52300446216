"""Base URLs in all their spellings (contract.md §5)."""

import pytest

from batchrun.errors import JobError
from batchrun.wire.address import completions_url

PAGE = "https://api.quzhi.life/v1/chat/completions"
SPELLINGS = {
    "https://api.quzhi.life": PAGE,
    "https://api.quzhi.life/": PAGE,
    "https://api.quzhi.life/v1": PAGE,
    "https://api.quzhi.life/v1/": PAGE,
    "https://api.quzhi.life/v1//": PAGE,
    "https://api.quzhi.life/v1/chat/completions": PAGE,
    "https://api.quzhi.life/v1/chat/completions/": PAGE,
    "https://api.quzhi.life/v1/embeddings": PAGE,
    "https://api.quzhi.life/v1/completions": PAGE,
    "https://api.quzhi.life/v1/responses/": PAGE,
    " https://api.quzhi.life/v1\n": PAGE,
    "HTTPS://api.quzhi.life/v1": PAGE,
    "https://api.quzhi.life/v1#part": PAGE,
    "http://127.0.0.1:8000": "http://127.0.0.1:8000/v1/chat/completions",
    "http://[::1]:8000/v1": "http://[::1]:8000/v1/chat/completions",
    "https://openrouter.ai/api/v1": "https://openrouter.ai/api/v1/chat/completions",
    "https://api.groq.com/openai/v1/": "https://api.groq.com/openai/v1/chat/completions",
    "https://generativelanguage.googleapis.com/v1beta/openai/": (
        "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"
    ),
    "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21": (
        "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
    ),
    "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=1": (
        "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=1"
    ),
}


@pytest.mark.parametrize(("spelling", "url"), SPELLINGS.items())
def test_spelling(spelling: str, url: str) -> None:
    """A root, /v1, a trailing slash or the whole path mean the same endpoint; a query is kept."""
    assert completions_url(spelling) == url
    assert completions_url(url) == url


REFUSED = {
    "api.quzhi.life/v1": "has no scheme",
    "": "has no scheme",
    "localhost:8000": "has no scheme",
    "ftp://host/v1": "must be http:// or https://",
    "https:///v1": "with a host",
    "https://host:port/v1": "is not a URL",
    "https://[::1/v1": "is not a URL",
    "https://a.com/https://b.com/v1": "two URLs in one; perhaps 'https://b.com/v1' is meant",
}


@pytest.mark.parametrize(("text", "says"), REFUSED.items())
def test_refused(text: str, says: str) -> None:
    """What is no base URL is refused with the remedy, before anything is sent."""
    with pytest.raises(JobError) as caught:
        completions_url(text)
    assert says in str(caught.value)


def test_key_in_the_url_is_refused_and_not_shown() -> None:
    """A key in the URL is refused, and the message doesn't repeat it."""
    with pytest.raises(JobError, match="api_key_env") as caught:
        completions_url("https://user:sk-secret@host/v1")
    assert "sk-secret" not in str(caught.value)
