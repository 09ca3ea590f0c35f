"""What people decide about a change of the model, as records of the migrations topic.

Each decision names the one that it follows. Of two that follow the same one, the first in the topic counts, so that all
who read the topic come to the same, and whoever wrote the other learns that it came too late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias, cast, get_args

import orjson

FORMAT: Final = 1

Change: TypeAlias = Literal["start", "switch", "back", "finish"]
Place: TypeAlias = Literal["old", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two models, and what only it uses.

    `settings` ("section.key": value) and `unset` (keys that go back to their defaults): how its settings differ from
    those of before the migration. `work`: more settings, for its workers as long as the migration runs.
    """

    provider: str
    model: str
    space: str
    group: str
    vectors: str
    verdicts: str
    dead_letters: str
    settings: Mapping[str, str] = field(default_factory=dict)
    unset: Sequence[str] = ()
    work: Mapping[str, str] = field(default_factory=dict)

    @property
    def topics(self) -> tuple[str, str, str]:
        return self.vectors, self.verdicts, self.dead_letters


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`group`: that of the old side, which names the migration. `token`: of this decision; `follows`: the token of the
    last one about the same group, None for the first. `at`: seconds since the epoch. A start has both sides."""

    change: Change
    group: str
    token: str
    follows: str | None
    at: float
    old: Side | None = None
    new: Side | None = None


def encode_decision(decision: Decision) -> bytes:
    return orjson.dumps({"format": FORMAT, **asdict(decision)})


def decode_decision(value: bytes | None) -> Decision:
    """Raises ValueError for what is no decision."""
    document = orjson.loads(value or b"null")
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a decision of format {FORMAT}")
    change, follows, at = document.get("change"), document.get("follows"), document.get("at")
    if change not in get_args(Change):
        raise ValueError(f"unknown change {change!r}")
    if not (follows is None or isinstance(follows, str)) or not isinstance(at, int | float):
        raise ValueError("'follows' must be a token or null, and 'at' a time")
    return Decision(
        change=cast("Change", change),
        group=_text(document, "group"),
        token=_text(document, "token"),
        follows=follows,
        at=float(at),
        old=_side(document.get("old")) if change == "start" else None,
        new=_side(document.get("new")) if change == "start" else None,
    )


def _side(document: Any) -> Side:
    if not isinstance(document, dict):
        raise ValueError("a side is missing")
    texts = {each.name: _text(document, each.name) for each in fields(Side) if each.name not in _STRUCTURED}
    settings, work = (_texts(document.get(name)) for name in ("settings", "work"))
    unset = document.get("unset")
    if not isinstance(unset, list):
        raise ValueError("'unset' must be a list")
    return Side(**texts, settings=settings, work=work, unset=tuple(map(str, unset)))


_STRUCTURED: Final = ("settings", "unset", "work")


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name!r} must be text")
    return value


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("settings must be an object")
    return {str(key): str(text) for key, text in value.items()}
