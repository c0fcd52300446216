"""How many tokens a request's body is estimated to hold, where nobody has counted them.

A token is taken as four bytes of text, a file within the request (an image, sound, a document) as a thousand: its bytes
say nothing of its tokens.
"""

import re

BYTES_PER_TOKEN = 4
FILE_TOKENS = 1000
_FILE = re.compile(rb'(?<=[",])[A-Za-z0-9+/=_-]{1024,}')
_PARTS = (b'"image_url":', b'"input_audio":', b'"file":', b'"input_file"')


def text_and_files(body: bytes) -> tuple[int, int]:
    """The bytes of a body (canonical JSON) that are text, and how many files are in it, also those given by URL."""
    parts = sum(map(body.count, _PARTS))
    if not parts:
        return len(body), 0
    text, files = _FILE.subn(b"", body)
    return len(text), max(parts, files)


def prompt_tokens(body: bytes) -> int:
    """The tokens of a prompt, rounded up."""
    text, files = text_and_files(body)
    return -(-text // BYTES_PER_TOKEN) + files * FILE_TOKENS
