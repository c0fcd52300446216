"""Text from an endpoint can't steer a terminal (endpoint.md §6)."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import EndpointError, Kind
from batchrun.events import Paused
from batchrun.report.progress import Progress
from batchrun.report.words import printable

STEERING = {
    "clear screen": "\x1b[2J",
    "window title (OSC)": "\x1b]0;owned\x07",
    "link (OSC 8)": "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\",
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJm\x07",
    "C1 CSI": "\x9b31m",
    "C1 OSC": "\x9d0;owned\x9c",
    "C1 next line": "a\x85b",
    "carriage return": "safe\rEVIL",
    "backspace": "a\x08b",
    "bell and null": "\x07\x00",
    "delete": "\x7f",
    "right-to-left override": "a\u202egpj.exe",
    "bidi isolates": "\u2066a\u2069\u2067b\u2068",
    "bidi marks": "\u200e\u200f\u061c",
    "zero width": "a\u200bb\u200dc\ufeff",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "tag characters": "\U000e0041",
    "lone surrogate": "\ud800",
    "private use": "\ue000",
}


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_what_steers_a_terminal_is_escaped(text: str) -> None:
    """C0 and C1 controls, escape sequences, bidi and invisible characters, and line separators are shown as escapes."""
    shown = printable(text)
    assert shown.isprintable()
    assert "\\x" in shown


@pytest.mark.parametrize("text", ["plain", "你好, wörld 🙂", "a b", "tab-free", "€ ½ ™"])
def test_what_can_be_read_is_left_as_it_is(text: str) -> None:
    """Text in any script is shown as it is."""
    assert printable(text) == text


@given(st.text(st.characters(codec=None, categories=None)))
def test_any_text_becomes_printable(text: str) -> None:
    """Whatever comes in, only printable characters and line feeds go out."""
    assert printable(text).replace("\n", "").isprintable()


def test_messages_of_the_endpoint_go_through_it() -> None:
    """A pause is told with the endpoint's own words, made safe."""
    out = io.StringIO()
    Progress("log", 1, out).hear(Paused(EndpointError(Kind.CREDENTIALS, "no\x1b[2J\u202e"), 0.0))
    assert out.getvalue().replace("\n", "").isprintable()
