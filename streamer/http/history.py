"""The last hour in numbers, for charts: samples at fixed steps, and rates from counters that only grow.

Pure: time is an argument. It knows nothing of what the numbers mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, TypeAlias

STEP: Final = 5.0  # seconds from one sample to the next
KEPT: Final = 3600.0
_DIGITS: Final = 5

Values: TypeAlias = Mapping[str, float | None]


class History:
    """Samples in order of time, in seconds since the epoch. Those older than `kept` seconds leave."""

    def __init__(self, step: float = STEP, kept: float = KEPT) -> None:
        self.step = step
        self._kept = kept
        self._samples: deque[tuple[float, Values]] = deque(maxlen=int(kept / step))

    def add(self, at: float, values: Values) -> None:
        """A sample that is not later than the last one, as after a clock was set back, begins anew."""
        if self._samples and at <= self._samples[-1][0]:
            self._samples.clear()
        self._samples.append((round(at, 1), {name: _short(value) for name, value in values.items()}))
        while self._samples[0][0] < at - self._kept:
            self._samples.popleft()

    def latest(self) -> Values:
        return self._samples[-1][1] if self._samples else {}

    def since(self, at: float) -> dict[str, Any]:
        """The samples after `at`: their times, and for each name its values, None where a sample has none."""
        samples = [sample for sample in self._samples if sample[0] > at]
        names = dict.fromkeys(name for _, values in samples for name in values)
        return {
            "step": self.step,
            "at": [when for when, _ in samples],
            "series": {name: [values.get(name) for _, values in samples] for name in names},
        }

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return self.since(float("-inf"))

    def resume(self, state: Mapping[str, Any]) -> None:
        """What an earlier one held comes before what is held here. Raises ValueError for what is no such state."""
        newer = list(self._samples)
        try:
            times = [float(at) for at in state["at"]]
            older = [
                (at, {str(name): _number(values[i]) for name, values in state["series"].items()})
                for i, at in enumerate(times)
            ]
        except (KeyError, IndexError, TypeError, AttributeError) as exc:
            raise ValueError(f"not a history: {exc!r}") from exc
        self._samples.clear()
        for at, values in [*older, *newer]:
            self.add(at, values)


class Rates:
    """Differences of counters from one look to the next."""

    def __init__(self) -> None:
        self._last: tuple[float, Mapping[str, float]] | None = None

    def per_second(self, now: float, totals: Mapping[str, float]) -> dict[str, float | None]:
        """None at the first look, and for a counter that is new or has fallen, as after a restart."""
        last, self._last = self._last, (now, dict(totals))
        if last is None or now <= last[0]:
            return dict.fromkeys(totals)
        seconds, before = now - last[0], last[1]
        return {
            name: (total - before[name]) / seconds if name in before and total >= before[name] else None
            for name, total in totals.items()
        }


def share(part: float | None, others: Sequence[float | None]) -> float | None:
    """What share of the whole `part` is; None where nothing was counted."""
    known = [value for value in [part, *others] if value is not None]
    return (part or 0.0) / sum(known) if known and sum(known) > 0 else None


def _short(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(f"{value:.{_DIGITS}g}")


def _number(value: Any) -> float | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise TypeError(f"{value!r} is no number")
    return value
