"""Voyage AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from streamer.adapters.providers.answer_size import expect_answer
from streamer.adapters.providers.answered_model import AnsweredModel
from streamer.adapters.providers.connection import HttpConnection
from streamer.adapters.providers.http_errors import Vendor, rate_limit_headers
from streamer.adapters.providers.wire import count_at, matrix_of, parse, rows_in_order
from streamer.core.reading import well_formed
from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import VENDORS
from streamer.protocols import Answer


class VoyageProvider:
    """`POST /v1/embeddings`, spoken directly: the vendor's package brings image libraries and hides 429s.

    Vectors of another length than the model's own are asked for only with `request_dimensions`. An input type makes the
    service prepend its own prompt; "" sends none. `truncation` is always said, as its default cuts silently: it is on
    where the space says "truncate", else a text beyond the context is refused.
    """

    def __init__(self, space: Space, connection: HttpConnection, *, request_dimensions: bool = False) -> None:
        self._space = space
        key = connection.key("voyage", VENDORS["voyage"].key_variable)
        self._vendor = Vendor("voyage", (key,))
        self._model = AnsweredModel("voyage")
        self._timeout = connection.timeout_seconds
        self._options: dict[str, Any] = {
            "model": space.model,
            "truncation": space.on_too_long == "truncate",
            "encoding_format": "base64",
            **({"output_dimension": space.dimensions} if request_dimensions else {}),
        }
        self._client = httpx.AsyncClient(
            base_url=connection.url("https://api.voyageai.com/v1"),
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            **connection.bounds(httpx),
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
        expect_answer(texts, self._space.dimensions)
        with self._vendor.answer_within(self._timeout):
            try:
                response = await self._client.post("/embeddings", content=orjson.dumps(request))
            except httpx.RequestError as exc:
                raise self._vendor.unreachable(exc) from None
        if not response.is_success:
            raise self._vendor.refusal(response.status_code, response.headers, response.content)
        with self._vendor.reading():
            answer = parse(response.content)
            self._vendor.raise_wrapped(response.headers, answer, answer.get("data"))
            model = self._model.same(answer.get("model"))
            rows = rows_in_order(answer.get("data"), len(texts))
            vectors = matrix_of(rows, len(texts), self._space.dimensions)
        return Answer(
            vectors,
            billed_tokens=count_at(answer, "usage", "total_tokens"),
            headers=rate_limit_headers(response.headers),
            model=model,
        )

    async def aclose(self) -> None:
        await self._client.aclose()
