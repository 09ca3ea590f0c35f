"""Sides and decisions for tests."""

from __future__ import annotations

from streamer.migration.decisions import Change, Decision, Side, encode_decision


def side(name: str, **changes: object) -> Side:
    """One whose names all tell its own."""
    values: dict[str, object] = {
        "provider": "onnx", "model": f"model-{name}", "space": f"space-{name}", "group": f"group-{name}",
        "vectors": f"vectors-{name}", "verdicts": f"verdicts-{name}", "dead_letters": f"dead-{name}",
    }  # fmt: skip
    return Side(**{**values, **changes})  # type: ignore[arg-type]


def decision(
    change: Change, token: str, follows: str | None, old: str = "a", new: str = "b", at: float = 1.0
) -> Decision:
    start = change == "start"
    return Decision(
        change=change, group=f"group-{old}", token=token, follows=follows, at=at, old=side(old) if start else None,
        new=side(new) if start else None,
    )  # fmt: skip


def record(change: Change, token: str, follows: str | None, old: str = "a", new: str = "b") -> bytes:
    return encode_decision(decision(change, token, follows, old, new))
