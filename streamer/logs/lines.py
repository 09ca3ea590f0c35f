"""The one way that every log line takes, ours and the libraries': private words and secrets out, repeats counted."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, MutableMapping
from contextlib import suppress
from typing import Any, Final, TextIO, TypeAlias

import orjson
import structlog

from streamer.core.outages import normalized
from streamer.errors import without_credentials, without_quotes
from streamer.logs.repeats import Repeated, Repeats
from streamer.logs.tracebacks import traceback_text

Line: TypeAlias = dict[str, Any]

SHORTEST_SECRET: Final = 6  # characters; to cut out a shorter one would destroy the lines
_COUNTED: Final = ("warning", "error", "critical")
_NOT_COMPARED: Final = ("timestamp", "source", "exception")


class Stream:
    """Standard error, as a stream that never fails: a full disk or a reader who went away must not end the work that
    there is something to say about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: it was closed
            return 0

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class Lines:
    """Ends the processor chain of structlog; `tell` takes the libraries' lines.

    From warnings upwards, lines that repeat one another within `interval` seconds are counted: a timer tells how many
    there were, with the last of them. Lines are equal if logger, level, event and facts are, but for numbers, `source`
    and what varies in a `reason`.
    """

    def __init__(
        self,
        stream: Stream,
        render: Callable[[Line], str],
        *,
        include_texts: bool = False,
        secrets: Collection[str] = (),
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._render = render
        self._include_texts = include_texts
        told = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        # A quote or a backslash in a secret is escaped in JSON.
        escaped = [orjson.dumps(secret).decode()[1:-1] for secret in told]
        self._secrets = sorted({*told, *escaped}, key=len, reverse=True)
        self._interval = interval
        self._clock = clock
        self._repeats: Repeats[Line] = Repeats(interval)
        self._library_repeats: Repeats[Line] = Repeats(2 * interval)  # they say the same in several ways
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def __call__(self, _: Any, __: str, event_dict: MutableMapping[str, Any]) -> str:
        """A processor. Raises DropEvent for a line that is only counted."""
        line = dict(event_dict)
        facts = tuple(
            sorted(
                (key, normalized(str(value)) if key == "reason" else str(value))
                for key, value in line.items()
                if key not in _NOT_COMPARED and isinstance(value, str | list)
            )
        )
        text = self._told(self._repeats, line, (line.get("logger"), line["level"], line["event"]), facts)
        if text is None:
            raise structlog.DropEvent
        return text

    def tell(self, line: Line, template: str) -> None:
        """Write a library's line. `template`: its message before the values are put in."""
        text = self._told(self._library_repeats, line, (line["logger"], line["level"]), normalized(template))
        if text is not None:
            self._write(text)

    def tell_repeats(self) -> None:
        """Write the summaries that are due."""
        with self._lock:
            self._timer = None
            now = self._clock()
            found = [*self._repeats.due(now), *self._library_repeats.due(now)]
            self._start_timer()
        self._write_all(found)

    def close(self) -> None:
        """Write what was counted and not told yet. Lines that come later are all written."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            found = [*self._repeats.rest(), *self._library_repeats.rest()]
        self._write_all(found)

    def _told(self, repeats: Repeats[Line], line: Line, group: tuple[Any, ...], detail: object) -> str | None:
        """The line as it is to be written; None if it is counted."""
        self._clean(line)
        if line["level"] in _COUNTED and not self._closed:
            with self._lock:
                is_first = repeats.is_first(group, detail, line, self._clock())
                self._start_timer()
            if not is_first:
                return None
        return self._rendered(line)

    def _clean(self, line: Line) -> None:
        exc_info = line.pop("exc_info", None)
        if exc_info:
            error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
            error = exc_info[1] if isinstance(exc_info, tuple) else error
            if error is not None:
                line["exception"] = traceback_text(error, include_texts=self._include_texts)
        if not self._include_texts:
            for key, value in line.items():
                if isinstance(value, str):
                    line[key] = without_quotes(value)
                elif isinstance(value, list | tuple):
                    line[key] = [without_quotes(item) if isinstance(item, str) else item for item in value]

    def _rendered(self, line: Line) -> str:
        # Addresses with a user and password get into lines as parts of libraries' messages, and of errors.
        text = without_credentials(self._render(line))
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text

    def _start_timer(self) -> None:
        """The lock is held. There is a timer only while something may become due."""
        pending = self._repeats.pending() or self._library_repeats.pending()
        if self._timer is None and pending and not self._closed:
            self._timer = threading.Timer(self._interval, self.tell_repeats)
            self._timer.daemon = True
            self._timer.start()

    def _write_all(self, found: Collection[Repeated[Line]]) -> None:
        for repeated in found:
            event = f"{repeated.last['event']} (repeated)"
            self._write(self._rendered({**repeated.last, "event": event, "count": repeated.count}))

    def _write(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
