"""What a simulated worker runs with, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np

from streamer.core.vectors import Space
from streamer.embedding.chunking import typical_tokens
from streamer.embedding.contracts import Contract
from streamer.worker.batching import BatchPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds. Of the worker's processor, which does one thing at a time: `intake` and `output` for each event, `call`
    for each request. Of the provider: `answer` for a request, and `answer_token` more for each of its tokens. Of the
    broker: `publish` until it acknowledges."""

    intake: float = 0.0
    output: float = 0.0
    call: float = 0.0
    answer: float = 0.0
    answer_token: float = 0.0
    publish: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowModel:
    """What a worker runs with.

    `calls`: open at once. `max_in_flight`: events of a partition. `most_request_tokens`: the budget's. `remembers`:
    whether a text is found in the cache after it was embedded. `tokens_of`: what is billed for a text. `count_tokens`:
    the model's tokenizer, where the worker has it.
    """

    contract: Contract
    space: Space
    batch: BatchPolicy
    max_batches: int
    calls: int
    max_in_flight: int
    delays: Delays
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    items_per_minute: float | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    most_request_tokens: float = inf
    remembers: bool = True
    tokens_of: Callable[[str], int] = typical_tokens
    count_tokens: Callable[[Sequence[str]], Sequence[int]] | None = None


@dataclass(slots=True)
class Run:
    """What happened.

    `batches`: events of each. `requests`: texts and tokens of each; `request_times`: when each went out. `latencies`:
    seconds from arrival to acknowledgement. `hits`: events that cost nothing. `rejected`: texts that were too long.
    `processor_seconds`, `call_seconds`: in which the processor worked and calls were answered, all of them added up.
    `limit_seconds`: in which a call might have gone out but for the limits. `ended`: when the last event was done.
    """

    batches: list[int] = field(default_factory=list)
    requests: list[tuple[int, int]] = field(default_factory=list)
    request_times: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    hits: int = 0
    rejected: int = 0
    ended: float = 0.0
    processor_seconds: float = 0.0
    call_seconds: float = 0.0
    limit_seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.requests)


def percentile(values: Sequence[float], share: float) -> float:
    """0 for no values."""
    return float(np.quantile(np.asarray(values), share)) if values else 0.0
