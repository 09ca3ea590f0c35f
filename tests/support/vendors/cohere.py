"""Cohere's second embed endpoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson

from streamer.core.vectors import Matrix
from tests.support.vendors.bodies import base64_floats, dumps, number_list
from tests.support.vendors.misbehaviour import Fault, Row
from tests.support.vendors.server import FakeVendor, Refused, Reply, Request
from tests.support.vendors.vectors import count_tokens, vector_for


@dataclass(frozen=True, slots=True)
class Model:
    context: int
    dimensions: tuple[int, ...]
    can_choose: bool = False


MODELS = {
    "embed-english-v3.0": Model(512, (1024,)),
    "embed-multilingual-v3.0": Model(512, (1024,)),
    "embed-v4.0": Model(128_000, (1536, 256, 512, 1024), can_choose=True),
}
MOST_TEXTS = 96
INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")
FIELDS = ("model", "texts", "input_type", "embedding_types", "truncate", "output_dimension", "max_tokens", "priority")


class FakeCohere(FakeVendor):
    """`base_url` is what a client is configured with. The answer has no indices."""

    @property
    def base_url(self) -> str:
        return self.origin

    def expected(self, texts: list[str], purpose: str = "search_document", dimensions: int | None = None) -> Matrix:
        return np.stack([vector_for(text, 1536, dimensions=dimensions or 1024, purpose=purpose) for text in texts])

    def answer(self, request: Request, fault: Fault) -> Reply:
        self.expect(request, "POST", "/v2/embed")
        self.expect_bearer(request, "invalid api token")
        body = request.json
        self.expect_fields(body, FIELDS, ("model", "texts", "input_type"))
        model = MODELS.get(body["model"])
        if model is None:
            raise Refused(404, f"model '{body['model']}' not found, make sure the correct model ID was used")
        if body["input_type"] not in INPUT_TYPES:
            raise Refused(400, "invalid request: valid input_type must be provided with the provided model")
        if "output_dimension" in body and not model.can_choose:
            raise Refused(400, f"invalid request: output_dimension is not supported by {body['model']}")
        dimensions = body.get("output_dimension", model.dimensions[0])
        if dimensions not in model.dimensions:
            raise Refused(400, f"invalid request: output_dimension must be one of {model.dimensions}")
        types = body.get("embedding_types", ["float"])
        if not types or not set(types) <= {"float", "base64"}:
            raise Refused(400, "invalid request: embedding_types")
        truncate = body.get("truncate", "END")
        if truncate not in ("NONE", "START", "END"):
            raise Refused(400, "invalid request: truncate must be one of NONE, START, END")
        texts = self.expect_texts(body["texts"], MOST_TEXTS)
        if "" in texts:
            raise Refused(400, "invalid request: all elements in texts must be non-empty")
        tokens = [count_tokens(text) for text in texts]
        if max(tokens) > model.context and truncate == "NONE":
            raise Refused(400, f"too many tokens: a text cannot exceed {model.context} - received {max(tokens)}.")
        billed = sum(min(count, model.context) for count in tokens)
        self.meter(len(texts), billed)
        rows: list[Row] = [
            (i, vector_for(text, 1536, dimensions=dimensions, purpose=body["input_type"]))
            for i, text in enumerate(texts)
        ]
        vectors = [vector for _, vector in (fault.rows(rows) if fault.rows else rows)]
        embeddings = {
            kind: [base64_floats(vector, fault) if kind == "base64" else number_list(vector) for vector in vectors]
            for kind in (["float"] if fault.floats else types)
        }
        answer = {
            "id": "fake",
            "texts": texts,
            "embeddings": embeddings,
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": billed}},
            "response_type": "embeddings_by_type",
        }
        return Reply(200, dumps(answer), {"x-endpoint-monthly-call-limit": "1000"})

    def rate_refusal(self, what: str, wait: float) -> Refused:
        return Refused(429, f"Please wait and try again later: limited {what} / minute", retry_after=f"{wait:.3f}")

    def planned_refusal(self, fault: Fault) -> Refused:
        if fault.code == "insufficient_quota":
            return Refused(fault.status, "You are using a Trial key, which is limited to 1000 API calls / month.")
        return super().planned_refusal(fault)

    def refusal(self, refused: Refused) -> Reply:
        return Reply(refused.status, orjson.dumps({"id": "fake", "message": str(refused)}))
