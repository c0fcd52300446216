"""batchrun against servers that nobody here wrote: LiteLLM's proxy, aimock, mitmproxy and nginx.

`tests/real/install.sh && pytest -n 0 -m real` installs and asks them. They have a marker of their own because they need more
than Python, and a few minutes; `.ci/run` runs them. A server that is missing skips its tests with the reason, and fails them
where CI is set. servers.py says how each is started.
"""
