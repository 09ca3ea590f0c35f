"""`streamer search`: ask a running indexer."""

from __future__ import annotations

import sys

import orjson
from rich.console import Console
from rich.table import Table

from streamer.client.searching import SearchClient
from streamer.settings import Settings


async def search(
    settings: Settings, text: str, *, url: str | None, k: int, min_similarity: float | None, as_json: bool
) -> None:
    """Print what is nearest to a text. Raises Unreachable when no indexer answers, StreamerError when it refuses."""
    token = settings.http.token
    async with SearchClient(
        url or f"http://{settings.http.host}:{settings.http.port}", token=token.get_secret_value() if token else None
    ) as index:
        answer = await index.ask("POST", "/v1/search", {"text": text, "k": k, "min_similarity": min_similarity})
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        return
    table = Table("similarity", "id", "text", box=None, pad_edge=False)
    for match in answer["matches"]:
        table.add_row(f"{match['similarity']:.3f}", match["id"], str(match.get("text") or ""))
    Console().print(table if answer["matches"] else "nothing found")
