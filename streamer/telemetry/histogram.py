"""How values are distributed: counts by upper bound, as Prometheus' histograms have them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# Upper bounds in seconds: of one step, and of the whole way of an event, which an outage makes long.
STEP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
WAY_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
PROBABILITIES: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A value, and the trace in which to look at it."""

    trace: str
    value: float
    at: float


@dataclass(slots=True)
class Histogram:
    """`counts`: values up to each of the `bounds` and beyond the one before; the last one counts those beyond all.

    It costs little enough for what every event has to be observed.
    """

    bounds: Sequence[float]
    counts: list[int] = field(init=False)
    sum: float = field(default=0.0, init=False)
    _exemplars: dict[int, Exemplar] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_all(self, values: Sequence[float]) -> None:
        """The same for each; for many it costs a tenth."""
        ordered, before = sorted(values), 0
        for place, bound in enumerate(self.bounds):
            upto = bisect_right(ordered, bound, before)
            self.counts[place] += upto - before
            before = upto
        self.counts[-1] += len(ordered) - before
        self.sum += sum(values)

    def mark(self, value: float, trace: str, at: float) -> None:
        """Name the trace of a value that has been observed. `at`: seconds since the epoch."""
        self._exemplars[bisect_left(self.bounds, value)] = Exemplar(trace, value, at)

    def exemplars(self) -> list[Exemplar | None]:
        """The last one that was named, for each of `counts`."""
        return [self._exemplars.get(place) for place in range(len(self.counts))]

    def quantile(self, q: float) -> float | None:
        """The upper bound below which a share `q` of the values lies, at least; infinite beyond the last bound. None
        without values."""
        wanted, seen = q * self.count, 0
        if not wanted:
            return None
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        raise AssertionError("the counts do not add up to their sum. This is a bug.")
