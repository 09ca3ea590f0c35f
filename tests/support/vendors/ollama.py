"""Ollama's embed endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from streamer.core.vectors import Matrix
from tests.support.vendors.bodies import dumps, number_list
from tests.support.vendors.misbehaviour import Fault, Row
from tests.support.vendors.server import FakeVendor, Refused, Reply, Request
from tests.support.vendors.vectors import count_tokens, vector_for


@dataclass(frozen=True, slots=True)
class Model:
    dimensions: int
    context: int


MODELS = {
    "nomic-embed-text": Model(768, 8192),
    "mxbai-embed-large": Model(1024, 512),
}
FIELDS = ("model", "input", "truncate", "options", "keep_alive", "dimensions")


class FakeOllama(FakeVendor):
    """`base_url` is what a client is configured with. More than `most_waiting` requests at a time are refused as busy.

    Without `truncate: false` long texts are cut, unsaid; more dimensions than the model has are ignored, unsaid. An
    empty text is embedded. There is neither base64 nor an index, and no key unless a gateway wants one.
    """

    most_waiting = 512

    @property
    def base_url(self) -> str:
        return self.origin

    def expected(self, texts: list[str], model: str = "nomic-embed-text", dimensions: int | None = None) -> Matrix:
        return np.stack([vector_for(text, MODELS[model].dimensions, dimensions=dimensions) for text in texts])

    def answer(self, request: Request, fault: Fault) -> Reply:
        self.expect(request, "POST", "/api/embed")
        self.expect_bearer(request, "unauthorized")
        body = request.json
        self.expect_fields(body, FIELDS, ("model", "input"))
        model = MODELS.get(body["model"].removesuffix(":latest"))
        if model is None:
            raise Refused(404, f"model '{body['model']}' not found")
        if self.in_flight > self.most_waiting:
            raise Refused(503, "server busy, please try again.  maximum pending requests exceeded")
        texts = self.expect_texts(body["input"], 1_000_000)
        tokens = [count_tokens(text) for text in texts]
        if max(tokens) > model.context and not body.get("truncate", True):
            raise Refused(400, "the input length exceeds the context length")
        evaluated = sum(min(count, model.context) for count in tokens)
        self.meter(len(texts), evaluated)
        dimensions = min(body.get("dimensions") or model.dimensions, model.dimensions)
        rows: list[Row] = [
            (i, vector_for(text, model.dimensions, dimensions=dimensions)) for i, text in enumerate(texts)
        ]
        embeddings: list[Any] = [number_list(vector) for _, vector in (fault.rows(rows) if fault.rows else rows)]
        answer = {
            "model": body["model"],
            "embeddings": embeddings,
            "total_duration": 14_143_917,
            "load_duration": 1_019_500,
            "prompt_eval_count": evaluated,
        }
        return Reply(200, dumps(answer))

    def refusal(self, refused: Refused) -> Reply:
        return Reply(refused.status, orjson.dumps({"error": str(refused)}))
