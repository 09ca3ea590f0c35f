"""OpenAI, Azure OpenAI, and every server that speaks the same API: vLLM, TEI, Infinity, LM Studio, llama.cpp."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import structlog

from streamer.adapters.providers.answer_size import expect_answer
from streamer.adapters.providers.answered_model import AnsweredModel
from streamer.adapters.providers.connection import HttpConnection, checked_headers, how_to_give_a_key
from streamer.adapters.providers.http_errors import Vendor, rate_limit_headers
from streamer.adapters.providers.refusals import is_about_encoding, stated
from streamer.adapters.providers.wire import count_at, matrix_of, parse, rows_in_order
from streamer.core.reading import well_formed
from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import AZURE_KEY_VARIABLE, VENDORS
from streamer.errors import MissingExtra
from streamer.protocols import Answer

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

Encoding: TypeAlias = Literal["base64", "float", "none"]
_NEXT_ENCODING: Mapping[Encoding, Encoding] = {"base64": "float", "float": "none"}

log = structlog.get_logger("streamer.provider")


class OpenAIProvider:
    """`POST /embeddings` through the official client, its own retries off.

    Without `base_url` the service is OpenAI's. With it, any compatible server (`http://host:8000/v1`), and the key is
    optional. With `azure_api_version`, `base_url` is an Azure resource (`https://name.openai.azure.com`): the key goes
    into `api-key` and the path names `azure_deployment` (default: the model).

    The request asks for the space's dimensions only with `request_dimensions`, for models that can shorten their
    vectors (text-embedding-3-*); others refuse the field. `encoding_format`: "float" for servers that refuse base64
    instead of ignoring it, "none" for those that refuse the field; a refused one is replaced by the next, which costs
    one request. The space's input types go into the field `input_type` that some compatible servers want. A
    text beyond the context is refused by the service, never cut.
    """

    def __init__(
        self,
        space: Space,
        connection: HttpConnection,
        *,
        azure_api_version: str | None = None,
        azure_deployment: str | None = None,
        headers: Mapping[str, str] | None = None,
        request_dimensions: bool = False,
        encoding_format: Encoding = "base64",
    ) -> None:
        self._space = space
        key = None
        is_own = connection.is_of("openai")
        if azure_api_version is not None:
            key = replace(connection, base_url=None).key("openai on Azure", AZURE_KEY_VARIABLE)
        elif is_own:
            key = connection.key("openai", VENDORS["openai"].key_variable)
        elif connection.api_key:
            key = connection.key("openai", "STREAMER_PROVIDER__API_KEY")
        extra = checked_headers(headers)
        # Long header values may be tokens of a gateway; short ones would redact half of every message.
        secrets = filter(None, (key, *(value for value in extra.values() if len(value) >= 8)))
        self._vendor = Vendor("openai", tuple(secrets), "" if key else how_to_give_a_key("openai"))
        self._timeout = connection.timeout_seconds
        self._dimensions = space.dimensions if request_dimensions else None
        self._encoding: Encoding = encoding_format
        self._model = AnsweredModel("openai")
        azure = (azure_api_version, azure_deployment or space.model) if azure_api_version is not None else None
        self._client = _client(key, connection, azure, extra)

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        input_type = self._space.document_input_type if purpose == "document" else self._space.query_input_type
        body: dict[str, Any] = {"model": self._space.model, "input": [well_formed(text) for text in texts]}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        if input_type:
            body["input_type"] = input_type
        expect_answer(texts, self._space.dimensions)
        with self._vendor.answer_within(self._timeout):
            response = await self._ask(body)
        # The body is read here and not by the client, whose models cost more than the decoding.
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

    async def _ask(self, body: dict[str, Any]) -> httpx2.Response:
        """Ask once, and again where it is only the encoding that the server does not want: the vectors are the same."""
        import openai

        encoding = self._encoding
        while True:
            try:
                # Not `embeddings.create`, which asks for base64 where it is to ask for nothing.
                raw: Any = await self._client.post(
                    "/embeddings",
                    body=body | ({} if encoding == "none" else {"encoding_format": encoding}),
                    cast_to=object,
                    options={"headers": {"X-Stainless-Raw-Response": "true"}},
                )
            except openai.APIStatusError as exc:
                response = exc.response
                other = _NEXT_ENCODING.get(encoding)
                if (
                    other is None
                    or response.status_code not in (400, 422)
                    or not is_about_encoding(stated(response.content))
                ):
                    raise self._vendor.refusal(response.status_code, response.headers, response.content) from None
                encoding = other
            except openai.APIConnectionError as exc:
                raise self._vendor.unreachable(exc.__cause__ or exc) from None
            else:
                if encoding != self._encoding:
                    log.info(
                        "the server refuses this encoding of vectors; another is used, the vectors are the same",
                        refused=self._encoding,
                        used=encoding,
                        remedy=f'set provider.encoding_format = "{encoding}"',
                    )
                    self._encoding = encoding
                found: httpx2.Response = raw.http_response
                return found

    async def aclose(self) -> None:
        await self._client.close()


def _client(
    key: str | None, connection: HttpConnection, azure: tuple[str, str] | None, headers: dict[str, str]
) -> AsyncOpenAI:
    """`azure`: version of the API and name of the deployment, where it is Azure's."""
    try:
        import httpx2
        import openai
    except ImportError:
        raise MissingExtra("openai", "openai") from None
    url = None if connection.base_url is None else connection.url()
    ambient = () if connection.is_of("openai") else _ambient_headers().difference(name.lower() for name in headers)

    async def leave_out(request: httpx2.Request) -> None:
        """What the client reads from the environment beside the key is for OpenAI's own service as well."""
        for name in ambient:
            request.headers.pop(name, None)
        if "authorization" in ambient and azure is None:
            request.headers["authorization"] = f"Bearer {key or 'none'}"

    bounds = connection.bounds(httpx2, request=[leave_out])
    pool: httpx2.AsyncClient = httpx2.AsyncClient(**bounds)
    common: dict[str, Any] = {
        "default_headers": headers, "http_client": pool, "timeout": bounds["timeout"], "max_retries": 0
    }  # fmt: skip
    if azure is not None:
        version, deployment = azure
        return openai.AsyncAzureOpenAI(
            azure_endpoint=url or "", azure_deployment=deployment, api_version=version, api_key=key, **common
        )
    # A server without keys ignores the word. None would make the client send it the key of OPENAI_API_KEY.
    return openai.AsyncOpenAI(api_key=key or "none", base_url=url, **common)


def _ambient_headers() -> set[str]:
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    return {"openai-organization", "openai-project", *(line.partition(":")[0].strip().lower() for line in lines)} - {""}
