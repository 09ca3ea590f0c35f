"""The table that says what refusals mean, and what is said about them."""

from __future__ import annotations

import json
import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.adapters.providers.http_errors import (
    Vendor,
    rate_limit_headers,
    retry_after,
)
from streamer.adapters.providers.refusals import Refusal, meaning
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError

KEY = "sk-secret-0123456789"
VENDOR = Vendor("acme", (KEY,))


# How servers word it: one row a server and a reason. The sentences are theirs in the words that matter.
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # OpenAI
        (400, {"error": {"message": "This model's maximum context length is 8192 tokens", "type": "x"}}, "too_long"),
        (400, {"error": {"message": "Requested 4 tokens, max 3 tokens", "code": "max_tokens_per_request"}}, "too_long"),
        (400, {"error": {"message": "'$.input' is invalid.", "type": "invalid_request_error"}}, "rejected"),
        (400, {"error": {"message": "no", "param": "dimensions", "type": "invalid_request_error"}}, "blocked"),
        (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}, "blocked"),
        (429, {"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}, "limited"),
        (429, {"error": {"message": "check your plan", "type": "insufficient_quota", "code": None}}, "blocked"),
        (429, {"error": {"message": "not active", "code": "billing_not_active"}}, "blocked"),
        # Azure
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}}, "blocked"),
        (429, {"error": {"code": "429", "message": "Requests have exceeded the call rate limit."}}, "limited"),
        (400, {"error": {"code": "content_filter", "message": "The content was filtered."}}, "rejected"),
        # vLLM, nested and flat
        (400, {"error": {"message": "maximum context length is 512 tokens. Input has 513", "code": 400}}, "too_long"),
        (400, {"object": "error", "message": "Input (600) exceeds the context length", "code": 400}, "too_long"),
        (404, {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError"}, "blocked"),
        (400, {"message": "Model x does not support matryoshka, changing output dimensions"}, "blocked"),
        # TEI
        (413, {"error": "`inputs` must have less than 512 tokens. Given: 700", "error_type": "Validation"}, "too_long"),
        (422, {"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"}, "rejected"),
        (429, {"error": "Model is overloaded", "error_type": "Overloaded"}, "limited"),
        (424, {"error": "Inference failed", "error_type": "Backend"}, "retriable"),
        # llama.cpp and those that wrap it
        (500, {"error": {"code": 500, "message": "input is too large to process. increase the batch"}}, "too_long"),
        (400, {"error": {"message": "prefill 744 tokens exceed n_ctx_per_seq"}}, "too_long"),
        (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, "retriable"),
        # Cohere
        (400, {"id": "1", "message": "too many tokens: size limit exceeded by 11326 tokens."}, "too_long"),
        (400, {"message": "invalid request: valid input_type must be provided with the provided model"}, "blocked"),
        (400, {"message": "invalid request: total number of texts must be at most 96"}, "rejected"),
        (429, {"message": "You are using a Trial key, which is limited to 40 API calls / minute."}, "limited"),
        (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, "blocked"),
        (402, {"message": "Please add or update your payment method to continue"}, "blocked"),
        (498, {"message": "invalid token"}, "blocked"),
        (499, {"message": "request cancelled"}, "retriable"),
        # Voyage
        (400, {"detail": "The example at index 0 in your batch has too many tokens"}, "too_long"),
        (400, {"detail": "The max allowed tokens per submitted batch is 120000."}, "too_long"),
        (400, {"detail": "Model voyage-9 is not supported. Supported models are ['voyage-3']."}, "blocked"),
        (400, {"detail": "The batch size limit is 1000."}, "rejected"),
        (429, {"detail": "You have not yet added your payment method, reduced rate limits of 3 RPM"}, "limited"),
        # Ollama
        (400, {"error": "the input length exceeds the context length"}, "too_long"),
        (400, {"error": "input exceeds maximum context length and cannot be truncated further"}, "too_long"),
        (400, {"error": "embedding contains NaN or Inf values"}, "rejected"),
        (500, {"error": "failed to encode response: json: unsupported value: NaN"}, "rejected"),
        (404, {"error": 'model "x" not found, try pulling it first'}, "blocked"),
        (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, "limited"),
        # FastAPI, a list as Gemini's compatible endpoint wraps it, and no JSON at all
        (422, {"detail": [{"loc": ["body", "input"], "msg": "too long", "input": "private"}]}, "too_long"),
        (400, [{"error": {"code": 400, "message": "API key not valid. Please pass a valid one."}}], "blocked"),
        (400, {}, "rejected"),
        (301, "<html>moved</html>", "blocked"),
        (502, "<html>bad gateway</html>", "retriable"),
        (413, "<html>too large</html>", "too_long"),
    ],
)
def test_each_refusal_of_a_service_is_understood(status, body, kind):
    error = VENDOR.refusal(status, {}, body if isinstance(body, str) else json.dumps(body).encode())
    types: dict[str, type[RetriableError]] = {
        "retriable": RetriableError,
        "limited": RateLimited,
        "blocked": ProviderBlocked,
    }
    assert type(error) is types.get(kind, RejectedError), error
    if isinstance(error, RejectedError):
        assert error.kind == kind
    assert str(status) in str(error)


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (401, {"error": {"message": "Incorrect API key provided."}}, "provided.”; check the API key"),
        (498, {"message": "invalid token"}, "; check the API key"),
        (400, [{"error": {"message": "API key not valid. Please pass a valid one."}}], "one.”; check the API key"),
        (429, {"error": {"message": "plan", "code": "insufficient_quota"}}, "; the account has used up its quota"),
        (402, {"message": "Please add a payment method"}, "; the account has used up its quota"),
        (
            404,
            {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}},
            "; check provider.model",
        ),
        (404, {"error": 'model "x" not found, try pulling it first'}, "; check provider.model"),
        (404, {"detail": "Not Found"}, "; check provider.base_url and provider.model"),
        (301, {}, "; check provider.base_url"),
        (400, {"error": {"message": "no", "param": "dimensions"}}, "; check provider.dimensions and provider.model"),
    ],
)
def test_what_a_person_can_do_about_it(status, body, advice):
    error = VENDOR.refusal(status, {}, json.dumps(body).encode())
    assert type(error) is ProviderBlocked
    assert advice in str(error)


