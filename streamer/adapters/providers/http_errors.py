"""The failures of an HTTP embedding service, in the words of `errors.py`. What they mean: `refusals.py`.

No secret and no text of a user ever gets into a message: only the fields in which vendors state a reason are quoted,
cut short and redacted. Should one quote the text, it does so between the marks of `errors.quoted`, which no log line
shows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

import anyio

from streamer.adapters.providers.answer_size import too_large
from streamer.adapters.providers.refusals import cause, meaning, remedy, stated, status_inside, wraps_error
from streamer.adapters.providers.wire import Unordered
from streamer.errors import (
    ProviderBlocked,
    RateLimited,
    RejectedError,
    RetriableError,
    StreamerError,
    quoted,
    without_credentials,
)

_LONGEST_REASON = 300


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the server asks us to wait: `retry-after-ms`, else `retry-after` as seconds or as an HTTP date. A gateway
    (LiteLLM) puts the vendor's own behind a prefix.

    The date is compared with the server's own `date` header where there is one, so that clocks need not agree; `now`
    (seconds since the epoch) stands in for it.
    """
    for prefix in ("", "llm_provider-"):
        milliseconds = _number(headers.get(f"{prefix}retry-after-ms"))
        if milliseconds is not None:
            return milliseconds / 1000
        value = headers.get(f"{prefix}retry-after")
        if value is not None:
            seconds, until = _number(value), _epoch(value)
            if seconds is None and until is not None:
                return max(0.0, until - (_epoch(headers.get(f"{prefix}date", headers.get("date", ""))) or now))
            return seconds
    return None


def rate_limit_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of an answer that speak about limits, names in lower case."""
    names = ("ratelimit", "rate-limit", "call-limit", "retry-after")
    return {name.lower(): value for name, value in headers.items() if any(word in name.lower() for word in names)}


@dataclass(frozen=True, slots=True)
class Vendor:
    """Speaks about one vendor's failures without ever naming a secret.

    `key_hint`: what a person may do about a refused key, where it is not plain.
    """

    name: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    key_hint: str = ""

    def refusal(self, status: int, headers: Mapping[str, str], body: object) -> StreamerError:
        """The error for an answer that is not a success. `body`: bytes, text, or parsed JSON."""
        error = self._refusal(status, headers, body)
        error.status = status
        return error

    def _refusal(self, status: int, headers: Mapping[str, str], body: object) -> StreamerError:
        said = stated(body)
        wait = retry_after({name.lower(): value for name, value in headers.items()}, time.time())
        is_wrapped = 200 <= status < 300
        message = f"{self.name} answered {status}" + (" with an error" if is_wrapped else "")
        message += f": {quoted(self.redact(said.reason))}" if said.reason else ""
        status = status_inside(said) if is_wrapped else status
        match meaning(status, said):
            case "retriable":
                return RetriableError(message, retry_after=wait)
            case "limited":
                return RateLimited(message, retry_after=wait)
            case "blocked":
                advice = remedy(status, said)
                advice += f" ({self.key_hint})" if self.key_hint and "API key" in advice else ""
                in_doubt = status in (400, 413, 422)
                return ProviderBlocked(
                    f"{message}; {advice}", retry_after=wait, in_doubt=in_doubt, cause=cause(status, said)
                )
            case "too_long":
                return RejectedError(message, kind="too_long")
            case "rejected":
                return RejectedError(message)

    def raise_wrapped(self, headers: Mapping[str, str], answer: dict[str, Any], data: object) -> None:
        """Raise the error inside an answer with status 200 whose embeddings are `data`, if there is one."""
        if wraps_error(answer, data):
            raise self.refusal(200, headers, answer)

    def unreachable(self, cause: BaseException) -> RetriableError:
        """The error for a connection that could not be made, broke, or carried something that is not HTTP, or more than
        an answer may hold."""
        if (too_much := too_large(cause)) is not None:
            return self.unusable(str(too_much))
        name, said = type(cause).__name__, self.redact(str(cause))
        # Why a connection could not be made the system says; all else may quote what went over it.
        is_ours = name.startswith("Connect")
        words = said if is_ours or not said else quoted(said)
        return RetriableError(f"{self.name}: {name}" + (f": {words}" if words else ""), may_be_billed=not is_ours)

    @contextmanager
    def answer_within(self, seconds: float) -> Iterator[None]:
        """Bounds a whole call.

        The HTTP client's own read time-out starts anew with every byte: a body that drips would hold a slot for ever.
        """
        try:
            with anyio.fail_after(seconds):
                yield
        except TimeoutError:
            raise RetriableError(f"{self.name} did not answer within {seconds:g} s", may_be_billed=True) from None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turns an answer that cannot be used (ValueError) into a retry, or into a block where a retry is no use."""
        try:
            yield
        except Unordered as exc:
            raise ProviderBlocked(f"{self.name} sent an answer that cannot be used: {exc}") from None
        except ValueError as exc:
            raise self.unusable(str(exc)) from None

    def unusable(self, why: str) -> RetriableError:
        said = f"{self.name} sent an answer that cannot be used: {self.redact(why)}"
        error = RetriableError(said, may_be_billed=True)
        error.status = 200
        return error

    def redact(self, text: str) -> str:
        """The text on one line, cut, without our secrets and without keys that the vendor itself has half masked."""
        for secret in self.secrets:
            text = text.replace(secret, "[redacted]")
        text = without_credentials(text)
        text = re.sub(r"\S*\*{3}\S*", "[redacted]", " ".join(text.split()))
        return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"


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
