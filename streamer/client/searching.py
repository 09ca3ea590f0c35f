"""Questions to an indexer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from streamer.core.vectors import Vector
from streamer.core.verdicts import Verdict, parse_verdict
from streamer.errors import StreamerError, Unreachable


@dataclass(frozen=True, slots=True)
class SearchMatch:
    """An event in the index and its cosine with the query; text and metadata if its vector event carries them."""

    id: str
    similarity: float
    text: str | None = None
    metadata: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The match in JSON's own types: fit for `json.dumps`."""
        return asdict(self)


class SearchClient:
    """Asks a running indexer, over HTTP. Use it as an async context manager.

    Raises StreamerError with the indexer's reason when it refuses a request, and Unreachable when no indexer answers.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", *, token: str | None = None, timeout: float = 30.0) -> None:
        """`token`: that of the indexer's `http.token`; `timeout`: seconds for one answer."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._url = url.rstrip("/")
        try:
            self._http = httpx.AsyncClient(base_url=self._url, headers=headers, timeout=timeout)
        except httpx.InvalidURL as exc:
            raise self._absence(exc) from exc

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def search(
        self,
        text: str | None = None,
        *,
        vector: Vector | None = None,
        id: str | None = None,
        k: int = 10,
        min_similarity: float | None = None,
        where: Mapping[str, str | float | bool | None] | None = None,
        space: str | None = None,
    ) -> list[SearchMatch]:
        """The `k` events nearest to a text, a vector or the event `id`: exactly one of the three. Best first.

        `min_similarity`: the least cosine; `where`: metadata that they must have. `space`: that of `vector`, so that an
        index of another space (after a change of the model) refuses it instead of comparing what cannot be compared.
        """
        body = {"text": text, "vector": vector, "id": id, "min_similarity": min_similarity, "where": where, "k": k}
        body |= {"space": space}
        answer = await self.ask("POST", "/v1/search", body)
        return [
            SearchMatch(match["id"], match["similarity"], match.get("text"), match.get("metadata"))
            for match in answer["matches"]
        ]

    async def vector(self, id: str) -> Vector:
        """The unit vector of the event `id`: float32, shape (dimensions,)."""
        answer = await self.ask("GET", f"/v1/vectors/{quote(id, safe='')}")
        return np.array(answer["vector"], np.float32)

    async def statistics(self) -> dict[str, Any]:
        """The indexer's counters and state, as `GET /v1/stats` returns them."""
        return await self.ask("GET", "/v1/stats")

    async def verdicts(self) -> AsyncIterator[Verdict]:
        """New verdicts as they are made, without Kafka; ends when the indexer stops.

        Verdicts that come faster than they are read are dropped. A VerdictConsumer reads all of them from the topic.
        """
        timeout = httpx.Timeout(30.0, read=60.0)  # the indexer sends a sign of life every 15 seconds
        try:
            async with self._http.stream("GET", "/v1/events", timeout=timeout) as response:
                if response.is_error:
                    await response.aread()
                    raise self._refusal(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        verdict = parse_verdict(line.removeprefix("data: ").encode())
                        if isinstance(verdict, Verdict):
                            yield verdict
        except httpx.HTTPError as exc:
            raise self._absence(exc) from exc

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The indexer's answer to any of its requests, as it came. What is None in `body` is left out."""
        given = None if body is None else {name: value for name, value in body.items() if value is not None}
        content = None if given is None else orjson.dumps(given, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            headers = None if content is None else {"content-type": "application/json"}
            response = await self._http.request(method, path, content=content, headers=headers)
            if response.is_error:
                raise self._refusal(response)
            answer = response.json()
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise self._absence(exc) from exc
        except (ValueError, RecursionError) as exc:
            raise self._stranger() from exc
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _absence(self, error: Exception) -> Unreachable:
        reason = str(error) or type(error).__name__
        return Unreachable(f"no indexer answers at {self._url} ({reason}); start one with: streamer index")

    def _stranger(self) -> Unreachable:
        return Unreachable(f"{self._url} is not a streamer indexer")

    def _refusal(self, response: httpx.Response) -> StreamerError:
        try:
            reason = response.json()["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            reason = response.reason_phrase
        return StreamerError(f"the indexer at {self._url} refused ({response.status_code}): {reason}")
