"""Outages in the log: a line when one begins, when its reason changes and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn

import anyio
import structlog

from streamer.core.outages import Outage

log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = 0.25  # seconds: a state is asked in microseconds


async def watch_outages(states: Mapping[str, Callable[[], str | None]], settle: float = 1.0) -> NoReturn:
    """Runs beside a role for as long as it does. `states`: by part, why it is unavailable; None while it is well.

    These are the states that `/readyz` tells. An outage is told once it has lasted for `settle` seconds.
    """
    outages = {part: Outage(settle) for part in states}
    while True:
        now = anyio.current_time()
        for part, state in states.items():
            if transition := outages[part].observe(state(), now):
                level, event, facts = transition.line(part)
                log.log(level, event, **facts)
        await anyio.sleep(LOOK_INTERVAL)


def problems(states: Iterable[Callable[[], str | None]]) -> str | None:
    """Everything that is unavailable now, in one sentence for a person; None when all is well."""
    return "; ".join(reason for state in states if (reason := state())) or None
