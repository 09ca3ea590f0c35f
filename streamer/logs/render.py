"""How a log line looks: one JSON object for programs, words that wrap at words for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any, Final

import orjson

FIRST: Final = ("timestamp", "level", "event", "logger")  # then the facts

_COLORS: Final = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_KEY: Final = "\x1b[36m"
_RESET: Final = "\x1b[0m"
_INDENT: Final = " " * 18  # below the event: behind the time and the level


def json_line(line: Mapping[str, Any]) -> str:
    """One JSON object without a line break, whatever the values are."""
    ordered = {key: line[key] for key in FIRST if key in line} | {k: v for k, v in line.items() if k not in FIRST}
    try:
        return orjson.dumps(ordered, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a lone surrogate, or a number beyond 64 bits
        text = json.dumps({str(key): value for key, value in ordered.items()}, default=str, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode()


def console_line(line: Mapping[str, Any], width: int, *, color: bool) -> str:
    """Time, level and event, then the facts; lines that are too long go on below the event."""
    time = str(line.get("timestamp", ""))[11:19]
    level = str(line.get("level", "info"))
    head = f"{time} {level:<8} {line.get('event', '')}"
    facts = {key: value for key, value in line.items() if key not in FIRST and key != "exception"}
    words = [f"{key}={_shown(value)}" for key, value in facts.items()]
    text = "\n".join(
        textwrap.wrap(
            "  ".join([" ".join(head.split("\n")), *words]),
            max(width - 1, 40),
            subsequent_indent=_INDENT,
            break_long_words=False,  # a path or an id is copied whole
            break_on_hyphens=False,
            replace_whitespace=True,
        )
    )
    if color:
        for key in facts:
            text = text.replace(f" {key}=", f" {_KEY}{key}{_RESET}=", 1)
        text = text.replace(f" {level:<8} ", f" {_COLORS.get(level, '')}{level:<8}{_RESET} ", 1)
    exception = line.get("exception")
    return f"{text}\n{exception}" if exception else text


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if " " in value or not value else value
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(item) for item in value)
    return str(value)
