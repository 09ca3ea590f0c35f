"""The latest verdicts with their texts, and the map: what the dashboard shows, and any program may ask for."""

from __future__ import annotations

from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.core.verdicts import VerdictKind
from streamer.http.answers import json_response
from streamer.indexer.recent import KINDS
from streamer.indexer.showcase import Showcase

LARGEST_LIMIT: Final = 200
DEFAULT_LIMIT: Final = 50


def showcase_routes(showcase: Showcase, space: str) -> list[Route]:
    async def recent(request: Request) -> Response:
        after = _number(request, "after", 0, 1 << 53)
        limit = _number(request, "limit", DEFAULT_LIMIT, LARGEST_LIMIT)
        kinds: list[VerdictKind] = [kind for kind in KINDS if kind in request.query_params.getlist("kind")]
        unknown = set(request.query_params.getlist("kind")) - set(KINDS)
        if unknown:
            raise HTTPException(400, f"unknown kind {min(unknown)[:50]!r}; known are {', '.join(KINDS)}")
        found, texts = await showcase.verdicts(after, kinds or KINDS, limit)
        return json_response(
            {
                "space": space,
                "latest": showcase.recent.latest,
                "verdicts": [{"number": each.number, "at": each.at, **each.verdict.to_dict()} for each in found],
                "texts": texts,
            }
        )

    async def stream_map(_: Request) -> Response:
        drawn = await showcase.map()
        return json_response({"space": space, "share": round(drawn.share, 4), "points": drawn.points})

    return [Route("/v1/recent", recent), Route("/v1/map", stream_map)]


def _number(request: Request, name: str, default: int, largest: int) -> int:
    given: Any = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and int(given[:20]) <= largest):
        raise HTTPException(400, f"{name!r} must be a whole number from 0 to {largest}")
    return int(given)
