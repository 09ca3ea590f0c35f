"""`GET /`: a page for people, and the files it is made of. It asks the same API as everyone else, and nothing outside
of this server."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER: Final = Path(__file__).with_name("page")
_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Ids and texts come from whoever writes to the topic. The page never takes them for markup; were it to try, the browser
# would refuse (trusted types). No script runs but these files, and nothing leaves for another server.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
FILES: Final = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES}


def page_routes(page: str) -> list[Route]:
    """`page`, one of FILES, at `/`, and below `/page/` what it loads."""

    async def front(request: Request) -> Response:
        return _answer(request, page)

    async def part(request: Request) -> Response:
        return _answer(request, request.path_params["name"])

    return [Route("/", front), Route("/page/{name}", part)]


def _answer(request: Request, name: str) -> Response:
    content = FILES.get(name)
    if content is None:
        return Response("there is no such file", 404, media_type="text/plain")
    tag = f'"{hashlib.blake2b(content, digest_size=9).hexdigest()}"'
    headers = {
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",  # asked for again each time, and answered with 304 while it is the same
        "etag": tag,
    }
    if request.headers.get("if-none-match") == tag:
        return Response(None, 304, headers)
    return Response(content, headers=headers, media_type=_TYPES[Path(name).suffix])
