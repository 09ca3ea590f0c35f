"""Whether a role is alive, whether it is ready, and its numbers: the same for the worker and the indexer."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from streamer.http.answers import json_response
from streamer.http.callers import AllowedHosts, Callers
from streamer.http.history import History
from streamer.http.limits import RequestLimit
from streamer.http.metrics import metrics_endpoint
from streamer.http.overview import overview_route
from streamer.http.pages import page_routes
from streamer.http.role_state import RoleState


class Observable(Protocol):
    """A running role. `statistics` is a dataclass, see `StatisticsCollector`."""

    def state(self) -> RoleState: ...

    def statistics(self) -> Any: ...


_ANONYMOUS: Final = "streamer.anonymous"
REASON_WITHHELD: Final = "not ready; the reason needs the header 'Authorization: Bearer <http.token>'"


def health_routes(
    role: str,
    state: Callable[[], RoleState],
    statistics: Sequence[Callable[[], Any]],
    *,
    build: Mapping[str, str] | None = None,
    status: Callable[[], Mapping[str, Any]] | None = None,
) -> list[Route]:
    """`/healthz` (the process answers), `/readyz` (503 and why until ready) and `/metrics` (`streamer_<role>_...`).

    `statistics`, `build`: see `metrics_endpoint`. `status`: what `/v1/status` answers.
    """

    async def healthz(_: Request) -> Response:
        return json_response({"alive": True})

    async def readyz(request: Request) -> Response:
        now = state()
        code = 200 if now.is_ready else 503
        if is_anonymous(request):
            return json_response({"ready": True} if now.is_ready else {"error": REASON_WITHHELD}, code)
        said = {"ready": True, "without": now.without} if now.is_ready else {"error": now.reason}
        return json_response({name: what for name, what in (said | now.conditions()).items() if what}, code)

    async def show_status(_: Request) -> Response:
        return json_response(status() if status else {})

    scrape = metrics_endpoint(f"streamer_{role}", statistics, build)

    async def metrics(request: Request) -> Response:
        return scrape(request)  # on the loop, where the numbers change: a scrape sees them between two steps

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
    return [*routes, Route("/v1/status", show_status)] if status else routes


def is_anonymous(request: Request) -> bool:
    """Whether a probe asks, without the token that there is: it is told a status and no reasons."""
    return bool(request.scope.get(_ANONYMOUS))


def create_health_app(
    role: str,
    observed: Observable,
    token: str | None = None,
    *,
    build: Mapping[str, str] | None = None,
    status: Callable[[], Mapping[str, Any]] | None = None,
    allowed: AllowedHosts | None = None,
    history: History | None = None,
    facts: Callable[[], Mapping[str, Any]] = dict,
) -> Starlette:
    """What a worker serves: its page, and for programs its overview, health and metrics. `history`, `facts`: as in
    overview_route."""
    page = [*page_routes("worker.html"), overview_route(role, observed.state, history or History(), facts)]
    routes = health_routes(role, observed.state, [observed.statistics], build=build, status=status)
    return create_app([*page, *routes], token, allowed=allowed)


def create_app(
    routes: Sequence[Route],
    token: str | None,
    exception_handlers: Mapping[Any, ExceptionHandler] | None = None,
    *,
    allowed: AllowedHosts | None = None,
) -> Starlette:
    """An application whose errors are JSON objects with an `error`; with a token, only probes are open to all.

    `allowed`: what the server may be called, by default what loopback is called. Raises ValueError for an empty token.
    """
    if token is not None and not token.strip():
        raise ValueError("an empty token would let everybody in")
    callers = Middleware(Callers, allowed=allowed or AllowedHosts("localhost"))
    secured = [Middleware(Token, token=token)] if token is not None else []
    return Starlette(
        routes=routes,
        middleware=[callers, Middleware(RequestLimit), *secured],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected, **(exception_handlers or {})},
    )


class Token:
    """Refuses requests without the token, except to `/healthz` and for the bare status of `/readyz`: the probes of a
    platform cannot read a token from where secrets are kept.

    `Authorization: Bearer <token>` is for programs. Browsers cannot send that by themselves, but they ask for a
    password: any user name will do, the token is the password (RFC 7617).
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/healthz":
            authorization = Headers(scope=scope).get("authorization", "")
            if scope["path"] == "/readyz" and not authorization:
                await self._app({**scope, _ANONYMOUS: True}, receive, send)
                return
            given = _given_token(authorization)
            # In constant time, or an attacker could find the token byte by byte.
            if not hmac.compare_digest(given, self._token):
                message = "this needs the header 'Authorization: Bearer <http.token>'"
                challenge = 'Bearer, Basic realm="streamer: any user, the token as password", charset="UTF-8"'
                await json_response({"error": message}, 401, {"www-authenticate": challenge})(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _given_token(authorization: str) -> bytes:
    """What a request gives as the token, which cannot be empty; empty when it gives none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return b""
    return b""


async def _http_error(_: Request, exc: Exception) -> Response:
    if not isinstance(exc, HTTPException):
        raise AssertionError("registered for HTTPException only. This is a bug.")
    return json_response({"error": exc.detail}, exc.status_code, exc.headers)


async def _unexpected(_: Request, __: Exception) -> Response:
    return json_response({"error": "unexpected error; the log of this process says more"}, 500)
