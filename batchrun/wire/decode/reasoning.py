"""Where endpoints put a model's reasoning, and how it is told from its answer.

Sources: DeepSeek and vLLM (`reasoning_content`), OpenRouter "Reasoning tokens" (`reasoning`, `reasoning_details`), Mistral
"Reasoning" and Anthropic "Extended thinking" (parts of content); for tags within the text the chat templates of DeepSeek-R1,
Qwen3, Magistral and Kimi.
"""

import re
from typing import Any

_TEXT_TYPES = frozenset({None, "", "text", "output_text", "input_text"})
_THOUGHT_TYPES = frozenset({"thinking", "reasoning", "thought", "reasoning_text", "summary_text"})
_THOUGHT_KEYS = ("thinking", "reasoning", "text", "summary", "content")
_OPENING = re.compile(r"\s*(?:<(think|thinking|thought|reasoning)>|(\[THINK\])|(◁think▷))")
_CLOSINGS = {1: "</{}>", 2: "[/THINK]", 3: "◁/think▷"}


def text_of(parts: list[Any]) -> str:
    """The joined text of the parts that are text; a part that is reasoning is none."""
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in _TEXT_TYPES]
    return "".join(text for text in texts if isinstance(text, str))


def thoughts_of(parts: list[Any]) -> str | None:
    """The joined reasoning in parts of content, or in `reasoning_details`; None where there is none."""
    thoughts = [
        thought for part in parts if isinstance(part, dict) and _is_thought(part) and (thought := _thought(part))
    ]
    return "".join(thoughts) if thoughts else None


def reasoning_of(message: dict[str, Any]) -> str | None:
    """A message's reasoning: the first of the places that has any, since relays fill several with the same text."""
    content = message.get("content")
    for value in (message.get("reasoning_content"), message.get("reasoning"), message.get("reasoning_details")):
        text = flat_text(value)
        if text:
            return text
    thoughts = thoughts_of(content) if isinstance(content, list) else None
    given = message.get("reasoning_content")
    return thoughts or flat_text(message.get("reasoning") if given is None else given)


def split_thinking(text: str) -> tuple[str | None, str]:
    """The reasoning between tags at the head of a text, and what follows it; None where there are no tags.

    An opening tag may be missing: some chat templates put it into the prompt. One that is never closed was cut off.
    """
    opened = _OPENING.match(text)
    if opened is None:
        head, tag, rest = text.partition("</think>")
        return (head.strip(), rest.lstrip()) if tag and "<think>" not in head else (None, text)
    assert opened.lastindex is not None
    head, _, rest = text[opened.end() :].partition(_CLOSINGS[opened.lastindex].format(opened[1]))
    return head.strip(), rest.lstrip()


def _is_thought(part: dict[str, Any]) -> bool:
    kind = part.get("type")
    return isinstance(kind, str) and (kind in _THOUGHT_TYPES or kind.startswith("reasoning."))


def _thought(part: dict[str, Any]) -> str | None:
    return next((text for key in _THOUGHT_KEYS if (text := flat_text(part.get(key)))), None)


def flat_text(value: Any) -> str | None:
    """Text as text, also where it stands in parts or in an object; None for all else."""
    if isinstance(value, list):
        return thoughts_of(value) or text_of(value)
    if isinstance(value, dict):
        return _thought(value)
    return value if isinstance(value, str) else None
