"""Refusals as servers of the field word them. Rows are those of the field cases, named in the tests."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from streamer.embedding.backoff import BackoffPolicy
from streamer.embedding.dispatcher import Dispatcher
from streamer.errors import ProviderBlocked
from streamer.protocols import Embedding, Rejection
from tests.app.field_servers import (
    TEXTS,
    assert_only_poison_is_refused,
    blocked_state,
    dispatching,
    refusing,
)
from tests.support.vendors.misbehaviour import Fault
from tests.support.vendors.openai import FakeOpenAI
from tests.support.vendors.services import KEY, assert_same

pytestmark = pytest.mark.anyio


def loc(name: str, msg: str, **more: Any) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", name], "msg": msg, **more}]}


NO_BASE64: dict[str, tuple[int, Any]] = {
    "vLLM": (400, {"object": "error", "message": "base64 encoding is not currently supported", "code": 400}),
    "row 4b, pydantic 2, literal": (422, loc("encoding_format", "Input should be 'float'", type="literal_error")),
    "row 4b, pydantic 2, extra": (
        422,
        loc("encoding_format", "Extra inputs are not permitted", type="extra_forbidden"),
    ),
    "row 4b, pydantic 1, enum": (
        422,
        loc("encoding_format", "value is not a valid enumeration member", ctx={"x": ["float"]}),
    ),
    "pydantic printed by vLLM": (
        400,
        {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'encoding_format'), 'msg': 'x'}]"},
    ),
    "OpenAI's param": (400, {"error": {"message": "Invalid value: 'base64'.", "param": "encoding_format"}}),
    "LiteLLM": (400, {"error": {"message": "UnsupportedParamsError: does not support: {'encoding_format': 'base64'}"}}),
    "Go": (400, {"error": 'json: unknown field "encoding_format"'}),
    "row 4b, Django": (400, {"encoding_format": ['"base64" is not a valid choice.']}),
    "row 4b, ASP.NET": (400, {"title": "Bad Request", "errors": {"encoding_format": ["The value is not valid."]}}),
    "row 4b, Laravel": (
        422,
        {"message": "The selected encoding_format is invalid.", "errors": {"encoding_format": ["x"]}},
    ),
    "row 4b, NestJS": (400, {"message": ["encoding_format must be one of: float"], "error": "Bad Request"}),
    "row 4b, Zod": (400, {"error": {"name": "ZodError", "issues": [{"path": ["encoding_format"], "message": "no"}]}}),
    "row 4b, OpenAPI": (400, {"errors": [{"message": "oneOf at '/' not met: Type mismatch of '/encoding_format'"}]}),
    "Azure": (400, {"error": {"code": "BadRequest", "message": "Unsupported parameter: 'encoding_format'"}}),
}


def wants(*formats: str | None) -> Any:
    """A request whose encoding is none of these."""
    return lambda asked: asked.get("encoding_format") not in formats


@pytest.mark.parametrize("name", NO_BASE64)
async def test_row_4_base64_is_replaced_by_floats_in_the_same_space(name: str, capsys: Any) -> None:
    """And 4b, each of its bodies."""
    status, body = NO_BASE64[name]
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.always = refusing(status, body, wants("float", None))
        for texts in (TEXTS, ["another"]):
            outcomes = await service.embed(texts, "document")
            for text, outcome in zip(texts, outcomes, strict=True):
                assert isinstance(outcome, Embedding), outcome
                assert_same(outcome.vector[None], server.expected([text]))
        assert [request.json.get("encoding_format") for request in server.requests] == ["base64", "float", "float"]
    said = "".join(capsys.readouterr())
    assert said.count("the server refuses this encoding of vectors") == 1
    assert 'set provider.encoding_format = "float"' in said


@pytest.mark.parametrize("given", ["base64", "float", "none"])
async def test_e6_a_server_that_refuses_both_encodings_is_asked_for_none(given: str) -> None:
    body = {"error": {"message": "litellm.UnsupportedParamsError: ollama does not support: encoding_format"}}
    async with FakeOpenAI(key=KEY) as server, dispatching(server, encoding_format=given) as service:
        server.always = refusing(400, body, wants(None))
        outcomes = await service.embed(TEXTS, "document")
        assert all(isinstance(outcome, Embedding) for outcome in outcomes)
        tries = {"base64": ["base64", "float", None], "float": ["float", None], "none": [None]}[given]
        assert [request.json.get("encoding_format") for request in server.requests] == tries


SETUP: dict[str, tuple[int, Any, str]] = {
    "row 4b, whatever the encoding": (422, loc("encoding_format", "no"), "provider.encoding_format"),
    "dimensions, FastAPI": (422, loc("dimensions", "Extra inputs are not permitted"), "check provider.dimensions"),
    "dimensions, OpenAI": (400, {"error": {"message": "no", "param": "dimensions"}}, "check provider.dimensions"),
    "row 36, vLLM": (400, {"message": "Model does not support matryoshka, changing dim"}, "check provider.dimensions"),
    "row 36, Django": (400, {"dimensions": ["Ensure this value is 1024."]}, "check provider.dimensions"),
    "row 36, NestJS": (400, {"message": ["dimensions should not exist"], "error": "Bad"}, "check provider.dimensions"),
    "row 36, Rails": (422, {"errors": {"dimensions": ["is not permitted"]}}, "check provider.dimensions"),
    "model, FastAPI": (422, loc("model", "Input should be 'bge-m3'"), "check provider.model"),
    "e1, LiteLLM": (400, {"error": {"message": "Invalid model name passed in model=nope"}}, "check provider.model"),
    "e1, LiteLLM's key": (400, {"error": {"message": "No connected db."}}, "check the API key"),
    "input_type": (422, loc("input_type", "field required"), "check provider.input_type and"),
    "user": (400, {"error": {"message": "Unrecognized request argument supplied: user"}}, "does not take user"),
    "a header": (422, {"detail": [{"loc": ["header", "x-tenant"], "msg": "required"}]}, "does not take x-tenant"),
    "TEI": (422, {"error": "unknown field `prompt_name`", "error_type": "Validation"}, "does not take prompt_name"),
    "no words": (400, "<html>Bad Request</html>", "what it refuses is not the texts"),
    "no body": (422, "", "what it refuses is not the texts"),
    "in Chinese": (400, {"message": "参数错误"}, "what it refuses is not the texts"),
    "too long, says it of everything": (413, "<html>too large</html>", "what it refuses is not the texts"),
}


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1]], ids=["several", "one"])
@pytest.mark.parametrize("name", SETUP)
async def test_row_4_a_refusal_of_the_set_up_pauses_and_buries_nothing(name: str, texts: list[str]) -> None:
    status, body, advice = SETUP[name]
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.always = refusing(status, body)
        said = await blocked_state(server, service, texts)
        assert f"openai answered {status}" in said
        assert advice in said
        assert service.statistics().rejected_total == 0


@pytest.mark.parametrize("name", SETUP)
async def test_row_4_embed_is_told_at_once(name: str) -> None:
    status, body, advice = SETUP[name]
    never = BackoffPolicy(initial=3600.0, maximum=3600.0)  # on a busy machine, soon is between two requests
    async with FakeOpenAI(key=KEY) as server, dispatching(server, give_up_after=60.0, probing=never) as service:
        server.always = refusing(status, body)
        with pytest.raises(ProviderBlocked) as caught:
            await service.embed(TEXTS, "document")
        assert advice in str(caught.value)
        # What all of them mean, and a harmless one, each with the encodings that may be the reason.
        assert len(server.requests) <= 6


async def as_soon_as_it_may(service: Dispatcher, text: str) -> Embedding | Rejection:
    """A blocked account is not asked again before a while has passed."""
    while True:
        try:
            [outcome] = await service.embed([text], "document")
        except ProviderBlocked:
            await anyio.sleep(0.001)
        else:
            return outcome


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "something is not right here"),
        (400, "Invalid model name passed in model=nope"),
        (400, "No connected db."),
        (422, "Budget has been exceeded! Current cost: 10.1, Max budget: 10.0"),
    ],
)
async def test_rows_4_and_e1_a_trickle_buries_nothing_and_one_that_breaks_later_neither(
    status: int, message: str
) -> None:
    """Field case E1: 24 texts one by one; and the set-up breaks in mid-run."""
    async with FakeOpenAI(key=KEY) as server, dispatching(server, give_up_after=60.0) as service:
        body = {"error": {"message": message}}
        for broken in (True, False, True):
            for number in range(24):
                server.always = refusing(status, body) if broken else Fault()
                if broken:
                    with pytest.raises(ProviderBlocked):
                        await service.embed([f"text {number}"], "document")
                else:
                    assert isinstance(await as_soon_as_it_may(service, f"text {number}"), Embedding)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "The response was filtered", "param": "prompt", "code": "content_filter"}},
        loc("input", "String should match pattern"),
        {"detail": [{"loc": ["body", "input", 0], "msg": "bad"}]},
        # They look like the set-up's, and are this text's.
        {"error": {"message": "no", "param": "dimensions"}},
        {"error": {"message": "Invalid model name passed"}},
        "",
    ],
)
async def test_row_4_a_text_that_is_refused_alone_is_buried_alone(body: Any) -> None:
    async with FakeOpenAI(key=KEY) as server, dispatching(server) as service:
        server.always = refusing(400, body, lambda asked: "POISON" in asked["input"])
        assert_only_poison_is_refused(server, await service.embed(TEXTS, "document"), "rejected")
        [alone] = await service.embed(["POISON"], "document")
        assert isinstance(alone, Rejection)
        assert service.state() is None


async def test_row_4_options_that_queries_alone_have_are_proven_with_queries() -> None:
    """What passed as a document proves nothing about a query's input type."""
    types: dict[str, Any] = {"input_type": "passage", "query_input_type": "question"}
    async with FakeOpenAI(key=KEY) as server, dispatching(server, give_up_after=60.0, **types) as service:
        server.more_fields = ("input_type",)
        await service.embed(TEXTS, "document")
        server.always = refusing(400, {}, lambda asked: asked["input_type"] == "question")
        with pytest.raises(ProviderBlocked):
            await service.embed(["a question"], "query")
        assert isinstance(await as_soon_as_it_may(service, "more"), Embedding)
