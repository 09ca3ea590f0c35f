"""What a bench found: figures of several runs, each beside a reference of the same run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One run. `cpu_us`: microseconds of a processor for one operation, None where that was not measured."""

    value: float
    cpu_us: float | None = None


@dataclass(slots=True)
class Figure:
    """A quantity and its reference, one sample of each for every run; `against` names the reference, if there is one.

    A unit that ends in `/s` is better the larger it is, every other one the smaller.
    """

    name: str
    unit: str
    against: str | None = None
    samples: list[Sample] = field(default_factory=list)
    reference: list[Sample] = field(default_factory=list)

    def add(self, sample: Sample, reference: Sample | None = None) -> None:
        """What one run gave."""
        self.samples.append(sample)
        if reference is not None:
            self.reference.append(reference)

    def document(self) -> dict[str, Any]:
        """Median, least and largest of the runs; the ratio of a run is its value divided by its reference."""
        document: dict[str, Any] = {"name": self.name, "unit": self.unit, **_spread(self.samples)}
        if self.against is None:
            return document | {"reference": None, "ratio": None}
        ratios = [Sample(own.value / max(other.value, 1e-12))
                  for own, other in zip(self.samples, self.reference, strict=True)]  # fmt: skip
        ratio = _spread(ratios)
        del ratio["cpu_us"]
        return document | {"reference": {"name": self.against, **_spread(self.reference)}, "ratio": ratio}


def _spread(samples: Sequence[Sample]) -> dict[str, Any]:
    values = [sample.value for sample in samples]
    costs = [sample.cpu_us for sample in samples if sample.cpu_us is not None]
    return {
        "median": rounded(median(values)),
        "low": rounded(min(values)),
        "high": rounded(max(values)),
        "cpu_us": rounded(median(costs)) if costs else None,
    }


def rounded(value: float) -> float:
    """To four significant digits: more than a run repeats."""
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that a share of them, 0 to 1, does not exceed. Raises ValueError without values."""
    if not values:
        raise ValueError("no values have no percentile")
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
