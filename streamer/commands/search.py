"""`streamer search`: ask a running indexer."""

from __future__ import annotations

import sys
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from streamer.errors import StreamerError, Unreachable
from streamer.settings import Settings


async def search(
    settings: Settings, text: str, *, url: str | None, k: int, min_similarity: float | None, as_json: bool
) -> None:
    """Print what is nearest to a text. Raises Unreachable when no indexer answers, StreamerError when it refuses."""
    base = (url or f"http://{settings.http.host}:{settings.http.port}").rstrip("/")
    token = settings.http.token
    headers = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    body: dict[str, Any] = {"text": text, "k": k}
    if min_similarity is not None:
        body["min_similarity"] = min_similarity
    try:
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            response = await client.post(f"{base}/v1/search", json=body)
            answer = response.json()
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unreachable(f"no indexer answers at {base} ({exc}); start one with: streamer index") from exc
    except ValueError as exc:
        raise Unreachable(f"what answers at {base} is not a streamer indexer") from exc
    if response.is_error:
        raise StreamerError(f"the indexer at {base} refused: {answer.get('error', response.reason_phrase)}")
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        return
    table = Table("similarity", "id", "text", box=None, pad_edge=False)
    for match in answer["matches"]:
        table.add_row(f"{match['similarity']:.3f}", match["id"], str(match.get("text") or ""))
    Console().print(table if answer["matches"] else "nothing found")
