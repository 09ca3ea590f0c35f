"""Files and standard streams that commands write: what cannot be written is named, and a log of no use ends nothing."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from streamer.errors import StreamerError, Unwritable, unwritable

if TYPE_CHECKING:
    from typing_extensions import Buffer

STANDARD_OUTPUT: Final = "standard output"


class NamedFile(io.FileIO):
    """A file for writing whose errors name it as `shown`: those of the system do so only when a file is opened.

    It writes all that it is given. A system that has room for a part takes that part, which Python's unbuffered output
    (PYTHONUNBUFFERED) leaves at that, without a word.
    """

    def __init__(self, file: int | str | os.PathLike[str], shown: object, *, closefd: bool = True) -> None:
        super().__init__(file, "wb", closefd=closefd)
        self._shown = str(shown)

    def write(self, data: Buffer, /) -> int:
        rest, written = memoryview(data).cast("B"), 0
        try:
            while written < len(rest):
                taken = super().write(rest[written:])
                if taken is None:  # of a pipe that is not to be waited for, as BufferedWriter knows it
                    break
                written += taken
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, self._shown) from None
        return written


class _Unfailing(io.FileIO):
    """Standard error: a full disk or a reader who went away must not end the work that there is something to say of."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


def name_standard_streams() -> None:
    """Have standard output name itself in errors, and standard error make none. What is not a plain stream of the
    system is left alone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(AttributeError, OSError, ValueError):  # something else, or closed
            number = stream.fileno()
            raw = (
                NamedFile(number, STANDARD_OUTPUT, closefd=False)
                if name == "stdout"
                else _Unfailing(number, "wb", closefd=False)
            )
            is_buffered = isinstance(stream.buffer, io.BufferedWriter)
            named = io.TextIOWrapper(
                io.BufferedWriter(raw) if is_buffered else raw,  # as `python -u` has it
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            stream.flush()
            setattr(sys, name, named)


def let_go_of_standard_output() -> None:
    """What is left goes nowhere: written at the exit, it would fail once more and change the exit code."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unwritten(error: BaseException) -> StreamerError | None:
    """The error for a person, where it is one of writing a file or stream that is known by name."""
    if isinstance(error, OSError) and error.filename is not None:
        found = unwritable(error.filename, error)
        return found if isinstance(found, Unwritable) else None
    return None
