"""Keys are taken out by value, however an endpoint writes them (endpoint.md §6)."""

import html
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.wire.redact import Redactor, secrets_of

KEY = 'sk-a/b+c=d"e&f<g'
SPELLINGS = [
    KEY,
    json.dumps(KEY)[1:-1],
    json.dumps(KEY)[1:-1].replace("/", "\\/"),
    quote(KEY, safe=""),
    quote(KEY, safe="").lower(),
    quote_plus(KEY),
    html.escape(KEY),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spelling(spelling: str) -> None:
    """The key is found as it is, and as JSON, URLs and HTML write it."""
    assert Redactor([KEY])(f"wrong key <{spelling}>, {spelling}") == "wrong key <[key]>, [key]"


HEADERS: list[tuple[str, str, list[str]]] = [
    ("api-key", "0123456789abcdef", ["0123456789abcdef"]),
    ("Authorization", "Basic dXNlcjpwYXNz", ["Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"]),
    ("Cookie", "session=abcdef", ["session=abcdef"]),
    ("X-Goog-Api-Key", "AIzaSyFAKEFAKE", ["AIzaSyFAKEFAKE"]),
    ("X-Custom", "f00dfeedf00dfeedf00dfeed", ["f00dfeedf00dfeedf00dfeed"]),
    ("X-Title", "My reviews", []),
    ("HTTP-Referer", "https://my.example/batches/2025/reviews", []),
    ("anthropic-version", "2023-06-01", []),
    ("anthropic-beta", "output-128k-2025-02-19", ["output-128k-2025-02-19"]),
    ("x-token", "short", []),
]


@pytest.mark.parametrize(("name", "value", "found"), HEADERS)
def test_secrets_in_headers(name: str, value: str, found: list[str]) -> None:
    """A header that is named like a secret or looks like one is taken out too; better one too many."""
    assert secrets_of(None, {name: value}, "https://h/v1") == set(found)


def test_secrets_in_the_url() -> None:
    """A key in the query of base_url is a secret; an API version is none."""
    url = "https://h/v1/chat/completions?api-version=2024-10-21&subscription-key=abcd1234"
    assert secrets_of("sk-1", {}, url) == {"sk-1", "abcd1234"}


@pytest.mark.parametrize("secrets", [[], ["", "a", "abc"]])
def test_what_is_too_short_is_no_secret(secrets: list[str]) -> None:
    """Less than four characters would take words out of every text."""
    assert Redactor(secrets)("a abc text") == "a abc text"


@given(st.lists(st.text(min_size=4, max_size=12), min_size=1, max_size=3), st.text(), st.text())
def test_no_secret_is_left(secrets: list[str], before: str, after: str) -> None:
    """Whatever the secrets and the text around them, none stands in it afterwards, but for what `[key]` itself holds."""
    shown = Redactor(secrets)(before + secrets[0] + after)
    assert all(secret not in shown.replace("[key]", "\n") for secret in secrets if "\n" not in secret)
