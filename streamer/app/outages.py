"""Outages in the log: a line when one begins, when its reason changes and when it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, TypeAlias

import anyio
import structlog

from streamer.core.outages import Outage
from streamer.http.role_state import utc
from streamer.telemetry.waiting import Waiting

log = structlog.get_logger(__name__)

LOOK_INTERVAL: Final = 0.25  # seconds: a state is asked in microseconds


State: TypeAlias = "str | Waiting | None"  # why a part is unavailable; None while it is well


async def watch_outages(states: Mapping[str, Callable[[], State]], settle: float = 1.0) -> NoReturn:
    """Runs beside a role for as long as it does. `states`: by part.

    These are the states that `/readyz` tells. An outage is told once it has lasted for `settle` seconds, with since
    when and, if that is known, until when.
    """
    outages = {part: Outage(settle) for part in states}
    while True:
        now = anyio.current_time()
        for part, state in states.items():
            waiting = _waiting(state())
            if transition := outages[part].observe(waiting.text if waiting else None, now):
                level, event, facts = transition.line(part)
                if waiting is not None:
                    facts["since"] = utc(waiting.since or time.time() - transition.seconds)
                    facts |= {"until": utc(waiting.until)} if waiting.until is not None else {}
                log.log(level, event, **facts)
        await anyio.sleep(LOOK_INTERVAL)


def _waiting(state: State) -> Waiting | None:
    return Waiting("consuming", state) if isinstance(state, str) else state
