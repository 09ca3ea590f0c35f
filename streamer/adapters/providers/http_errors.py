"""What the answers and failures of an HTTP embedding service mean, in the words of `errors.py`.

One table for all vendors. It decides between "later", "not before a person has mended the account" and "never this
text", so a mistake here either loses texts or stops the stream; every row has a test. No secret and no text of a user
ever gets into a message: only the fields in which vendors state a reason are quoted, cut short and redacted. Should one
quote the text, it does so between the marks of `errors.quoted`, which no log line shows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal, TypeAlias

import anyio
import orjson

from streamer.errors import (
    ProviderBlocked,
    RateLimited,
    RejectedError,
    RetriableError,
    StreamerError,
    quoted,
    without_credentials,
)

Meaning: TypeAlias = Literal["retriable", "limited", "blocked", "rejected", "too_long"]

_LONGEST_REASON = 300

_TRANSIENT = frozenset({408, 409, 424, 425, 499})
# 498 is Cohere's "invalid token". Redirects and 405 are a wrong base_url: no text is to blame for those.
_ACCOUNT = frozenset({401, 402, 403, 404, 405, 410, 498})

_QUOTA_CODE = re.compile(r"insufficient_quota|billing_(not_active|hard_limit)", re.I)
# Cohere's trial keys: so many calls a minute (a rate) or a month (a quota); both are 429.
_QUOTA_REASON = re.compile(r"/ ?month|per month|monthly", re.I)
_BUSY = re.compile(r"server busy|overloaded|maximum pending requests", re.I)
_SETUP_CODE = re.compile(
    r"model_not_found|DeploymentNotFound|unsupported_model|invalid_api_key|\b(model|dimensions|encoding_format)\b", re.I
)
_SETUP_REASON = re.compile(
    r"model\b.{0,80}\b(not found|not supported|does not exist|not available)"
    r"|(not support|invalid|unsupported|specifying).{0,60}\b(dimensions?|encoding_format|input_type|output_dimension)\b"
    r"|(dimensions?|encoding_format|input_type|output_dimension)\b.{0,60}\b(must be|not supported|invalid)"
    r"|\binput_type\b.{0,20}\b(must|not valid)|api[ _](key|token) not valid|invalid api[ _](key|token)",
    re.I,
)
_KEY = re.compile(r"api[ _](key|token)", re.I)
_MODEL = re.compile(
    r"model_not_found|DeploymentNotFound|unsupported_model"
    r"|model\b.{0,80}\b(not found|not supported|does not exist|not available)",
    re.I,
)
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (input|sequence|model) length|too many (input )?tokens|too long"
    r"|max_tokens_per_request|max(imum)? allowed tokens|max \d+ tokens|(less|fewer) than \d+ (tokens|characters)"
    r"|tokens exceeds?\b|exceed\w* .{0,40}tokens|too large to process",
    re.I,
)
# Ollama's encoder cannot write a NaN: the model's answer to one text of the call fails it with status 500, each time.
_POISON = re.compile(r"unsupported value: NaN|NaN or Inf", re.I)


def meaning(status: int, reason: str, code: str) -> Meaning:
    """The class of a refusal. `reason`: the vendor's sentence; `code`: its machine words (code, type, param)."""
    if status >= 500:
        if _POISON.search(reason):
            return "rejected"
        if _TOO_LONG.search(reason):
            return "too_long"
        return "limited" if status == 503 and _BUSY.search(reason) else "retriable"
    if status == 429:
        return "blocked" if _QUOTA_CODE.search(code) or _QUOTA_REASON.search(reason) else "limited"
    if status in _TRANSIENT:
        return "retriable"
    if status in _ACCOUNT or status < 400 or _SETUP_CODE.search(code) or _SETUP_REASON.search(reason):
        return "blocked"
    return "too_long" if status == 413 or _TOO_LONG.search(f"{code} {reason}") else "rejected"


