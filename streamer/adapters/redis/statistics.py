"""What the shared cache counts, for those who have no client of it installed, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RedisStatistics:
    """Entries stored, and why others were not, since the start."""

    stored_total: int = field(metadata={"help": "Entries written to the shared cache."})
    dropped_total: int = field(metadata={"help": "Entries not written because the shared cache was away or full."})
    damaged_total: int = field(metadata={"help": "Entries found damaged on reading and not used."})
    faults_total: int = field(metadata={"help": "Faults of the shared cache."})
    available: bool = field(metadata={"help": "Whether the shared cache can be reached now."})


@dataclass(frozen=True, slots=True)
class SharedContents:
    """What streamer keeps there. `bytes`: an estimate of the memory; `spaces`: entries by the id, provider and model of
    their space."""

    path: str
    bytes: int
    entries: int
    spaces: Mapping[str, int]
