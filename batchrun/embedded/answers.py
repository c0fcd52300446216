"""The text of an answer, from word lists and hashes: the same request always gets the same answer.

A stand-in, and no language model: it labels by counting words, calculates simple sums, knows a few facts, fills simple
JSON schemas, and says something harmless about everything else. It must never use a clock, a random
source or the network.
"""

import re
from hashlib import blake2b
from typing import Any

import msgspec

from batchrun.embedded.labels import find_labels, opinion, pick_label
from batchrun.embedded.lexicon import lexicon
from batchrun.embedded.requests import ChatRequest
from batchrun.embedded.tokens import first_tokens
from batchrun.embedded.wire import ApiError, Choice

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_SUM = re.compile(rf"{_NUMBER}\s*([-+*/x×÷−]|plus|minus|times|divided by)\s*{_NUMBER}")
_POWER = re.compile(rf"{_NUMBER} to the power of (\d{{1,2}})\b")
_ROOT = re.compile(r"square root of (\d+)")
_PERCENT = re.compile(rf"{_NUMBER} ?(?:percent|per cent|%) of {_NUMBER}")
_CAPITAL = re.compile(r"capital (?:city )?of (?:the )?([a-z][a-z ]+)")
_SYMBOL = re.compile(r"(symbol|atomic number) (?:for|of) (?:the element )?([a-z]+)")
_RATING = re.compile(r"(?:rate|rating|score|stars?)\b[^.\n]{0,60}?\bfrom (\d) to (\d{1,2})", re.IGNORECASE)
_LENGTH = re.compile(r"\b(\d{1,4}) words\b")
_KEYS = re.compile(r"\"(\w{1,40})\"\s*:|\bkeys?:? ((?:[\"'`]?\w+[\"'`]?(?:, | and )?)+)")
_CHINESE = re.compile("[\u4e00-\u9fff]")
_PIECES = re.compile("\\s*[\u4e00-\u9fff]{1,2}|\\s*[^\\s\u4e00-\u9fff]{1,12}|\\s+")
_TRANSLATED = re.compile("翻译成英文|in English|into English", re.IGNORECASE)


def answer(request: ChatRequest, seed: int) -> list[Choice]:
    """Give the choices of `request`, with `stop` and `max_tokens` applied."""
    basis = f"{seed}|{request.model}|{request.flavour}|{request.system}|{request.earlier}|{request.user}".encode()
    choices = []
    for index in range(request.n):
        digest = blake2b(basis, digest_size=6, salt=index.to_bytes(2, "little")).digest()
        choices.append(_trim(_compose(request, int.from_bytes(digest, "little")), request))
    return choices


def pieces(text: str) -> list[str]:
    """`text` in parts of about a token each, as a stream sends it."""
    return _PIECES.findall(text)


def _trim(text: str, request: ChatRequest) -> Choice:
    for stop in request.stop:
        text = text.split(stop, 1)[0]
    if request.max_tokens is not None:
        cut = first_tokens(text, request.max_tokens, request.tokenizer)
        if len(cut) < len(text):
            return Choice(cut, "length")
    return Choice(text, "stop")


def _compose(request: ChatRequest, chance: int) -> str:
    everything = f"{request.system}\n{request.earlier}\n{request.user}"
    if request.response_format is not None:
        return _json(request.response_format, everything, chance)
    if "json" in everything.lower() and _KEYS.search(everything):
        return _json({}, everything, chance)
    return (
        _label(everything, chance)
        or _rating(everything)
        or _known(request.user.lower())
        or _known(request.earlier.lower())  # whoever is asked again is asked about what stands further up
        or _say(request, chance)
    )


def _label(text: str, chance: int) -> str:
    labels, rest = find_labels(text)
    return pick_label(labels, rest, chance) if labels else ""


def _rating(text: str) -> str:
    found = _RATING.search(text)
    if not found or int(found[1]) >= int(found[2]):
        return ""
    low, high = int(found[1]), int(found[2])
    return str(max(low, min(high, round((low + high) / 2 + opinion(text)))))


