"""Cohere, second version of its API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from streamer.adapters.providers.http_errors import (
    CONNECT_SECONDS,
    Vendor,
    checked_key,
    checked_url,
    rate_limit_headers,
)
from streamer.adapters.providers.wire import count_at, matrix_of, parse, well_formed
from streamer.core.vectors import Purpose, Space
from streamer.errors import MissingExtra
from streamer.protocols import Answer

if TYPE_CHECKING:
    from cohere import AsyncClientV2


class CohereProvider:
    """`POST /v2/embed` through the official client, its own retries off.

    `dimensions`: what the vectors have; asked for only with `request_dimensions`, which embed-v4 understands. The input
    types are required by every model since v3. `truncate` is always said: "END" for `on_too_long="truncate"`, else
    "NONE", which makes the service refuse a text beyond the context. The answer has no index: position decides.
    """

    def __init__(
        self,
        *,
        model: str,
        dimensions: int,
        api_key: str | None = None,
        base_url: str | None = None,
        request_dimensions: bool = False,
        document_input_type: str = "search_document",
        query_input_type: str = "search_query",
        document_prefix: str = "",
        query_prefix: str = "",
        on_too_long: str = "truncate",
        max_tokens: int = 0,
        timeout_seconds: float = 60.0,
        max_connections: int = 8,
    ) -> None:
        self._space = Space(
            provider="cohere",
            model=model,
            dimensions=dimensions,
            document_prefix=document_prefix,
            query_prefix=query_prefix,
            document_input_type=document_input_type,
            query_input_type=query_input_type,
            on_too_long=on_too_long,
            max_tokens=max_tokens,
        )
        key = checked_key("cohere", api_key, "COHERE_API_KEY")
        self._vendor = Vendor("cohere", (key,))
        self._timeout = timeout_seconds
        self._dimensions = dimensions if request_dimensions else None
        self._pool, self._client = _client(key, base_url, timeout_seconds, max_connections)

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError
        from cohere.v2.client import OMIT

        with self._vendor.answer_within(self._timeout):
            try:
                raw = await self._client.with_raw_response.embed(
                    model=self._space.model,
                    input_type=self._space.document_input_type
                    if purpose == "document"
                    else self._space.query_input_type,
                    texts=[well_formed(text) for text in texts],
                    embedding_types=["base64"],
                    truncate="END" if self._space.on_too_long == "truncate" else "NONE",
                    output_dimension=OMIT if self._dimensions is None else self._dimensions,
                )
            except ApiError as exc:
                status = exc.status_code or 500
                if status < 300:
                    raise self._vendor.unusable("not JSON") from None
                raise self._vendor.refusal(status, exc.headers or {}, exc.body) from None
            except httpx.RequestError as exc:
                raise self._vendor.unreachable(exc) from None
            except (ParsingError, TypeError, ValueError, AttributeError):
                # The client fills its models unchecked and breaks on JSON of another shape in whatever way it happens.
                raise self._vendor.unusable("JSON of another shape") from None
        with self._vendor.reading():
            answer = parse(raw.response.content)
            embeddings = answer.get("embeddings")
            if not isinstance(embeddings, dict):
                raise ValueError("no embeddings by type")
            vectors = matrix_of(embeddings.get("base64", embeddings.get("float")), len(texts), self._space.dimensions)
        return Answer(
            vectors,
            billed_tokens=count_at(answer, "meta", "billed_units", "input_tokens"),
            headers=rate_limit_headers(raw.headers),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


def _client(
    key: str, base_url: str | None, timeout_seconds: float, max_connections: int
) -> tuple[httpx.AsyncClient, AsyncClientV2]:
    try:
        import cohere
    except ImportError:
        raise MissingExtra("cohere", "cohere") from None
    pool = httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds)),
        limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
    )
    url = checked_url(base_url or "https://api.cohere.com")
    return pool, cohere.AsyncClientV2(api_key=key, base_url=url, httpx_client=pool, max_retries=0)
