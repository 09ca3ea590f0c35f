"""How to read a file of texts, as the options of a command say.

Apart from what reads files, so that `cli.py` imports no numpy (see its `main`).
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.errors import ConfigurationError

FORMATS = ("auto", "text", "jsonl", "csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFormat:
    """How to read a file. `columns`: the names of a CSV file without a header. `encoding` None: UTF-8, or UTF-16 if it
    begins with its mark. `quotes`: double quotes hold CSV fields together, instead of being characters like others."""

    kind: str = "auto"
    delimiter: str | None = None
    columns: Sequence[str] | None = None
    encoding: str | None = None
    quotes: bool = True

    def __post_init__(self) -> None:
        if self.kind not in FORMATS:
            raise ConfigurationError(f"--format {self.kind}: it must be one of {', '.join(FORMATS)}")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ConfigurationError(f"--delimiter {self.delimiter!r}: it must be one character, or tab")
        if self.columns is not None and len(set(self.columns)) < len(self.columns):
            raise ConfigurationError(f"--columns {','.join(self.columns)}: a name comes twice")
        try:
            codecs.lookup(self.encoding or "utf-8")
        except LookupError:
            raise ConfigurationError(f"--encoding {self.encoding}: Python knows no such encoding") from None
