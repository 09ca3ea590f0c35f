"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100  # hypothesis's own number
FEWEST = 5


def examples(count: int) -> int:
    """So many with `make test`; in proportion where the profile says otherwise: `make check` takes a tenth."""
    return max(min(count, FEWEST), count * settings().max_examples // USUAL)
