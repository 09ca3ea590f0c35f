"""How a role is doing, in one answer: its state, its numbers and the last hour of them. Dashboards ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.http.answers import json_response
from streamer.http.history import History
from streamer.http.role_state import RoleState
from streamer.version import version


def overview_route(
    role: str, state: Callable[[], RoleState], history: History, facts: Callable[[], Mapping[str, Any]]
) -> Route:
    """`/v1/overview`. `facts`: what else there is to say, as JSON can hold it."""

    async def overview(request: Request) -> Response:
        since = _seconds(request.query_params.get("since", "0"))
        now = state()
        return json_response(
            {
                "role": role,
                "version": version(),
                "not_ready": now.reason,
                "without": now.without,
                **now.conditions(),
                "now": history.latest(),
                "history": history.since(since),
                **facts(),
            }
        )

    return Route("/v1/overview", overview)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds <= 1e12:
        raise HTTPException(400, "'since' must be a time in seconds since the epoch")
    return seconds
