"""HTTP/1.1 on asyncio: what many requests to one endpoint need, and nothing else. Speaks in httpx's terms."""
