"""Bytes of an answer → Answer. Knows nothing of connections, retries or prices."""
