"""`streamer search`: ask a running indexer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.client.searching import SearchClient
from streamer.commands.terminal import one_line
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
        statistics = {} if answer["matches"] or as_json else await index.statistics()
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
        return
    if not answer["matches"]:
        print(why_nothing(statistics, min_similarity))  # noqa: T201 - the command's output
        return
    table = Table("similarity", "id", "text", box=None, pad_edge=False)
    for match in answer["matches"]:
        # As Text, or brackets in them would be markup.
        table.add_row(
            f"{match['similarity']:.3f}", Text(one_line(match["id"])), Text(one_line(match.get("text") or ""))
        )
    Console().print(table)
    if not any(match.get("text") for match in answer["matches"]):
        hint = "no texts: the worker of these vectors ran with output.include_text = false"
        print(hint, file=sys.stderr)  # noqa: T201


def why_nothing(statistics: Mapping[str, Any], min_similarity: float | None) -> str:
    """Why a search found nothing, from the indexer's statistics."""
    total, left = statistics.get("restore_records", 0), statistics.get("restore_remaining", 0)
    if not statistics.get("ready", True):
        return f"nothing found yet: the index is restoring, {total - left:,} of {total:,} records read"
    vectors = statistics.get("vectors", 0)
    if not vectors:
        return "nothing found: the index is empty (0 vectors); does a worker run, and are there texts in its topic?"
    if min_similarity is not None:
        return f"nothing found: none of the {vectors:,} vectors has a similarity of {min_similarity:g} or more"
    return f"nothing found among {vectors:,} vectors"
