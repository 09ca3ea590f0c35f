"""What an indexer is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from streamer.indexer.verdicts.judge import VerdictPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexerSettings:
    """`batch_events`: events judged in one go; a search waits only while they are written down. `max_held_back`: events
    kept aside while older ones of other partitions are still being read. `renewal_interval`: all offsets are committed
    anew that often, because brokers forget them, after a week by default. `drain_timeout`: for `stop`. In seconds."""

    verdict_topic: str = "verdicts"
    capacity: int = 100_000
    policy: VerdictPolicy = field(default_factory=VerdictPolicy)
    batch_events: int = 64
    max_unacknowledged_batches: int = 32
    max_held_back: int = 10_000
    poll_timeout: float = 0.5
    commit_interval: float = 1.0
    renewal_interval: float = 3600.0
    drain_timeout: float = 18.0
