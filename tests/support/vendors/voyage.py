"""Voyage AI's embeddings endpoint."""

from __future__ import annotations

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
    tokens_per_request: int
    dimensions: tuple[int, ...] = (1024,)  # the first is the default


MODELS = {
    "voyage-3": Model(320_000),
    "voyage-3.5": Model(320_000, (1024, 256, 512, 2048)),
    "voyage-3.5-lite": Model(1_000_000, (1024, 256, 512, 2048)),
    "voyage-3-large": Model(120_000, (1024, 256, 512, 2048)),
}
NATIVE = 2048
MOST_TEXTS = 1000
MOST_TOKENS = 32_000
FIELDS = ("input", "model", "input_type", "truncation", "output_dimension", "output_dtype", "encoding_format")


class FakeVoyage(FakeVendor):
    """`base_url` is what a client is configured with. Without `truncation: false` long texts are cut, unsaid."""

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def expected(self, texts: list[str], purpose: str = "document", dimensions: int = 1024) -> Matrix:
        return np.stack([vector_for(text, NATIVE, dimensions=dimensions, purpose=purpose) for text in texts])

    def answer(self, request: Request, fault: Fault) -> Reply:
        self.expect(request, "POST", "/v1/embeddings")
        self.expect_bearer(request, "Provided API key is invalid.")
        body = request.json
        self.expect_fields(body, FIELDS, ("input", "model"))
        model = MODELS.get(body["model"])
        if model is None:
            raise Refused(400, f"Model {body['model']} is not supported. Supported models are {sorted(MODELS)}.")
        purpose = body.get("input_type")
        if purpose not in (None, "query", "document"):
            raise Refused(400, f"Value {purpose!r} provided for input_type is not valid.")
        dimensions = body.get("output_dimension") or model.dimensions[0]
        if dimensions not in model.dimensions:
            raise Refused(400, f"Value {dimensions} for output_dimension is not supported by {body['model']}.")
        if body.get("encoding_format") not in (None, "base64") or not isinstance(body.get("truncation", True), bool):
            raise Refused(400, "An argument is not valid.")
        texts = self.expect_texts(body["input"], MOST_TEXTS)
        if "" in texts:
            raise Refused(400, "Input cannot contain empty strings or empty lists.")
        tokens = [count_tokens(text) for text in texts]
        if max(tokens) > MOST_TOKENS and not body.get("truncation", True):
            at = tokens.index(max(tokens))
            raise Refused(400, f"The example at index {at} has too many tokens: more than {MOST_TOKENS}.")
        total = sum(min(count, MOST_TOKENS) for count in tokens)
        if total > model.tokens_per_request:
            raise Refused(
                400, f"The max allowed tokens per submitted batch is {model.tokens_per_request}, not {total}."
            )
        self.meter(len(texts), total)
        rows: list[Row] = [
            (i, vector_for(text, NATIVE, dimensions=dimensions, purpose=purpose or "")) for i, text in enumerate(texts)
        ]
        as_base64 = body.get("encoding_format") == "base64"
        data = [entry(row, as_base64, fault) for row in (fault.rows(rows) if fault.rows else rows)]
        answer = {"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": total}}
        return Reply(200, dumps(answer))

    def refusal(self, refused: Refused) -> Reply:
        return Reply(refused.status, orjson.dumps({"detail": str(refused)}))
