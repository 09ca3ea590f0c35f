"""Events that were remembered without a verdict, and that nothing has been learned from."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from streamer.core.sketch import TextForm, unpack_form

_CAUGHT_UP: Final = 2_048  # events that are made up for


class Unseen:
    """The ids and forms of the latest of them."""

    def __init__(self) -> None:
        # Forms as they came: most of those that are packed are never asked for.
        self._latest: deque[tuple[str, TextForm | bytes | None]] = deque(maxlen=_CAUGHT_UP)

    def extend(self, events: Iterable[tuple[str, TextForm | bytes | None]]) -> None:
        """Forms may be packed, as a header carries them."""
        self._latest.extend(events)

    def take(self) -> list[tuple[str, TextForm | None]]:
        """All of them, in order of arrival; there are none left."""
        taken = self._unpacked()
        self._latest.clear()
        return taken

    def state(self) -> Any:
        """A copy, as JSON can hold it."""
        return [(id, form and list(form)) for id, form in self._unpacked()]

    def resume(self, state: Any) -> None:
        """Go on from another one's state."""
        self._latest.extend((id, form and TextForm(*form)) for id, form in state)

    def _unpacked(self) -> list[tuple[str, TextForm | None]]:
        return [(id, unpack_form(form) if isinstance(form, bytes) else form) for id, form in self._latest]
