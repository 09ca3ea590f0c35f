"""What `where` means: a path into an event's metadata, and the value that must be there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

MOST_STEPS: Final = 32  # of a path
_NUMBER: Final = re.compile(r"-?(0|[1-9]\d{0,39})(\.\d{1,40})?([eE][+-]?\d{1,3})?")
_MISSING: Final = object()


def holds(metadata: Mapping[str, Any], path: str, wanted: Scalar) -> bool:
    """Whether the metadata has this value at `path`, in which dots reach inside.

    A list has the value when one of its elements has. A number or truth value equals a string that spells it, as the
    columns of a CSV file are strings: 2 and "2", true and "True". 1 and 1.0 are equal; 1 and true are not.
    """
    found = metadata.get(path, _MISSING)
    if found is not _MISSING and _equal(found, wanted):
        return True
    if "." not in path or path.count(".") > MOST_STEPS:
        return False
    return any(_equal(value, wanted) for value in _reached(metadata, path))


def _reached(value: Any, path: str) -> Iterator[Any]:
    """What lies at the path. Keys may hold dots themselves, and lists are looked through."""
    if isinstance(value, list):
        for element in value:
            if isinstance(element, dict):
                yield from _reached(element, path)
        return
    if not isinstance(value, dict):
        return
    if path in value:
        yield value[path]
    dot = path.find(".")
    while dot >= 0:
        inner = value.get(path[:dot], _MISSING)
        if inner is not _MISSING:
            yield from _reached(inner, path[dot + 1 :])
        dot = path.find(".", dot + 1)


def _equal(found: Any, wanted: Scalar) -> bool:
    if isinstance(found, list):
        return any(_equal(element, wanted) for element in found if not isinstance(element, list))
    if isinstance(found, str) is isinstance(wanted, str):
        return bool(found == wanted) and isinstance(found, bool) is isinstance(wanted, bool)
    text, other = (found, wanted) if isinstance(found, str) else (wanted, found)
    if isinstance(other, bool):
        return str(text).lower() == str(other).lower()
    return isinstance(other, int | float) and _spells(str(text), other)


def _spells(text: str, number: float) -> bool:
    matched = _NUMBER.fullmatch(text)
    if matched is None:
        return False
    return (float(text) if matched[2] or matched[3] else int(text)) == number
