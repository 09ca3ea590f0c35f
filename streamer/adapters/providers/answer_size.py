"""How much of an answer is read and unpacked: what the vectors that were asked for can take, and no more.

The vendors' clients read an answer whole, however long it is. Hooks of their HTTP client see each one before that: the
request takes no compression but zlib's, and the response is read through `_bounded`. Of a refusal the beginning is
read, where its reason stands.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

import httpx

MEBIBYTE: Final = 1 << 20
LEAST_BYTES: Final = 8 * MEBIBYTE
"""What any answer may take: the rest of it, and white space."""
REFUSAL_BYTES: Final = MEBIBYTE
"""Of an answer that is no success."""

_NUMBER_BYTES: Final = 32  # one number in JSON, with the spaces of those who print it
_LEAST_DIMENSIONS: Final = 4096  # a wrong model's vectors are to be read, so that its error says so
_CHARACTER_BYTES: Final = 12  # of a text that is sent back, as two escapes
_PIECE: Final = 64 * 1024

# Set by the adapter in the context of the task that calls.
_LIMIT: ContextVar[int] = ContextVar("answer_bytes", default=LEAST_BYTES)


class AnswerTooLarge(httpx.DecodingError):
    """It is longer than the vectors can take; its text completes `sent an answer that cannot be used: ...`."""


def answer_bytes(texts: Sequence[str], dimensions: int) -> int:
    """Bytes of the longest answer to these texts that there can rightly be, with room to spare."""
    vectors = len(texts) * max(dimensions, _LEAST_DIMENSIONS) * _NUMBER_BYTES
    return LEAST_BYTES + vectors + _CHARACTER_BYTES * sum(map(len, texts))


def expect_answer(texts: Sequence[str], dimensions: int) -> None:
    """What this task asks for from now on is answered in so many bytes."""
    _LIMIT.set(answer_bytes(texts, dimensions))


def too_large(error: BaseException | None) -> AnswerTooLarge | None:
    """The one that is behind an error of a vendor's client."""
    while error is not None and not isinstance(error, AnswerTooLarge):
        error = error.__cause__ or error.__context__
    return error


async def ask_for_zlib(request: Any) -> None:
    """A hook for requests. How far other formats unpack cannot be bounded while they do."""
    request.headers["accept-encoding"] = "gzip, deflate"


def bounding(library: ModuleType) -> Any:
    """A hook for responses of a client of `library`, which is httpx or the continuation that openai uses."""

    class Bounded(library.AsyncByteStream):  # type: ignore[misc, name-defined]  # which the client demands
        def __init__(self, response: Any, encoding: str) -> None:
            self._stream = response.stream
            self._pieces = _bounded(response, response.stream, encoding, _LIMIT.get())

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self._pieces

        async def aclose(self) -> None:
            await self._pieces.aclose()
            await self._stream.aclose()

    async def bound(response: Any) -> None:
        encoding = response.headers.pop("content-encoding", "").strip().lower()
        response.stream = Bounded(response, encoding)

    return bound


async def _bounded(response: Any, stream: Any, encoding: str, limit: int) -> AsyncGenerator[bytes, None]:
    """The answer, unpacked, in pieces that are not tiny: each costs the client more memory than its bytes.

    Raises AnswerTooLarge, and DecodingError for what cannot be unpacked.
    """
    is_refusal = not 200 <= response.status_code < 300
    limit = REFUSAL_BYTES if is_refusal else limit
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit and not is_refusal:
        raise _too_large(limit)
    unpack = _unpacking(encoding)
    read = unpacked = 0
    waiting = bytearray()
    async with aclosing(aiter(stream)) as source:
        async for raw in source:
            read += len(raw)
            for piece in unpack(raw):
                waiting += piece
                unpacked += len(piece)
                if unpacked > limit:
                    break
                if len(waiting) >= _PIECE:
                    yield bytes(waiting)
                    waiting.clear()
            if max(read, unpacked) > limit:
                if is_refusal:
                    break
                raise _too_large(limit)
    yield bytes(waiting)


def _too_large(limit: int) -> AnswerTooLarge:
    return AnswerTooLarge(f"it is longer than {limit / MEBIBYTE:,.1f} MiB, which is more than its vectors can take")


def _unpacking(encoding: str) -> Callable[[bytes], Iterable[bytes]]:
    """A function that unpacks what comes next, piece by piece. What follows the end is left out."""
    if encoding in ("", "identity"):
        return lambda raw: (raw,)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"its content-encoding is {encoding}, which was not asked for")
    inflater: Any = None

    def unpack(raw: bytes) -> Iterator[bytes]:
        nonlocal inflater
        if inflater is None and raw:
            # By "deflate" some servers mean the bare stream, whose first byte is neither gzip's nor zlib's.
            is_bare = raw[0] != 0x1F and raw[0] & 0x0F != 8
            inflater = zlib.decompressobj(-zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS | 32)
        try:
            while raw and not inflater.eof and (piece := inflater.decompress(raw, _PIECE)):
                yield piece
                raw = inflater.unconsumed_tail
        except zlib.error as exc:
            raise httpx.DecodingError(str(exc)) from None

    return unpack
