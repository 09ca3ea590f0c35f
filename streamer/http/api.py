"""The indexer's HTTP interface: search by text, vector or id, look at a vector, see how it is doing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, Protocol

from anyio import move_on_after
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from streamer.core.vectors import Space, Vector
from streamer.core.verdicts import Match
from streamer.errors import SpaceMismatch, StreamerError, Unreachable, without_credentials
from streamer.http.answers import json_response
from streamer.http.callers import AllowedHosts, is_json
from streamer.http.health import create_app, health_routes
from streamer.http.history import History
from streamer.http.limits import BODY_SECONDS
from streamer.http.live import live_endpoint
from streamer.http.openapi import openapi_document
from streamer.http.overview import overview_route
from streamer.http.pages import page_routes
from streamer.http.role_state import RoleState
from streamer.http.search_request import SearchRequest, parse_search
from streamer.http.showcase import showcase_routes
from streamer.indexer.broadcast import Broadcast
from streamer.indexer.index.payloads import Scalar
from streamer.indexer.showcase import Showcase
from streamer.protocols import Embedder, Rejection

LARGEST_BODY: Final = 1 << 20  # bytes; a vector of 3,072 dimensions, written with all digits, has 70,000


class SearchableIndex(Protocol):
    """What the API asks of an indexer. `ready`: None when it is, else why not. `statistics`: see
    StatisticsCollector."""

    def ready(self) -> str | None: ...

    def statistics(self) -> Any: ...

    @property
    def space(self) -> Space: ...

    @property
    def live(self) -> Broadcast: ...

    @property
    def showcase(self) -> Showcase: ...

    async def search(
        self,
        vector: Vector,
        k: int,
        min_similarity: float | None = None,
        *,
        exclude: Collection[str] = (),
        where: Mapping[str, Scalar] | None = None,
    ) -> Sequence[Match]: ...

    async def get(self, id: str) -> Vector | None: ...


def create_api(
    index: SearchableIndex,
    embedder: Embedder | None,
    *,
    token: str | None = None,
    embed_timeout: float = 30.0,
    state: Callable[[], RoleState] | None = None,
    allowed: AllowedHosts | None = None,
    history: History | None = None,
    facts: Callable[[], Mapping[str, Any]] = dict,
    more: Callable[[], Any] | None = None,
    build: Mapping[str, str] | None = None,
    status: Callable[[], Mapping[str, Any]] | None = None,
) -> Starlette:
    """The application. Without an embedder, searches by text are refused.

    `embed_timeout`: seconds that a search by text may wait for its vector; embedders sit out outages. `state`: of the
    role, by default whether the index is ready. `allowed`: as in create_app. `more`, `build`,
    `status`: as in health_routes. `history`, `facts`: as in overview_route.

    Raises SpaceMismatch when the embedder's vectors cannot be compared with those of the index.
    """
    if embedder is not None and embedder.space != index.space:
        raise SpaceMismatch(
            f"texts would be embedded in space {embedder.space.id} (model {embedder.space.model}), "
            f"but the index is of space {index.space.id} (model {index.space.model})"
        )

    now = state or (lambda: RoleState(not_ready=index.ready()))

    async def search(request: Request) -> Response:
        given = request.headers.get("content-type", "")
        if not is_json(given):
            raise HTTPException(415, f"send 'content-type: application/json', not {given[:100]!r}")
        try:
            wanted = parse_search(await _read_body(request), index.space.dimensions, index.space.id)
        except SpaceMismatch as exc:
            raise HTTPException(409, str(exc)) from None
        except ValueError as exc:
            raise HTTPException(400, str(exc)) from None
        vector = await query_vector(wanted)
        exclude = () if wanted.id is None else (wanted.id,)
        found = await index.search(vector, wanted.k, wanted.min_similarity, exclude=exclude, where=wanted.where)
        return json_response({"space": index.space.id, "matches": [_described(match) for match in found]})

    async def query_vector(wanted: SearchRequest) -> Vector:
        if wanted.vector is not None:
            return wanted.vector
        if wanted.id is not None:
            return await stored_vector(wanted.id)
        if wanted.text is None:
            raise AssertionError("a request without text, vector and id passed its check. This is a bug.")
        return await embedded(wanted.text)

    async def embedded(text: str) -> Vector:
        if embedder is None:
            raise HTTPException(400, "'text' cannot be searched: this index runs without a provider; send a 'vector'")
        try:
            with move_on_after(embed_timeout):
                (outcome,) = await embedder.embed([text], "query")
                if isinstance(outcome, Rejection):
                    raise HTTPException(422, f"'text' has no vector: {outcome.reason}")
                return outcome.vector
        except StreamerError as exc:
            raise HTTPException(503, f"the provider does not embed: {without_credentials(str(exc))}") from exc
        raise HTTPException(503, f"the provider did not answer within {embed_timeout:g} seconds")

    async def stored_vector(id: str) -> Vector:
        vector = await index.get(id)
        if vector is None:
            raise HTTPException(404, f"no vector of id {id!r} is known")
        return vector

    async def show_vector(request: Request) -> Response:
        id = request.path_params["id"]
        vector = await stored_vector(id)
        return json_response(
            {"id": id, "space": index.space.id, "dimensions": index.space.dimensions, "vector": vector}
        )

    async def stats(_: Request) -> Response:
        numbers = index.statistics()
        shown = {field.name: getattr(numbers, field.name) for field in fields(numbers)}
        return json_response({**shown, "verdicts_total": numbers.verdicts()})

    document = openapi_document(index.space.dimensions, secured=token is not None, has_status=status is not None)

    async def openapi(_: Request) -> Response:
        return json_response(document)

    routes = [
        *page_routes("index.html"),
        overview_route("indexer", now, history or History(), facts),
        *showcase_routes(index.showcase, index.space.id),
        Route("/v1/search", search, methods=["POST"]),
        Route("/v1/vectors/{id:any}", show_vector),
        Route("/v1/stats", stats),
        Route("/v1/events", live_endpoint(index.live)),
        Route("/openapi.json", openapi),
        *health_routes("indexer", now, [index.statistics, *([more] if more else [])], build=build, status=status),
    ]
    return create_app(routes, token, {ClientDisconnect: _gone, Unreachable: _away}, allowed=allowed)


class _AnyText(Convertor[str]):
    """Ids may contain slashes, as in `{id:path}`, and newlines, which that one does not match."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())


def _described(match: Match) -> dict[str, Any]:
    """Text and metadata are there when the worker sends them along."""
    known = {"text": match.payload.text, "metadata": match.payload.metadata} if match.payload else {}
    return {
        "id": match.id,
        "similarity": match.similarity,
        **{name: value for name, value in known.items() if value is not None},
    }


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    with move_on_after(BODY_SECONDS):
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise HTTPException(413, f"the body is larger than {LARGEST_BODY:,} bytes")
        return bytes(body)
    raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} seconds")


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _away(_: Request, exc: Exception) -> Response:
    return json_response({"error": f"the index does not answer: {without_credentials(str(exc))}"}, 503)