def _known(question: str) -> str:
    try:
        if calculated := _sum(question):
            return calculated
    except (OverflowError, ValueError):
        return ""  # numbers beyond a float
    if (found := _CAPITAL.search(question)) and (capital := lexicon().capitals.get(found[1].strip())):
        return capital
    if (found := _SYMBOL.search(question)) and found[2] in lexicon().elements:
        return str(lexicon().elements[found[2]][found[1] != "symbol"])
    for words, fact in lexicon().facts:
        if all(word in question for word in words):
            return fact
    return ""


def _sum(question: str) -> str:
    if found := _POWER.search(question):
        return _number(float(found[1]) ** int(found[2]))
    if found := _ROOT.search(question):
        return _number(int(found[1]) ** 0.5)
    if found := _PERCENT.search(question):
        return _number(float(found[1]) * float(found[2]) / 100)
    if found := _SUM.search(question):
        return _calculate(float(found[1]), found[2], float(found[3]))
    return ""


def _calculate(left: float, sign: str, right: float) -> str:
    if sign in ("+", "plus"):
        return _number(left + right)
    if sign in ("-", "−", "minus"):
        return _number(left - right)
    if sign in ("/", "÷", "divided by"):
        return _number(left / right) if right else "undefined"
    return _number(left * right)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _say(request: ChatRequest, chance: int) -> str:
    known, words = lexicon(), request.user.split()
    if _CHINESE.search(request.user) and not _TRANSLATED.search(f"{request.system}\n{request.user}"):
        chosen = known.chinese_sentences[chance % len(known.chinese_sentences)]
        return chosen.format(echo="".join(words)[:16].rstrip("？。！，?!.,"))
    echo = " ".join(words[:8])[:80].rstrip("?.!,:;") or "this"
    text = known.sentences[chance % len(known.sentences)].format(echo=echo)
    if found := _LENGTH.search(request.user):
        wanted = int(found[1])
        filler = known.filler.split()
        text = " ".join([*text.split(), *(filler * (wanted // len(filler) + 1))][:wanted])
    return text


def _json(response_format: dict[str, Any], text: str, chance: int) -> str:
    schema = (response_format.get("json_schema") or {}).get("schema")
    if not schema:
        named = [found[1] or found[2] for found in _KEYS.finditer(text)]
        keys = [key for names in named for key in re.findall(r"\w+", names) if key != "and"] or ["answer"]
        schema = {"type": "object", "properties": {key: _guess(key) for key in dict.fromkeys(keys)}}
    try:
        return msgspec.json.encode(_fill(schema, "answer", text, chance, 0)).decode()
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise ApiError(
            400, f"Invalid schema for response_format: {error}", param="response_format", code="invalid_json_schema"
        ) from error


def _guess(key: str) -> dict[str, Any]:
    if key in ("score", "rating", "count", "year", "age"):
        return {"type": "integer"}
    if key in ("confidence", "probability", "price", "number"):
        return {"type": "number", "minimum": 0, "maximum": 1}
    return {"type": "string"}


def _fill(schema: Any, key: str, text: str, chance: int, depth: int) -> Any:
    """Make a value that fits the simple cases of JSON Schema; null for what it doesn't know."""
    if not isinstance(schema, dict) or depth > 12:
        return None
    if "const" in schema:
        return schema["const"]
    if options := schema.get("enum"):
        return pick_label(options, text, chance) if all(isinstance(o, str) for o in options) else options[0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            return _fill(schema[union][0], key, text, chance, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _fill(part, name, text, chance + depth, depth + 1) for name, part in properties.items()}
    if kind == "array":
        count = max(int(schema.get("minItems", 1)), 1)
        return [_fill(schema.get("items", {}), key, text, chance + at, depth + 1) for at in range(min(count, 100))]
    if kind == "boolean":
        return opinion(text) > 0
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        high = schema.get("maximum", low + 10)
        number = low + (high - low) * (chance % 101) / 100
        return int(number) if kind == "integer" else round(number, 4)
    return _string(schema, key, text, chance) if kind == "string" else None


def _string(schema: dict[str, Any], key: str, text: str, chance: int) -> str:
    value = _label(text, chance) if key in ("label", "sentiment", "category", "answer") else ""
    value = value or _known(text.lower()) or f"{key} {chance % 1000}"
    value = value.ljust(int(schema.get("minLength", 0)), ".")
    return value[: int(schema["maxLength"])] if "maxLength" in schema else value
