"""What a role waits for, in one word for machines and one sentence for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

# One word a reason: the label of metrics, on which people write alerts. Never rename one.
Reason: TypeAlias = Literal[
    "starting",  # the process has just begun
    "loading_snapshot",
    "restoring",
    "group",  # no partitions have been assigned yet
    "stopping",
    "stopped",
    "publishing",  # the brokers do not accept messages
    "consuming",  # no answer from the brokers, or they reject the credentials
    "index",  # the database of vectors does not answer
    "partition",  # one of them cannot be read, the others flow
    "commit",  # so much is done and not committed that nothing more is read
    "dead_letters",  # nearly all records become dead letters
    "provider_down",
    "provider_rate_limited",
    "provider_key",  # rejected by the provider
    "provider_quota",  # used up
    "provider_blocked",  # for another reason that needs a person: an unknown model, a wrong address
    "spend_limit",
]
Lack: TypeAlias = Literal[
    "cache",
    "snapshot",
    "disk_full",
    "commit",  # offsets are not committed, so a crash would repeat work
]

_DISK_FULL: Final = re.compile(
    r"disk is full|no space left|quota exceeded", re.I
)  # SQLite's, ENOSPC's and EDQUOT's words
_PROVIDER: Final = ("provider_down", "provider_rate_limited", "provider_key", "provider_quota", "provider_blocked")
WORKER_REASONS: Final[tuple[Reason, ...]] = (
    "group", "stopping", "publishing", "consuming", "partition", "commit", "dead_letters", *_PROVIDER, "spend_limit",
)  # fmt: skip
INDEXER_REASONS: Final[tuple[Reason, ...]] = (
    "starting", "loading_snapshot", "restoring", "stopped", "publishing", "consuming", "index", *_PROVIDER,
    "spend_limit",
)  # fmt: skip
WORKER_LACKS: Final[tuple[Lack, ...]] = ("cache", "disk_full", "commit")
INDEXER_LACKS: Final[tuple[Lack, ...]] = ("cache", "snapshot", "disk_full", "commit")


@dataclass(frozen=True, slots=True)
class Waiting:
    """`text`: the sentence. `until`: when it is tried again; `since`: from when on it holds, where that is known better
    than from looking. Both in seconds since the epoch, None where nobody knows."""

    reason: Reason | Lack
    text: str
    until: float | None = None
    since: float | None = None


def joined(waits: Sequence[Waiting]) -> Waiting | None:
    """All of them as one, which ends when the first of them may; None without any."""
    if not waits:
        return None
    ends = [waiting.until for waiting in waits if waiting.until is not None]
    return Waiting(waits[0].reason, "; ".join(waiting.text for waiting in waits), min(ends, default=None))


def flags(reasons: Iterable[str], found: Iterable[Waiting | None]) -> Mapping[str, bool]:
    """Each of the reasons, and whether one of those that were found is it."""
    present = {waiting.reason for waiting in found if waiting is not None}
    return {reason: reason in present for reason in reasons}


def lacking(part: Literal["cache", "snapshot"], problem: str | None) -> Waiting | None:
    """What a role does without because of this fault of a file; None without one."""
    if problem is None:
        return None
    return Waiting("disk_full" if _DISK_FULL.search(problem) else part, f"{part}: {problem}")


@dataclass(frozen=True, slots=True)
class Held:
    """A Waiting, and since when. `since`, `until`: seconds since the epoch."""

    reason: Reason | Lack
    text: str
    since: float
    until: float | None


class Waits:
    """Since when each reason holds, for a role that is looked at again and again."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def observe(self, found: Iterable[Waiting], now: float) -> list[Held]:
        """All that are waited for at `now`, seconds since the epoch; what is not among them is over."""
        waits = list(found)
        self._since = {waiting.reason: waiting.since or self._since.get(waiting.reason, now) for waiting in waits}
        return [Held(waiting.reason, waiting.text, self._since[waiting.reason], waiting.until) for waiting in waits]
