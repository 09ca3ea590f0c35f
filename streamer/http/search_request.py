"""The body of a search, checked. What is wrong is said in words that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from streamer.core.reading import Unreadable, clean_text, is_blank, read_json
from streamer.core.vectors import Vector, unit_rows
from streamer.errors import SpaceMismatch
from streamer.indexer.index.payloads import Scalar

DEFAULT_K: Final = 10
LARGEST_K: Final = 100

_SUBJECTS: Final = ("text", "vector", "id")
_KEYS: Final = (*_SUBJECTS, "k", "min_similarity", "where", "space")
MOST_CONDITIONS: Final = 10
_LARGEST: Final = 1e18  # larger numbers, squared and summed as float32, overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """Exactly one of `text`, `vector` (of unit length) and `id` is given. `where`: what metadata must be equal to."""

    text: str | None = None
    vector: Vector | None = None
    id: str | None = None
    k: int = DEFAULT_K
    min_similarity: float | None = None
    where: Mapping[str, Scalar] | None = None


def parse_search(body: bytes, dimensions: int, space: str | None = None) -> SearchRequest:
    """`space`: that of the index. Raises ValueError with the reason, and SpaceMismatch for a search that is meant for
    another space."""
    try:
        document = read_json(body)
    except Unreadable as exc:
        raise ValueError(f"the body is {exc}") from None
    if not isinstance(document, dict):
        raise ValueError("the body must be a JSON object")
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0][:50]!r}; known are {', '.join(_KEYS)}")
    if sum(name in document for name in _SUBJECTS) != 1:
        raise ValueError("exactly one of 'text', 'vector' and 'id' must be given")
    k = document.get("k", DEFAULT_K)
    if type(k) is not int or not 1 <= k <= LARGEST_K:
        raise ValueError(f"'k' must be a whole number from 1 to {LARGEST_K}")
    least = document.get("min_similarity")
    if least is not None and not (_is_number(least) and -1 <= least <= 1):
        raise ValueError("'min_similarity' must be a number from -1 to 1")
    where = document.get("where")
    if where is not None and not (
        isinstance(where, dict)
        and 1 <= len(where) <= MOST_CONDITIONS
        and all(value is None or isinstance(value, str | int | float) for value in where.values())
    ):
        raise ValueError(
            f"'where' must be an object of 1 to {MOST_CONDITIONS} metadata keys, each with a string, number, true, "
            "false or null"
        )
    meant = document.get("space")
    if meant is not None and not isinstance(meant, str):
        raise ValueError("'space' must be a string, as answers and vector events have it")
    if meant is not None and space is not None and meant != space:
        raise SpaceMismatch(f"the search is for space {meant[:50]!r}, this index is of space {space!r}")
    for name in ("text", "id"):
        if name in document and not (isinstance(document[name], str) and not is_blank(document[name])):
            raise ValueError(f"{name!r} must be a string that is not blank")
    return SearchRequest(
        text=clean_text(document["text"]) if "text" in document else None,
        vector=_vector(document["vector"], dimensions) if "vector" in document else None,
        id=document.get("id"),
        k=k,
        min_similarity=least,
        where=where,
    )


def _vector(numbers: Any, dimensions: int) -> Vector:
    if not isinstance(numbers, list) or not all(_is_number(number) and abs(number) <= _LARGEST for number in numbers):
        raise ValueError(f"'vector' must be a list of numbers between -{_LARGEST:g} and {_LARGEST:g}")
    if len(numbers) != dimensions:
        raise ValueError(f"'vector' has {len(numbers)} dimensions, the vectors of this index have {dimensions}")
    try:
        unit: Vector = unit_rows([numbers])[0]
    except ValueError:
        raise ValueError("'vector' must not be zero") from None
    return unit


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