@given(st.integers(min_value=300, max_value=599), st.text(), st.text())
def test_every_status_means_something(status, reason, code):
    assert meaning(status, Refusal(reason, code)) in ("retriable", "limited", "blocked", "rejected", "too_long")


def test_a_body_that_is_parsed_already_means_the_same():
    assert VENDOR.refusal(429, {}, {"error": {"type": "insufficient_quota"}}).__class__ is ProviderBlocked


def test_texts_of_users_and_secrets_are_not_quoted():
    body = {"detail": [{"loc": ["body", "input", 0], "msg": "invalid", "input": "a private text"}]}
    message = str(VENDOR.refusal(422, {}, json.dumps(body).encode()))
    assert "invalid" in message
    assert "private" not in message
    assert "private" not in str(VENDOR.refusal(400, {}, b'{"input": "a private text"}'))
    assert KEY not in str(VENDOR.refusal(401, {}, json.dumps({"message": f"no such key: {KEY}"}).encode()))
    assert KEY not in repr(VENDOR)


def test_a_long_reason_is_cut_to_one_line():
    message = str(VENDOR.refusal(400, {}, json.dumps({"message": "line\n" * 1000}).encode()))
    assert len(message) < 350
    assert "\n" not in message


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": formatdate(NOW + 9, usegmt=True)}, 9.0),
        ({"retry-after": formatdate(NOW - 9, usegmt=True)}, 0.0),
        # The server's clock is an hour ahead of ours.
        ({"retry-after": formatdate(NOW + 3609, usegmt=True), "date": formatdate(NOW + 3600, usegmt=True)}, 9.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "86400"}, 86400.0),
    ],
)
def test_how_long_to_wait(headers, seconds):
    assert retry_after(headers, NOW) == seconds


@given(st.text(), st.text(), st.text())
def test_no_header_breaks_the_reading_of_headers(milliseconds, seconds, date):
    wait = retry_after({"retry-after-ms": milliseconds, "retry-after": seconds, "date": date}, NOW)
    assert wait is None or (wait >= 0 and math.isfinite(wait))


def test_only_headers_about_limits_are_kept():
    headers = {
        "X-RateLimit-Reset-Tokens": "6ms",
        "RateLimit": "r",
        "X-Trial-Endpoint-Call-Limit": "40",
        "Set-Cookie": "c",
    }
    assert rate_limit_headers(headers) == {
        "x-ratelimit-reset-tokens": "6ms",
        "ratelimit": "r",
        "x-trial-endpoint-call-limit": "40",
    }
