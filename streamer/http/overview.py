"""How a role is doing, in one answer: its state, its numbers and the last hour of them. Dashboards ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.errors import without_credentials
from streamer.http.answers import json_response
from streamer.http.history import History
from streamer.version import version


def overview_route(
    role: str,
    ready: Callable[[], str | None],
    degraded: Callable[[], str | None],
    history: History,
    facts: Callable[[], Mapping[str, Any]],
) -> Route:
    """`/v1/overview`. `facts`: what else there is to say, as JSON can hold it."""

    async def overview(request: Request) -> Response:
        since = _seconds(request.query_params.get("since", "0"))
        return json_response(
            {
                "role": role,
                "version": version(),
                "not_ready": _said(ready()),
                "without": _said(degraded()),
                "now": history.latest(),
                "history": history.since(since),
                **facts(),
            }
        )

    return Route("/v1/overview", overview)


def _said(reason: str | None) -> str | None:
    return None if reason is None else without_credentials(reason)


def _seconds(given: str) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds <= 1e12:
        raise HTTPException(400, "'since' must be a time in seconds since the epoch")
    return seconds
