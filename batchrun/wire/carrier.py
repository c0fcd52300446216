"""What carries the bytes, as far as those who only hand it on need to know: any `httpx.AsyncBaseTransport`
is one. Loads nothing.
"""

from typing import Any, Protocol


class Transport(Protocol):
    async def handle_async_request(self, request: Any) -> Any:
        """An httpx.Request in, an httpx.Response out."""

    async def aclose(self) -> None: ...
