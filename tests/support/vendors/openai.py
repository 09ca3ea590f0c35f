"""OpenAI's embeddings endpoint, and Azure's way of offering it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import orjson

from streamer.core.vectors import Matrix
from tests.support.vendors.bodies import dumps, entry
from tests.support.vendors.misbehaviour import Fault, Row
from tests.support.vendors.server import FakeVendor, Refused, Reply, Request
from tests.support.vendors.vectors import count_tokens, vector_for


@dataclass(frozen=True, slots=True)
class Model:
    dimensions: int
    can_shorten: bool = False


MODELS = {
    "text-embedding-3-large": Model(3072, can_shorten=True),
    "text-embedding-3-small": Model(1536, can_shorten=True),
    "text-embedding-ada-002": Model(1536),
}
MOST_TEXTS = 2048
MOST_TOKENS = 8192
MOST_TOKENS_PER_REQUEST = 300_000
FIELDS = ("input", "model", "encoding_format", "dimensions", "user")


class FakeOpenAI(FakeVendor):
    """`base_url` is what a client is configured with. `more_fields`: what a compatible server understands besides."""

    more_fields: tuple[str, ...] = ()

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def expected(
        self, texts: list[str], model: str = "text-embedding-3-small", dimensions: int | None = None
    ) -> Matrix:
        """The vectors of these texts."""
        native = MODELS[model].dimensions
        return np.stack([vector_for(text, native, dimensions=dimensions) for text in texts])

    def authorise(self, request: Request) -> None:
        self.expect(request, "POST", "/v1/embeddings")
        self.expect_bearer(
            request,
            f"Incorrect API key provided: {_masked(request.headers.get('authorization', ''))}.",
            "invalid_api_key",
        )

    def answer(self, request: Request, fault: Fault) -> Reply:
        self.authorise(request)
        body = request.json
        self.expect_fields(body, FIELDS + self.more_fields, ("input", "model"))
        model = MODELS.get(body["model"])
        if model is None:
            raise Refused(
                404, f"The model `{body['model']}` does not exist or you lack access to it.", "model_not_found"
            )
        if "dimensions" in body and not model.can_shorten:
            raise Refused(400, "This model does not support specifying dimensions.")
        dimensions = body.get("dimensions", model.dimensions)
        if not isinstance(dimensions, int) or not 1 <= dimensions <= model.dimensions:
            raise Refused(400, f"Invalid value for 'dimensions' = {dimensions}. Must be at most {model.dimensions}.")
        if body.get("encoding_format", "float") not in ("float", "base64"):
            raise Refused(400, "Invalid value for 'encoding_format'.")
        texts = self.expect_texts(body["input"], MOST_TEXTS)
        if "" in texts:
            raise Refused(400, "'$.input' is invalid. An input cannot be an empty string.")
        tokens = [count_tokens(text) for text in texts]
        if max(tokens) > MOST_TOKENS:
            raise Refused(
                400,
                f"This model's maximum context length is {MOST_TOKENS} tokens, however you requested {max(tokens)}.",
            )
        total = sum(tokens)
        if total > MOST_TOKENS_PER_REQUEST:
            raise Refused(
                400,
                f"Requested {total} tokens, max {MOST_TOKENS_PER_REQUEST} tokens per request",
                "max_tokens_per_request",
            )
        left = self.meter(len(texts), total)
        rows: list[Row] = [
            (i, vector_for(text, model.dimensions, dimensions=dimensions)) for i, text in enumerate(texts)
        ]
        as_base64 = body.get("encoding_format") == "base64"
        data = [entry(row, as_base64, fault) for row in (fault.rows(rows) if fault.rows else rows)]
        answer = {
            "object": "list",
            "data": data,
            "model": body["model"],
            "usage": {"prompt_tokens": total, "total_tokens": total},
        }
        return Reply(200, dumps(answer), limit_headers(left))

    def rate_refusal(self, what: str, wait: float) -> Refused:
        unit = {"requests": "RPM", "tokens": "TPM", "items": "IPM"}[what]
        return Refused(
            429,
            f"Rate limit reached on {what} per min ({unit}). Please try again in {wait:.3f}s.",
            "rate_limit_exceeded",
            retry_after=str(math.ceil(wait)),
            retry_after_ms=str(math.ceil(wait * 1000)),
        )

    def refusal(self, refused: Refused) -> Reply:
        kind = (
            refused.code
            if refused.code in ("insufficient_quota", "max_tokens_per_request")
            else "invalid_request_error"
        )
        error = {"message": str(refused), "type": kind, "param": None, "code": refused.code or None}
        return Reply(refused.status, orjson.dumps({"error": error}))


class FakeAzureOpenAI(FakeOpenAI):
    """The same model behind a deployment's path, a version in the query and the key in a header of its own."""

    deployment = "embeddings-eu"
    api_version = "2024-10-21"

    @property
    def base_url(self) -> str:
        return self.origin

    def authorise(self, request: Request) -> None:
        self.expect(request, "POST", f"/openai/deployments/{self.deployment}/embeddings")
        if request.query.get("api-version") != self.api_version:
            raise Refused(404, "Resource not found", "404")
        if request.headers.get("api-key") != self.key or "authorization" in request.headers:
            raise Refused(401, "Access denied due to invalid subscription key.", "401")


def limit_headers(left: dict[str, tuple[float, float, float]]) -> dict[str, str]:
    headers = {"x-request-id": "req_fake"}
    for name, (limit, remaining, seconds) in left.items():
        headers |= {
            f"x-ratelimit-limit-{name}": f"{limit:.0f}",
            f"x-ratelimit-remaining-{name}": f"{remaining:.0f}",
            f"x-ratelimit-reset-{name}": f"{seconds * 1000:.0f}ms",
        }
    return headers


def _masked(header: str) -> str:
    key = header.removeprefix("Bearer ")
    return f"{key[:4]}{'*' * 12}{key[-4:]}"
