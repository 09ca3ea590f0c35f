"""Voyage AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from streamer.adapters.providers.http_errors import (
    CONNECT_SECONDS,
    Vendor,
    checked_key,
    checked_url,
    rate_limit_headers,
)
from streamer.adapters.providers.wire import count_at, matrix_of, parse, rows_in_order, well_formed
from streamer.core.vectors import Purpose, Space
from streamer.protocols import Answer


class VoyageProvider:
    """`POST /v1/embeddings`, spoken directly: the vendor's package brings image libraries and hides 429s.

    `dimensions`: what the vectors have; asked for only with `request_dimensions`, for models that offer a choice. An
    input type makes the service prepend its own prompt; "" sends none. `truncation` is always said: its default cuts
    silently. It is on for `on_too_long="truncate"`, else a text beyond the context is refused.
    """

    def __init__(
        self,
        *,
        model: str,
        dimensions: int,
        api_key: str | None = None,
        base_url: str | None = None,
        request_dimensions: bool = False,
        document_input_type: str = "document",
        query_input_type: str = "query",
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
        max_tokens: int = 0,
        timeout_seconds: float = 60.0,
        max_connections: int = 8,
    ) -> None:
        self._space = Space(
            provider="voyage",
            model=model,
            dimensions=dimensions,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            document_input_type=document_input_type,
            query_input_type=query_input_type,
            on_too_long=on_too_long,
            max_tokens=max_tokens,
        )
        key = checked_key("voyage", api_key, "VOYAGE_API_KEY")
        self._vendor = Vendor("voyage", (key,))
        self._timeout = timeout_seconds
        self._options: dict[str, Any] = {
            "model": model,
            "truncation": on_too_long == "truncate",
            "encoding_format": "base64",
            **({"output_dimension": dimensions} if request_dimensions else {}),
        }
        self._client = httpx.AsyncClient(
            base_url=checked_url(base_url or "https://api.voyageai.com/v1"),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
        )

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        input_type = self._space.document_input_type if purpose == "document" else self._space.query_input_type
        request = {
            "input": [well_formed(text) for text in texts],
            "input_type": input_type or None,
            **self._options,
        }
        with self._vendor.answer_within(self._timeout):
            try:
                response = await self._client.post("/embeddings", content=orjson.dumps(request))
            except httpx.RequestError as exc:
                raise self._vendor.unreachable(exc) from None
        if response.status_code != 200:
            raise self._vendor.refusal(response.status_code, response.headers, response.content)
        with self._vendor.reading():
            answer = parse(response.content)
            rows = rows_in_order(answer.get("data"), len(texts))
            vectors = matrix_of(rows, len(texts), self._space.dimensions)
        return Answer(
            vectors,
            billed_tokens=count_at(answer, "usage", "total_tokens"),
            headers=rate_limit_headers(response.headers),
        )

    async def aclose(self) -> None:
        await self._client.aclose()
