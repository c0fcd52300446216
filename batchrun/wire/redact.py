"""Keys taken out of text by value (endpoint.md §6): of messages and bodies that an endpoint, relay or proxy echoes.

A secret is looked for as it is and as JSON, URLs and HTML write it.
"""

import html
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

SHOWN = "[key]"
_SHORTEST = 4
_SHORTEST_HEADER = 8
_SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|credential|session|password|signature|\bsig\b", re.IGNORECASE)
_SECRET_LOOK = re.compile(r"(?=.*\d)[A-Za-z0-9_\-.+/=~]{20,}")


class Redactor:
    """Replaces every secret in a text. A secret of less than four characters is none."""

    def __init__(self, secrets: Iterable[str]) -> None:
        spellings = {spelling for secret in secrets if len(secret) >= _SHORTEST for spelling in _spellings(secret)}
        longest_first = sorted(spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(SHOWN, text)


def secrets_of(key: str | None, headers: Mapping[str, str], url: str) -> set[str]:
    """What must not be shown: the key, headers that hold or look like one, and keys in the URL's query."""
    found = {key} if key else set()
    for name, value in headers.items():
        last = value.strip().rpartition(" ")[2]  # what follows a scheme, such as Bearer
        if _SECRET_NAME.search(name) or (_SECRET_LOOK.fullmatch(last) and "://" not in last):
            found |= {part for part in (value.strip(), last) if len(part) >= _SHORTEST_HEADER}
    found |= {value for name, value in parse_qsl(urlsplit(url).query) if _SECRET_NAME.search(name)}
    return found


def _spellings(secret: str) -> Iterable[str]:
    escaped = json.dumps(secret)[1:-1]
    percent = quote(secret, safe="")
    plus = quote_plus(secret)
    return {
        secret,
        escaped,
        escaped.replace("/", "\\/"),
        html.escape(secret),
        *(spelling for one in (percent, plus) for spelling in (one, _lower_hex(one))),
    }


def _lower_hex(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), text)
