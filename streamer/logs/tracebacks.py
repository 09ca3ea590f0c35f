"""Tracebacks for the log: where it happened and which error it was, but no value that an error's text may quote."""

from __future__ import annotations

import traceback
from typing import Final

# Errors whose texts never quote a record, a text or a vector. Ours quote with errors.quoted, which is left out later.
_QUOTE_NOTHING: Final = (OSError, ArithmeticError, AssertionError, MemoryError)
_PACKAGES: Final = ("streamer", "aiokafka", "sqlite3")

LEFT_OUT: Final = "(its text may quote a record; log.include_texts = true shows it)"


def traceback_text(error: BaseException, *, include_texts: bool) -> str:
    """Like Python's own; with `include_texts` it is Python's own."""
    if include_texts:
        return "".join(traceback.format_exception(error)).rstrip()
    return "\n".join(_lines(error, set()))


def _lines(error: BaseException, seen: set[int]) -> list[str]:
    seen.add(id(error))
    lines: list[str] = []
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        lines += [*_lines(cause, seen), "", "which led to:", ""]
    lines += ["".join(traceback.format_tb(error.__traceback__)).rstrip()] if error.__traceback__ else []
    lines.append(error_text(error))
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            if id(inner) not in seen:
                lines += ["", "in the group:", "", *_lines(inner, seen)]
    return lines


def error_text(error: BaseException) -> str:
    """Type and text of an error, without a text that may quote something."""
    package = type(error).__module__.partition(".")[0]
    quotes_nothing = isinstance(error, (*_QUOTE_NOTHING, BaseExceptionGroup)) or package in _PACKAGES
    text = str(error) if quotes_nothing or not error.args else LEFT_OUT
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
