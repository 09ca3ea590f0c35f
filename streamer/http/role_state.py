"""The state of a role. Readiness, status and dashboards show this, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from streamer.errors import without_credentials
from streamer.telemetry.waiting import Held

Condition: TypeAlias = dict[str, str | None]


def utc(seconds: float | None) -> str | None:
    """A time in seconds since the epoch, for people and machines: RFC 3339."""
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleState:
    """`not_ready`: why, in a sentence, None when ready. `waits`: all that keeps work from flowing now; an indexer that
    waits may be ready, because it goes on answering searches. `degraded`: all that it does without."""

    not_ready: str | None
    waits: Sequence[Held] = ()
    degraded: Sequence[Held] = ()

    @property
    def is_ready(self) -> bool:
        return self.not_ready is None

    @property
    def reason(self) -> str | None:
        """`not_ready` for whoever asks over the network."""
        return None if self.not_ready is None else without_credentials(self.not_ready)

    @property
    def without(self) -> str | None:
        """What it does without though it is ready, in a sentence."""
        lacks = [*(self.waits if self.is_ready else ()), *self.degraded]
        return "; ".join(without_credentials(lack.text) for lack in lacks) or None

    def conditions(self) -> dict[str, list[Condition]]:
        """`waits` and `degraded` as JSON has them: `condition` of docs/schemas/status.schema.json."""
        return {"waits": _documents(self.waits), "degraded": _documents(self.degraded)}


def _documents(held: Iterable[Held]) -> list[Condition]:
    return [
        {
            "reason": one.reason,
            "text": without_credentials(one.text),
            "since": utc(one.since),
            "until": utc(one.until),
        }
        for one in held
    ]
