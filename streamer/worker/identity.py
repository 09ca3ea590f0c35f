"""Whether events and tombstones agree on ids: a tombstone has nothing but its key."""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from streamer.core.decoding import Decoder
from streamer.core.events import Event, Input, Tombstone

log = structlog.get_logger(__name__)


class IdentityCheck:
    """Says once, and loudly, that tombstones delete nothing: `input.id_field` gave a keyed event another id than its
    key would, and a tombstone came, before or after it."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._event: tuple[str, str] | None = None  # the id of one, and what its key says
        self._tombstone: Tombstone | None = None
        self._is_over = decoder.id_field is None

    def note(self, inputs: Iterable[Input]) -> None:
        """These have been read."""
        for decoded in inputs:
            if self._is_over:
                return
            self._compare(decoded)

    def _compare(self, decoded: Input) -> None:
        if isinstance(decoded, Tombstone):
            self._tombstone = decoded
        elif isinstance(decoded, Event) and self._event is None and decoded.record.key:
            by_key = self._decoder.tombstone_id(decoded.record)
            self._event = (decoded.id, by_key) if by_key != decoded.id else None
        if self._event is None or self._tombstone is None:
            return
        self._is_over = True
        origin = self._tombstone.origin
        log.error(
            "tombstones delete nothing: input.id_field takes ids out of the value, a tombstone has only its key; set "
            "input.key_field to the path of the id inside a JSON key, or leave input.id_field out",
            id_field=self._decoder.id_field,
            event_id=self._event[0][:100],
            id_by_key=self._event[1][:100],
            tombstone=f"{origin.tp}/{origin.offset}",
        )
