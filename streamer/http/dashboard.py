"""`GET /`: a page for people. It asks the same API as everyone else, and nothing outside of this server."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_PAGE: Final = Path(__file__).with_name("dashboard.html").read_bytes()
_SCRIPT: Final = _PAGE.partition(b"<script>")[2].partition(b"</script>")[0]
# Ids and texts come from whoever writes to the topic. The page never takes them for markup; were it to, still no script
# but its own would run, and nothing would leave for another server.
_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    f"script-src 'sha256-{b64encode(hashlib.sha256(_SCRIPT).digest()).decode()}'"
)


async def _dashboard(_: Request) -> Response:
    return Response(
        _PAGE,
        headers={"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache"},
        media_type="text/html",
    )


dashboard_route: Final = Route("/", _dashboard)
