"""What servers of the field mean: empty accounts, errors inside of a success, fields of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.adapters.providers.http_errors import Vendor
from streamer.adapters.providers.refusals import Refusal, is_about_setup, stated, status_inside, wraps_error
from streamer.errors import ProviderBlocked, RateLimited, RejectedError, RetriableError

VENDOR = Vendor("acme", ())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"code": "1113", "message": "Insufficient balance or no resource package. Please recharge."}}),
        (429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}),
        (429, {"error": {"message": "You exceeded your current quota", "type": "insufficient_quota"}}),
        (429, {"error": {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"}}),
        (429, {"error": {"message": "Budget has been exceeded! Current cost: 3, Max budget: 2"}}),
        (422, {"error": {"message": "ExceededBudget", "type": "budget_exceeded"}}),
        (400, {"error": {"message": "Your credit balance is too low to access the API."}}),
        (403, {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None}),
        (403, {"error": {"message": "no", "code": "insufficient_user_quota"}}),
        (402, {}),
        (503, {"error": {"message": "insufficient credits", "code": "x"}}),
    ],
)
def test_row_23_an_empty_account_is_not_a_rate_limit(status: int, body: Any) -> None:
    error = VENDOR.refusal(status, {}, json.dumps(body).encode())
    assert type(error) is ProviderBlocked
    assert "the account has used up its quota or credit" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Rate limit reached for requests", "code": "rate_limit_exceeded"}},
        {"error": {"message": "Too many requests, check your balance of load"}},
        {"error": {"code": "1302", "message": "High concurrency usage of this API"}},
        {"detail": "You have not yet added your payment method, reduced rate limits of 3 RPM"},
        {"error": {"status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota: requests per minute"}},
    ],
)
def test_row_23_a_rate_limit_is_no_empty_account(body: Any) -> None:
    assert type(VENDOR.refusal(429, {}, json.dumps(body).encode())) is RateLimited


WRAPPED: list[tuple[Any, type[Exception]]] = [
    ({"error": {"code": 429, "message": "Rate limit exceeded"}}, RateLimited),
    ({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}, RateLimited),
    ({"error": {"message": "Too many requests"}}, RateLimited),
    ({"error": {"code": 401, "message": "No auth credentials found"}}, ProviderBlocked),
    ({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, ProviderBlocked),
    ({"error": "model 'x' not found"}, ProviderBlocked),
    ({"error": {"code": 404, "message": "No endpoints found"}}, ProviderBlocked),
    ({"error": {"code": 402, "message": "Insufficient credits"}}, ProviderBlocked),
    ({"code": 1113, "msg": "Insufficient balance", "success": False}, ProviderBlocked),
    ({"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None}, ProviderBlocked),
    ({"error": {"code": 502, "message": "Provider returned error"}}, RetriableError),
    ({"error": "upstream timed out"}, RetriableError),
    ({"error": {"message": "the text is not acceptable"}}, RejectedError),
]


@pytest.mark.parametrize(("body", "kind"), WRAPPED, ids=str)
def test_row_22_an_error_inside_a_success_is_that_error(body: Any, kind: type[Exception]) -> None:
    assert wraps_error(body, body.get("data"))
    error = VENDOR.refusal(200, {"Retry-After": "7"}, body)
    assert type(error) is kind
    assert "acme answered 200 with an error: " in str(error)
    if isinstance(error, RetriableError):
        assert error.retry_after == 7.0


def test_row_22_an_answer_is_no_error() -> None:
    rows = [{"index": 0, "embedding": [1.0]}]
    assert not wraps_error({"data": rows, "error": None, "message": "ok"}, rows)
    assert not wraps_error({"data": rows, "error": "a deprecation"}, rows)
    assert not wraps_error({"data": []}, [])
    assert status_inside(Refusal()) == 400


DATE = {"date": "Sat, 28 Nov 2026 12:00:30 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"llm_provider-retry-after": "11"}, 11.0),
        ({"LLM_Provider-Retry-After": "0.5"}, 0.5),
        ({"llm_provider-retry-after-ms": "1500"}, 1.5),
        ({"llm_provider-retry-after": "Sat, 28 Nov 2026 12:00:41 GMT", "llm_provider-date": DATE["date"]}, 11.0),
        ({"llm_provider-retry-after": "Sat, 28 Nov 2026 12:00:41 GMT", **DATE}, 11.0),
        ({"retry-after": "3", "llm_provider-retry-after-ms": "1500"}, 3.0),
        ({"llm_provider-retry-after": "soon"}, None),
    ],
)
def test_e7_a_gateway_passes_the_wait_on_under_another_name(headers: dict[str, str], seconds: float | None) -> None:
    error = VENDOR.refusal(429, headers, b"{}")
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds


@pytest.mark.parametrize("name", ["input", "inputs", "texts", "input_tokens", "prompt", "content"])
def test_a_refusal_that_names_the_text_is_not_about_the_set_up(name: str) -> None:
    for body in ({"detail": [{"loc": ["body", name, 0], "msg": "no"}]}, {"error": {"message": "no", "param": name}}):
        refusal = stated(body)
        assert refusal.fields == {name}
        assert not is_about_setup(refusal)


@pytest.mark.parametrize("name", ["input_type", "user", "dimensions", "encoding_format", "task", "extra_body"])
def test_row_4_a_refusal_that_names_any_other_field_is(name: str) -> None:
    for body in (
        {"detail": [{"loc": ["body", name], "msg": "no"}]},
        {"error": {"message": "no", "param": name}},
        {"error": f'json: unknown field "{name}"'},
        {"message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), 'msg': 'no'}}]"},
        {"error": {"message": f"embeddings() got an unexpected keyword argument '{name}'"}},
    ):
        assert is_about_setup(stated(body)), body


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"input": ["Not a valid string."]}, ["input"]),
        ({"errors": {"input": ["too weird"], "model": ["x"]}}, ["input", "model"]),
        ({"model": "small", "input": "what the caller wrote"}, []),
        ({"detail": {"reason": "no"}}, []),
        ({"encoding_format": [1]}, []),
    ],
    ids=str,
)
def test_row_4b_complaints_by_field_are_those_of_fields_that_a_request_has(body: Any, fields: list[str]) -> None:
    found = stated(body)
    assert found.fields == set(fields)
    assert not is_about_setup(found)
    assert "what the caller wrote" not in found.reason
