"""Where `streamer embed` puts vectors: JSON lines on standard output or in a file, or the rows of a NumPy file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedWriter
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import orjson

from streamer.commands.writing import NamedFile
from streamer.core.vectors import Space, Vector
from streamer.errors import ConfigurationError, unwritable
from streamer.protocols import Embedding, Rejection

Id: TypeAlias = str | int | None

SUFFIXES = (".npy", ".jsonl")


class JsonLines:
    """A line a text: `id` if there are ids, `text`, `vector`, `model`, `space`, `tokens`, `truncated`, `cache_hit`; or
    `id`, `text`, `error_kind`, `error`."""

    def __init__(self, file: IO[bytes], space: Space, *, ids: bool = False) -> None:
        self._file = file
        self._space = space
        self._has_ids = ids

    def write(self, text: str, outcome: Embedding | Rejection, id: Id) -> None:
        line: dict[str, Any] = {"id": id} if self._has_ids else {}
        line["text"] = text.encode("utf-8", "replace").decode()
        if isinstance(outcome, Embedding):
            line |= {"vector": outcome.vector, "model": self._space.model, "space": self._space.id}
            line |= {"tokens": outcome.tokens, "truncated": outcome.truncated, "cache_hit": outcome.cache_hit}
        else:
            line |= {"error_kind": outcome.kind, "error": outcome.reason}
        self._file.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))
        self._file.flush()

    def finish(self) -> None:
        """Nothing is left to do."""


class NumpyRows:
    """A float32 matrix for `numpy.load`, row i for text i; NaN for a text without a vector. `ids`: a file for the ids,
    line i for row i, as JSON."""

    def __init__(self, file: IO[bytes], space: Space, ids: IO[bytes] | None = None) -> None:
        self._file = file
        self._ids = ids
        self._dimensions = space.dimensions
        self._count = 0
        self._write_header()

    def write(self, text: str, outcome: Embedding | Rejection, id: Id) -> None:  # noqa: ARG002  it holds no texts
        nothing: Vector = np.full(self._dimensions, np.nan, dtype=np.float32)
        row = outcome.vector if isinstance(outcome, Embedding) else nothing
        self._file.write(row.astype("<f4", copy=False).tobytes())
        self._count += 1
        if self._ids:
            self._ids.write(orjson.dumps(id, option=orjson.OPT_APPEND_NEWLINE))

    def finish(self) -> None:
        """Say in the header, which numpy makes wide enough for any count, how many rows there are."""
        self._file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (self._count, self._dimensions)}
        np.lib.format.write_array_header_1_0(self._file, shape)


def check_output(path: Path | None) -> None:
    """Raises ConfigurationError for a file that no vectors can be written to."""
    if path is None:
        return
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"--output {path}: its name must end in {' or '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--output {path}: there is no folder {path.parent}")


@contextmanager
def open_vector_file(path: Path | None, space: Space, *, ids: bool = False) -> Iterator[JsonLines | NumpyRows]:
    """None: standard output. A file is put in its place when it is complete; nothing is left of one that is not.

    With `ids` each text has one; those of `vectors.npy` lie beside it in `vectors.ids.jsonl`.
    """
    if path is None:
        yield JsonLines(sys.stdout.buffer, space, ids=ids)
        return
    with ExitStack() as stack:
        file = stack.enter_context(_complete_or_not_at_all(path))
        if path.suffix == ".npy":
            beside = path.with_suffix(".ids.jsonl")
            writer: JsonLines | NumpyRows = NumpyRows(
                file, space, stack.enter_context(_complete_or_not_at_all(beside)) if ids else None
            )
        else:
            writer = JsonLines(file, space, ids=ids)
        yield writer
        writer.finish()


@contextmanager
def _complete_or_not_at_all(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f"{path.name}.part")
    try:
        file = BufferedWriter(NamedFile(part, path))
    except OSError as exc:
        raise unwritable(path, exc) from exc
    try:
        with file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
