"""Cohere, second version of its API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from streamer.adapters.providers.answer_size import expect_answer
from streamer.adapters.providers.connection import HttpConnection, keep_response, kept_responses
from streamer.adapters.providers.http_errors import Vendor, rate_limit_headers
from streamer.adapters.providers.wire import count_at, matrix_of, parse
from streamer.core.reading import well_formed
from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import VENDORS
from streamer.errors import MissingExtra
from streamer.protocols import Answer

if TYPE_CHECKING:
    from cohere import AsyncClientV2


class CohereProvider:
    """`POST /v2/embed` through the official client, its own retries off.

    Vectors of another length than the model's own are asked for only with `request_dimensions`, which embed-v4
    understands. The space's input types are required by every model since v3. `truncate` is always said: "END" where
    the space says "truncate", else "NONE", which makes the service refuse a text beyond the context. The answer has no
    index: position decides.
    """

    def __init__(self, space: Space, connection: HttpConnection, *, request_dimensions: bool = False) -> None:
        self._space = space
        key = connection.key("cohere", VENDORS["cohere"].key_variable)
        self._vendor = Vendor("cohere", (key,))
        self._timeout = connection.timeout_seconds
        self._dimensions = space.dimensions if request_dimensions else None
        self._pool, self._client = _client(key, connection)

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError
        from cohere.v2.client import OMIT

        responses = kept_responses()
        expect_answer(texts, self._space.dimensions)
        with self._vendor.answer_within(self._timeout):
            try:
                await self._client.with_raw_response.embed(
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
            except (ParsingError, TypeError, ValueError, AttributeError, RecursionError):
                # The client fills its models unchecked and breaks on JSON of another shape in whatever way it happens.
                if not responses:
                    raise self._vendor.unusable("JSON of another shape") from None
        response = responses[-1]
        if not response.is_success:
            raise self._vendor.refusal(response.status_code, response.headers, response.content)
        with self._vendor.reading():
            answer = parse(response.content)
            embeddings = answer.get("embeddings")
            self._vendor.raise_wrapped(response.headers, answer, embeddings)
            if not isinstance(embeddings, dict):
                raise ValueError("no embeddings by type")
            vectors = matrix_of(embeddings.get("base64", embeddings.get("float")), len(texts), self._space.dimensions)
        return Answer(
            vectors,
            billed_tokens=count_at(answer, "meta", "billed_units", "input_tokens"),
            headers=rate_limit_headers(response.headers),
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


def _client(key: str, connection: HttpConnection) -> tuple[httpx.AsyncClient, AsyncClientV2]:
    try:
        import cohere
    except ImportError:
        raise MissingExtra("cohere", "cohere") from None
    url = connection.url("https://api.cohere.com")
    pool = httpx.AsyncClient(**connection.bounds(httpx, response=[keep_response]))
    return pool, cohere.AsyncClientV2(api_key=key, base_url=url, httpx_client=pool, max_retries=0)
