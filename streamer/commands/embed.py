"""`streamer embed`: vectors without Kafka, to try a provider or to fill the cache."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import track

from streamer.app.embedder import open_embedding
from streamer.core.vectors import Purpose
from streamer.errors import ConfigurationError, StreamerError
from streamer.protocols import Embedding
from streamer.settings import Settings

CHUNK = 512


async def embed(settings: Settings, texts: list[str], path: Path | None, *, purpose: Purpose) -> None:
    """Print one JSON line a text. With the cache on, an interrupted run costs nothing twice."""
    if path:
        try:
            texts = texts + [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigurationError(f"{path} cannot be read: {exc}") from exc
    if not texts:
        raise ConfigurationError("nothing to embed; give texts as arguments or a file with one text a line (--file)")
    refused = 0
    async with open_embedding(settings) as stack:
        embedder = stack.embedder
        for chunk in _chunks(texts):
            results = await embedder.embed(chunk, purpose)
            for text, result in zip(chunk, results, strict=True):
                line: dict[str, Any] = {"text": text}
                if isinstance(result, Embedding):
                    line |= {
                        "vector": result.vector,
                        "model": embedder.space.model,
                        "space": embedder.space.id,
                    }
                    line |= {"tokens": result.tokens, "truncated": result.truncated, "cache_hit": result.cache_hit}
                else:
                    refused += 1
                    line |= {"error_kind": result.kind, "error": result.reason}
                sys.stdout.buffer.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        sys.stdout.buffer.flush()
    if refused:
        raise StreamerError(f"{refused} of {len(texts)} texts were refused; their lines carry an error")


def _chunks(texts: list[str]) -> Iterator[list[str]]:
    console = Console(stderr=True)
    hidden = not console.is_terminal or sys.stdout.isatty() or len(texts) <= CHUNK
    starts = range(0, len(texts), CHUNK)
    for start in track(starts, "embedding", console=console, disable=hidden, transient=True):
        yield texts[start : start + CHUNK]
