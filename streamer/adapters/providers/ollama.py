"""Ollama."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx

from streamer.adapters.providers.answer_size import expect_answer
from streamer.adapters.providers.answered_model import AnsweredModel
from streamer.adapters.providers.connection import HttpConnection, how_to_give_a_key, keep_response, kept_responses
from streamer.adapters.providers.http_errors import Vendor, rate_limit_headers
from streamer.adapters.providers.wire import count_at, matrix_of, parse
from streamer.core.reading import well_formed
from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import VENDORS
from streamer.errors import MissingExtra, RetriableError
from streamer.protocols import Answer

if TYPE_CHECKING:
    from ollama import AsyncClient


class OllamaProvider:
    """`POST /api/embed` through the official client, which neither retries nor, left alone, ever times out.

    Vectors of another length than the model's own are asked for only with `request_dimensions` (the server cuts and
    renormalises, and silently ignores more than the model has). `truncate` is always said, as its default cuts
    silently: it is on where the space says "truncate", else a text beyond the context is refused.

    A server that has not yet loaded the model, or has dropped it after `keep_alive`, takes minutes for the first
    answer: `load_timeout_seconds` holds until one has come, and again after a call that timed out.
    """

    def __init__(
        self,
        space: Space,
        connection: HttpConnection,
        *,
        request_dimensions: bool = False,
        keep_alive: float | str | None = None,
        load_timeout_seconds: float = 300.0,
    ) -> None:
        self._space = space
        key = connection.key("ollama", VENDORS["ollama"].key_variable) if connection.api_key else ""
        self._vendor = Vendor("ollama", (key,) if key else (), "" if key else how_to_give_a_key("ollama"))
        self._model = AnsweredModel("ollama")
        self._timeout = connection.timeout_seconds
        self._load_timeout = max(load_timeout_seconds, connection.timeout_seconds)
        self._loaded = False
        self._dimensions = space.dimensions if request_dimensions else None
        self._keep_alive = keep_alive
        self._client = _client(key, replace(connection, timeout_seconds=self._load_timeout))

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:  # noqa: ARG002  a prefix says the purpose
        import ollama

        # The client hands out neither the headers of an answer nor those of a refusal.
        responses = kept_responses()
        expect_answer(texts, self._space.dimensions)
        try:
            with self._vendor.answer_within(self._timeout if self._loaded else self._load_timeout):
                answer = await self._client.embed(
                    model=self._space.model,
                    input=[well_formed(text) for text in texts],
                    truncate=self._space.on_too_long == "truncate",
                    dimensions=self._dimensions,
                    keep_alive=self._keep_alive,
                )
        except RetriableError:
            self._loaded = False
            raise
        except ollama.ResponseError as exc:
            raise self._vendor.refusal(exc.status_code, responses[-1].headers, responses[-1].content) from None
        except (httpx.RequestError, ConnectionError) as exc:
            # The client says of every failure to connect that Ollama may not run, also of a certificate.
            raise self._vendor.unreachable(exc.__context__ or exc) from None
        except (ValueError, TypeError, AttributeError, RecursionError):
            # The client's model refuses the whole answer for one null in it; ours finds the one text that it concerns.
            if not responses:
                raise self._vendor.unusable("JSON of another shape") from None
            response = responses[-1]
            if not response.is_success:
                raise self._vendor.refusal(response.status_code, response.headers, response.content) from None
            with self._vendor.reading():
                body = parse(response.content)
            rows, billed, model = body.get("embeddings"), count_at(body, "prompt_eval_count"), body.get("model")
            self._vendor.raise_wrapped(response.headers, body, rows)
        else:
            rows, billed, model = answer.embeddings, answer.prompt_eval_count, answer.model
        self._loaded = True
        with self._vendor.reading():
            vectors = matrix_of(rows, len(texts), self._space.dimensions)
        headers = rate_limit_headers(responses[-1].headers)
        return Answer(vectors, billed_tokens=billed, headers=headers, model=self._model.same(model))

    async def aclose(self) -> None:
        await self._client.close()  # type: ignore[no-untyped-call]


async def _drop_key(request: httpx.Request) -> None:
    """The client would take the key of the environment, which this host was perhaps not meant to get."""
    request.headers.pop("authorization", None)


def _client(key: str, connection: HttpConnection) -> AsyncClient:
    try:
        import ollama
    except ImportError:
        raise MissingExtra("ollama", "ollama") from None
    return ollama.AsyncClient(
        host=None if connection.base_url is None else connection.url(),  # without one it reads OLLAMA_HOST
        headers={"authorization": f"Bearer {key}"} if key else {},
        **connection.bounds(httpx, request=[] if key else [_drop_key], response=[keep_response]),
    )
