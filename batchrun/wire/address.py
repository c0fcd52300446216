"""Base URLs in all spellings: a root, …/v1, a trailing slash or the whole path mean the same endpoint."""

import re
from urllib.parse import urlsplit, urlunsplit

from batchrun.errors import JobError
from batchrun.records import CHAT, PATHS

_KNOWN_END = re.compile(f"({'|'.join(PATHS)})$")


def completions_url(base_url: str) -> str:
    """The full URL to POST chat completions to. A query string (Azure's api-version) is kept. Raises JobError."""
    text = base_url.strip()
    if text.count("://") > 1:
        last = re.split(r"(?=https?://)", text)[-1]
        raise JobError(f"base_url {base_url!r} is two URLs in one; perhaps {last!r} is meant")
    if "://" not in text:
        raise JobError(f"base_url {base_url!r} has no scheme; write http://… or https://…, or embedded:")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise JobError(f"base_url {base_url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise JobError(f"base_url {base_url!r} must be http:// or https:// with a host")
    if parts.username or parts.password:
        raise JobError(
            "base_url holds a user name or password; put the key into a variable and name it with api_key_env"
        )
    path = _KNOWN_END.sub("", re.sub(r"/+$", "", parts.path)) or ("" if parts.path.strip("/") else "/v1")
    host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
    return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, path + CHAT, parts.query, ""))


def beside(chat_url: str, path: str) -> str:
    """The URL of another of the endpoint's paths: it stands where chat completions stand, its query is the same."""
    parts = urlsplit(chat_url)
    return urlunsplit(parts._replace(path=parts.path.removesuffix(CHAT) + path))
