"""OpenAI, Azure OpenAI, and every server that speaks the same API: vLLM, TEI, Infinity, LM Studio, llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from streamer.adapters.providers.connection import HttpConnection, checked_headers
from streamer.adapters.providers.http_errors import Vendor, rate_limit_headers
from streamer.adapters.providers.wire import count_at, matrix_of, parse, rows_in_order, well_formed
from streamer.core.vectors import Purpose, Space
from streamer.core.vendors import VENDORS
from streamer.errors import MissingExtra
from streamer.protocols import Answer

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI


class OpenAIProvider:
    """`POST /embeddings` through the official client, its own retries off.

    Without `base_url` the service is OpenAI's. With it, any compatible server (`http://host:8000/v1`), and the key is
    optional. With `azure_api_version`, `base_url` is an Azure resource (`https://name.openai.azure.com`): the key goes
    into `api-key` and the path names `azure_deployment` (default: the model).

    The request asks for the space's dimensions only with `request_dimensions`, for models that can shorten their
    vectors (text-embedding-3-*); others refuse the field. `encoding_format`: "float" for servers that refuse base64
    instead of ignoring it. The space's input types go into the field `input_type` that some compatible servers want. A
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
        encoding_format: Literal["base64", "float"] = "base64",
    ) -> None:
        self._space = space
        key = None
        if connection.base_url is None or azure_api_version is not None:
            key = connection.key("openai", VENDORS["openai"].key_variable)
        elif connection.api_key:
            key = connection.key("openai", "STREAMER_PROVIDER__API_KEY")
        extra = checked_headers(headers)
        # Long header values may be tokens of a gateway; short ones would redact half of every message.
        self._vendor = Vendor("openai", tuple(filter(None, (key, *(v for v in extra.values() if len(v) >= 8)))))
        self._timeout = connection.timeout_seconds
        self._dimensions = space.dimensions if request_dimensions else None
        self._encoding: Literal["base64", "float"] = encoding_format
        azure = (azure_api_version, azure_deployment or space.model) if azure_api_version is not None else None
        self._client = _client(key, connection, azure, extra)

    @property
    def space(self) -> Space:
        return self._space

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Answer:
        import openai

        input_type = self._space.document_input_type if purpose == "document" else self._space.query_input_type
        with self._vendor.answer_within(self._timeout):
            try:
                raw = await self._client.embeddings.with_raw_response.create(
                    model=self._space.model,
                    input=[well_formed(text) for text in texts],
                    encoding_format=self._encoding,
                    dimensions=openai.omit if self._dimensions is None else self._dimensions,
                    extra_body={"input_type": input_type} if input_type else None,
                )
            except openai.APIStatusError as exc:
                response = exc.response
                raise self._vendor.refusal(response.status_code, response.headers, response.content) from None
            except openai.APIConnectionError as exc:
                raise self._vendor.unreachable(exc.__cause__ or exc) from None
        # The body is read here and not by the client, whose models cost more than the decoding.
        with self._vendor.reading():
            answer = parse(raw.http_response.content)
            rows = rows_in_order(answer.get("data"), len(texts))
            vectors = matrix_of(rows, len(texts), self._space.dimensions)
        return Answer(
            vectors,
            billed_tokens=count_at(answer, "usage", "total_tokens"),
            headers=rate_limit_headers(raw.http_response.headers),
        )

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
    bounds = connection.bounds(httpx2)
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
