"""Which servers are on this machine or in a private network."""

import pytest

from batchrun.judge.local import is_local

LOCAL = [
    "embedded:",
    "embedded",
    "http://localhost:8000/v1",
    "http://127.0.0.1/v1",
    "http://127.8.8.8:1",
    "http://127.1:8000",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://0.0.0.0:8000",
    "http://[::1]:8000/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[fe80::1%25eth0]/v1",
    "http://[fd00::5]/v1",
    "http://10.1.2.3",
    "http://172.16.0.9",
    "http://192.168.178.20:11434/v1",
    "http://169.254.1.1",
    "http://100.64.3.2:8000",
    "http://vllm:8000/v1",
    "http://gpu-box.local/v1",
    "http://llm.internal/v1",
    "http://llm.team.svc.cluster.local:80/v1",
    "http://host.docker.internal:11434/v1",
    "http://box.localhost/",
    "http://box.local./",
    "127.0.0.1:8000",
    "vllm:8000",
]
PUBLIC = [
    "https://api.openai.com/v1",
    "https://api.quzhi.life/v1/chat/completions",
    "http://8.8.8.8/v1",
    "http://172.32.0.1",
    "http://[2606:4700::1]/v1",
    "api.openai.com",
    "https://localhost.example.com",
    "https://127.0.0.1.nip.io",
]


@pytest.mark.parametrize("url", LOCAL)
def test_local(url: str) -> None:
    """Loopback, private, link-local and shared addresses in every spelling, and names that only a network's own server knows."""
    assert is_local(url)


@pytest.mark.parametrize("url", PUBLIC)
def test_public(url: str) -> None:
    """What the world can reach."""
    assert not is_local(url)
