"""Base URLs in all spellings: a root, …/v1, a trailing slash or the whole path mean the same endpoint."""

import re
from urllib.parse import urlsplit, urlunsplit

from batchrun.errors import JobError

COMPLETIONS = "/chat/completions"


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
    path = re.sub(r"/+$", "", parts.path)
    if not path.endswith(COMPLETIONS):
        if not path:
            path = "/v1"
        path += COMPLETIONS
    host = parts.hostname if ":" not in parts.hostname else f"[{parts.hostname}]"
    return urlunsplit((parts.scheme, f"{host}:{port}" if port else host, path, parts.query, ""))