def remedy(status: int, reason: str, code: str) -> str:
    """What a person can do about a refusal that means "blocked"."""
    if status in (402, 429):
        return "the account has used up its quota: raise it or wait for the next period"
    if status in (401, 403, 498) or _KEY.search(f"{code} {reason}"):
        return "check the API key"
    if status < 400 or status == 405:
        return "check provider.base_url"
    if _MODEL.search(f"{code} {reason}"):
        return "check provider.model"
    if status in (404, 410):
        return "check provider.base_url and provider.model"
    return "check provider.model, provider.dimensions and the input types"


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks us to wait: `retry-after-ms`, else `retry-after` as seconds or as an HTTP date.

    The date is compared with the server's own `date` header where there is one, so that clocks need not agree; `now`
    (seconds since the epoch) stands in for it.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    until = _epoch(value)
    return None if until is None else max(0.0, until - (_epoch(headers.get("date", "")) or now))


def rate_limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of an answer that speak about limits, names in lower case."""
    names = ("ratelimit", "rate-limit", "call-limit", "retry-after")
    return {name.lower(): value for name, value in headers.items() if any(word in name.lower() for word in names)}


@dataclass(frozen=True, slots=True)
class Vendor:
    """Speaks about one vendor's failures without ever naming a secret."""

    name: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def refusal(self, status: int, headers: Mapping[str, str], body: object) -> StreamerError:
        """The error for an answer that is not a success. `body`: bytes, text, or parsed JSON."""
        reason, code = _stated(body)
        wait = retry_after({name.lower(): value for name, value in headers.items()}, time.time())
        message = f"{self.name} answered {status}" + (f": {quoted(self.redact(reason))}" if reason else "")
        match meaning(status, reason, code):
            case "retriable":
                return RetriableError(message, retry_after=wait)
            case "limited":
                return RateLimited(message, retry_after=wait)
            case "blocked":
                return ProviderBlocked(f"{message}; {remedy(status, reason, code)}", retry_after=wait)
            case "too_long":
                return RejectedError(message, kind="too_long")
            case "rejected":
                return RejectedError(message)

    def unreachable(self, cause: BaseException) -> RetriableError:
        """The error for a connection that could not be made, broke, or carried something that is not HTTP."""
        name, said = type(cause).__name__, self.redact(str(cause))
        # Why a connection could not be made the system says; all else may quote what went over it.
        words = said if name.startswith("Connect") or not said else quoted(said)
        return RetriableError(f"{self.name}: {name}" + (f": {words}" if words else ""))

    @contextmanager
    def answer_within(self, seconds: float) -> Iterator[None]:
        """Bounds a whole call.

        The HTTP client's own read time-out starts anew with every byte: a body that drips would hold a slot for ever.
        """
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise RetriableError(f"{self.name} did not answer within {seconds:g} s") from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns an answer that cannot be used (ValueError) into a retry."""
        try:
            yield
        except ValueError as exc:
            raise self.unusable(str(exc)) from None

    def unusable(self, why: str) -> RetriableError:
        return RetriableError(f"{self.name} sent an answer that cannot be used: {self.redact(why)}")

    def redact(self, text: str) -> str:
        """The text on one line, cut, without our secrets and without keys that the vendor itself has half masked."""
        for secret in self.secrets:
            text = text.replace(secret, "[redacted]")
        text = without_credentials(text)
        text = re.sub(r"\S*\*{3}\S*", "[redacted]", " ".join(text.split()))
        return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


def _stated(body: object) -> tuple[str, str]:
    """(reason, code) out of any vendor's error body; empty where it has none, as with a proxy's HTML page.

    `{"error": {"message", "type", "param", "code"}}` OpenAI, Azure, vLLM · `{"message"}` Cohere, older vLLM ·
    `{"detail"}` Voyage, FastAPI · `{"error", "error_type"}` Ollama, TEI.
    """
    if isinstance(body, bytes | str):
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            return "", ""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return "", ""
    error: Any = body.get("error", body)
    if not isinstance(error, dict):
        error = {"message": error, "code": body.get("error_type")}
    reason = error.get("message") or error.get("detail")
    if isinstance(reason, list):  # FastAPI's list of complaints; its `input` field would quote the user's text
        reason = "; ".join(f"{item.get('loc')}: {item.get('msg')}" for item in reason if isinstance(item, dict))
    code = " ".join(str(error[name]) for name in ("code", "type", "param") if error.get(name))
    return reason if isinstance(reason, str) else "", code


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) and value >= 0 else None


def _epoch(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
