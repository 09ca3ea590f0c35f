"""Which near-duplicates belong together: the first event of each one's group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class Groups(Protocol):
    """What a judge knows of the groups of the events that are remembered, by id."""

    def first(self, id: str) -> str:
        """Of the id's group; the id itself where it has not joined one."""
        ...

    def is_unjudged(self, id: str) -> bool:
        """Whether it was restored without a verdict, and not needed since: nobody knows its group."""
        ...

    def judged(self, id: str, first: str | None) -> None:
        """It has joined the group of `first`; None: it begins one of its own."""
        ...

    def restored(self, ids: Sequence[str]) -> None:
        """Remembered, without a verdict."""
        ...

    def forget(self, id: str) -> None:
        """Of whoever belongs to its group nothing changes."""
        ...

    def sweep(self, count: int, is_known: Callable[[str], bool]) -> None:
        """Drop what is known of other ids than the `count` that are remembered, if it is time for it."""
        ...

    def state(self) -> Mapping[str, Any]:
        """A copy of all of it, as JSON can hold it."""
        ...

    def resume(self, state: Mapping[str, Any]) -> None: ...


class LocalGroups:
    """Groups in memory: of near-duplicates the first of their group, and the ids without a verdict.

    An id without a verdict takes 27 to 54 bytes: a place in a set, which doubles. Of a million it is 34, and 17 of the
    smaller table before, which malloc keeps. The id itself is the index's.
    """

    def __init__(self) -> None:
        self._firsts: dict[str, str] = {}
        self._unjudged: set[str] = set()

    def __len__(self) -> int:
        return len(self._firsts) + len(self._unjudged)

    def first(self, id: str) -> str:
        return self._firsts.get(id, id)

    def is_unjudged(self, id: str) -> bool:
        return id in self._unjudged

    def judged(self, id: str, first: str | None) -> None:
        self._unjudged.discard(id)
        if first is None:
            self._firsts.pop(id, None)
        else:
            self._firsts[id] = first

    def restored(self, ids: Sequence[str]) -> None:
        self._unjudged.update(ids)
        if self._firsts:
            for id in ids:
                self._firsts.pop(id, None)

    def forget(self, id: str) -> None:
        self._unjudged.discard(id)
        self._firsts.pop(id, None)

    def sweep(self, count: int, is_known: Callable[[str], bool]) -> None:
        """Now and then: nobody can ask for those that the index has forgotten."""
        if len(self) > 2 * count + 1024:
            self._firsts = {id: first for id, first in self._firsts.items() if is_known(id)}
            self._unjudged = {id for id in self._unjudged if is_known(id)}

    def state(self) -> Mapping[str, Any]:
        return {"firsts": dict(self._firsts), "unjudged": list(self._unjudged)}

    def resume(self, state: Mapping[str, Any]) -> None:
        self._firsts.update(state["firsts"])
        self._unjudged.update(state["unjudged"])
