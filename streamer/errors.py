"""Every error that `streamer` raises on purpose.

```
StreamerError
├── ConfigurationError        wrong settings or arguments; nothing was opened (exit code 2)
│   └── MissingExtra          an optional package is not installed; says which extra brings it
├── Unreachable               something outside cannot be reached: broker, topic, provider (exit code 3)
├── Unwritable                a file or stream takes nothing more: its disk is full (exit code 3)
├── RetriableError            try again, the texts are fine: timeouts, 5xx, connection errors
│   ├── RateLimited           429 and friends: also tells the limiter to slow down
│   └── ProviderBlocked       wrong key, exhausted quota, unknown model: retried slowly, intake pauses meanwhile
│       └── SpendLimitReached what the settings allow to be spent is spent
├── RejectedError             this input can never succeed: bisect, then dead letter
├── Refused                   the broker refuses some messages, and has taken the others
│   └── TooLarge              for their size
├── SpaceMismatch             a vector, a query or a provider of another vector space
└── PartitionLost             a commit was refused: another member owns the partition now and will replay
```
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

# Why an input never becomes a vector, as the dead-letter topic tells it in `streamer-error-kind`.
DeadLetterKind: TypeAlias = Literal[
    "undecodable", "missing_text", "empty_text", "too_long", "rejected", "invalid_vector", "too_large", "unpublishable"
]

_USER: Final = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#\"'<>]*@", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"([?&][\w.%-]*(?:key|token|secret|passw|pwd|sig|auth|credential)[\w.%-]*=)[^&\s\"'#<>]+", re.IGNORECASE
)
_STARS: Final = "***"
_QUOTED: Final = re.compile(r"“[^”]*(?:”|$)")

_NO_ROOM: Final[Mapping[int | None, str]] = {
    errno.ENOSPC: "no space is left on its disk; make room and run it again",
    errno.EDQUOT: "the quota of its disk is used up; make room and run it again",
    errno.EFBIG: "it may not grow any further, by a limit of the process or of its disk",
    errno.EIO: "its disk, or the terminal that it leads to, fails or is gone",
}


class StreamerError(Exception):
    """Base of all errors raised on purpose; its text is fit to be shown to a person.

    `status`: of the HTTP answer that it comes from, None where there was none.
    """

    status: int | None = None


class ConfigurationError(StreamerError):
    """Settings or arguments are wrong. The text names the key, the value and what would be right."""


class MissingExtra(ConfigurationError):
    """The optional dependency `package` is missing; `extra` of the distribution brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; run: pip install 'embedding-streamer[{extra}]' "
            f"(in a checkout: pip install -c constraints.txt -e '.[{extra}]')"
        )


class Unreachable(StreamerError):
    """A broker, topic or provider that the command needs does not answer."""


class Unwritable(StreamerError):
    """A file or standard output takes nothing more: no space, no quota, or a device that fails."""


class RetriableError(StreamerError):
    """The call failed, and may succeed later: a timeout, a lost connection, a server error.

    `retry_after`: seconds the other side asked us to wait, None when it did not say. `may_be_billed`: the other side
    had the texts, and may have done its work.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, may_be_billed: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.may_be_billed = may_be_billed


class RateLimited(RetriableError):
    """The provider refused the call because too many requests or tokens were sent."""


class ProviderBlocked(RetriableError):
    """The provider refuses every call: wrong key, exhausted quota, unknown model. Only a person can fix that.

    `in_doubt`: it may refuse these texts alone, so a harmless one had better be tried before everything waits. `cause`:
    whether it is the key or the quota.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        in_doubt: bool = False,
        cause: Literal["key", "quota", "other"] = "other",
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.in_doubt = in_doubt
        self.cause = cause


class SpendLimitReached(ProviderBlocked):
    """Nothing may be spent before the next day or month begins, or a limit is raised. Says which and when."""


class RejectedError(StreamerError):
    """The provider refuses this input, and would refuse it again. With several texts in the call, one of them may be
    the reason.

    `kind`: the dead-letter kind that fits when a single text is left; ValueError for one that is not documented.
    """

    def __init__(self, message: str, *, kind: DeadLetterKind = "rejected") -> None:
        super().__init__(message)
        if kind not in get_args(DeadLetterKind):
            raise ValueError(f"{kind!r} is not a dead-letter kind; known are: {', '.join(get_args(DeadLetterKind))}")
        self.kind = kind


class Refused(StreamerError):
    """The broker refused some messages for what they are, and took the others.

    `positions`: the indices of the refused ones in what was sent.
    """

    def __init__(self, positions: Collection[int], reason: str = "") -> None:
        super().__init__(f"the broker refuses {len(positions)} messages: {reason}")
        self.positions = frozenset(positions)


class TooLarge(Refused):
    """The broker refused some messages because they are too large, and took the others."""

    def __init__(self, positions: Collection[int]) -> None:
        super().__init__(
            positions,
            "they are larger than their topic allows; raise its max.message.bytes, or lower kafka.max_message_bytes",
        )


class SpaceMismatch(StreamerError):
    """A vector, query or provider belongs to another vector space than the rest."""


class PartitionLost(StreamerError):
    """The group moved on while we were committing; the new owner replays from the last commit.

    `partitions`: which of them, where it is not all that the call was about.
    """

    def __init__(self, message: str, partitions: Collection[object] = ()) -> None:
        super().__init__(message)
        self.partitions = frozenset(partitions)


def unwritable(what: object, error: OSError) -> StreamerError:
    """The error for what cannot be written: Unwritable where there is no room, ConfigurationError where it is a wrong
    place."""
    if error.errno in _NO_ROOM:
        return Unwritable(f"{what} cannot be written: {_NO_ROOM[error.errno]}")
    return ConfigurationError(f"{what} cannot be written: {error.strerror or error}")


def quoted(words: str) -> str:
    """Words of somebody else, such as a provider's answer, for the text of an error.

    They may repeat what a user wrote, which a log must not hold: `without_quotes` finds them by these quotation marks.
    """
    inner = words.replace("“", '"').replace("”", '"')
    return f"“{inner}”"


def without_quotes(text: str) -> str:
    """The text with all that was `quoted` left out, even where its end has been cut off."""
    return _QUOTED.sub("“…”", text)


def without_credentials(text: str) -> str:
    """User, password and secret parameters of every address are stars: `https://***@host/?key=***`."""
    if "://" in text:
        text = _USER.sub(rf"\1{_STARS}@", text)
    return _PARAMETER.sub(rf"\1{_STARS}", text) if "=" in text else text


def redacted(value: Any) -> Any:
    """The same for every string of a document."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {key: redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value
