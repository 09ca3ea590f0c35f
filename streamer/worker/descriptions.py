"""Sketches and forms of a batch of texts at once: the same bytes as `core.sketch` makes of one text after the other.

A text by itself is a score of small steps in Python. Of many texts the bytes lie behind each other in one array, and
each step is taken for all of them. Only ASCII texts of moderate length go that way; the others go one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from streamer.core.sketch import (
    EMPTY_SLOT,
    LINK,
    LINK_SIGNS,
    LONGEST_FORM,
    SKETCH_NUMBERS,
    SKETCH_WORDS,
    TextForm,
    form_of,
    sketch,
)

_FEW: Final = 32  # texts; fewer are as fast one by one
_GROUP_CHARACTERS: Final = 20_000  # in arrays at once: they stay in a processor's cache, and memory is bounded
_GAP: Final = "\n"  # around each text; no word, number or link reaches across it

_BYTES: Final = np.arange(256)
_UPPER: Final = (_BYTES >= 65) & (_BYTES <= 90)
_LOWER: Final = (_BYTES >= 97) & (_BYTES <= 122)
_DIGIT: Final = (_BYTES >= 48) & (_BYTES <= 57)
_WORDY: Final = _UPPER | _LOWER | _DIGIT | (_BYTES == 95)
_BYTE: Final = [bytes([byte]) for byte in range(256)]
_PRINTED: Final = ~np.isin(_BYTES, [*range(9, 14), *range(28, 33)])  # what str.split() leaves
_MARKED: Final = _BYTES == 33

# Five counts in one 64-bit sum, twelve bits each, which the longest text does not fill.
_COUNT_BITS: Final = 12
_COUNTED: Final = (_PRINTED, _UPPER | _LOWER, _UPPER, _DIGIT, _MARKED)
_COUNTS: Final = sum(
    (kind.astype(np.uint64) << np.uint64(_COUNT_BITS * place) for place, kind in enumerate(_COUNTED)),
    np.zeros(256, np.uint64),
)
# One bit for each different character: those from the blank to "_", with small letters as capitals, and the others.
_FOLDED: Final = np.where(_LOWER, _BYTES - 32, _BYTES)
_USUAL: Final = (_FOLDED >= 32) & (_FOLDED < 96)
_USUAL_BIT: Final = np.where(_USUAL, np.uint64(1) << (_FOLDED - 32).astype(np.uint64) % np.uint64(64), np.uint64(0))
_OTHER_BIT: Final = np.where(
    _USUAL, np.uint64(0), np.uint64(1) << np.where(_BYTES < 32, _BYTES, _BYTES % 64).astype(np.uint64)
)
_OTHERS: Final = bytes(_BYTES[~_USUAL].tolist())

# CRC-32 is linear: that of a word is the exclusive or of what each of its letters adds, by its distance from the end,
# and of what a word of that length has in any case.
_LONGEST_WORD: Final = 64  # letters; the CRC of longer ones is computed by itself
_ZEROS: Final = np.array([crc32(bytes(length)) for length in range(_LONGEST_WORD + 1)], np.uint32)
_LETTERS: Final = np.array(
    [
        crc32(bytes([byte]) + bytes(distance)) ^ int(_ZEROS[distance + 1])
        for distance in range(_LONGEST_WORD)
        for byte in range(256)
    ],
    np.uint32,
)


def descriptions(texts: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    """The sketch of each text, and its form."""
    places = [place for place, text in enumerate(texts) if len(text) <= LONGEST_FORM and text.isascii()]
    if len(places) < _FEW:
        return [*map(sketch, texts)], [*map(form_of, texts)]
    are_all = len(places) == len(texts)  # nearly always
    together = texts if are_all else [texts[place] for place in places]
    sketches: list[bytes] = []
    forms: list[bytes] = []
    for start, end in _groups(together):
        of_sketch, of_form = _described(together[start:end])
        sketches += of_sketch
        forms += of_form
    if are_all:
        return sketches, forms
    made = dict(zip(places, zip(sketches, forms, strict=True), strict=True))
    described = [made.get(place) or (sketch(text), form_of(text)) for place, text in enumerate(texts)]
    return [one for one, _ in described], [other for _, other in described]


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """From where to where texts are described together: groups about as long as each other, as none costs less for
    being short."""
    ends = list(accumulate([len(text) + len(_GAP) for text in texts]))
    count = 1 + ends[-1] // _GROUP_CHARACTERS
    cuts = [bisect_left(ends, ends[-1] * n // count) for n in range(count)]
    return ((start, end) for start, end in pairwise([*cuts, len(texts)]) if start < end)


def _described(texts: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    raw = f"{_GAP}{_GAP.join(texts)}{_GAP}".encode("ascii")
    sizes = np.fromiter(map(len, texts), np.intp, len(texts))
    ends = (sizes + 1).cumsum()  # of each text: where the gap behind it lies
    words = _Words.of(raw.lower())
    return _sketches(words, ends), _forms(raw, words, ends - sizes, ends)


class _Words(NamedTuple):
    """Where words begin and where they are over, and their letters, one after the other, in small letters."""

    starts: NDArray[np.intp]
    stops: NDArray[np.intp]
    spelled: NDArray[np.uint8]

    @classmethod
    def of(cls, lowered: bytes) -> _Words:
        inside = _marked(lowered, _WORDY)
        return cls(*_runs(inside), np.frombuffer(lowered, np.uint8).compress(inside))


def _marked(raw: bytes, kind: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.frombuffer(raw.translate(kind.tobytes()), np.bool_)


def _runs(inside: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where stretches begin, and where they are over. There is none at either end."""
    edges = (inside[1:] != inside[:-1]).nonzero()[0] + 1
    return edges[0::2], edges[1::2]


def _increases(upto: NDArray[np.intp]) -> NDArray[np.intp]:
    """By how much each is more than the one before it, the first one than 0."""
    found = upto.copy()
    found[1:] -= upto[:-1]
    return found


def _sketches(words: _Words, ends: NDArray[np.intp]) -> list[bytes]:
    count = len(ends)
    lengths = words.stops - words.starts
    firsts = lengths.cumsum() - lengths
    # Two parts of each text: 2n are its words, 2n + 1 its numbers.
    texts_of = np.repeat(np.arange(count, dtype=np.uint32), _increases(words.starts.searchsorted(ends)))
    parts_of = 2 * texts_of + _DIGIT.take(words.spelled.take(firsts))
    keys = parts_of << 16 | _checksums(words.spelled, firsts, lengths) % EMPTY_SLOT
    keys.sort()
    keys = np.concatenate((keys[:1], keys[1:].compress(keys[1:] != keys[:-1])))
    parts = np.bincount(keys >> 16, minlength=2 * count)
    most = np.tile([SKETCH_WORDS, SKETCH_NUMBERS], count)
    if (parts > most).any():
        ranks = np.arange(len(keys)) - np.repeat(np.cumsum(parts) - parts, parts)
        keys = keys.compress(ranks < np.repeat(most, parts))
        parts = np.minimum(parts, most)
    hashes = keys.astype("<u2").tobytes()  # the lower half of each
    bounds = [0, *(2 * np.cumsum(parts)[1::2]).tolist()]
    counts = parts[0::2].tolist()
    return [_BYTE[n] + hashes[start:end] for n, start, end in zip(counts, bounds, bounds[1:], strict=False)]


def _checksums(spelled: NDArray[np.uint8], firsts: NDArray[np.intp], lengths: NDArray[np.intp]) -> NDArray[np.uint32]:
    """CRC-32 of each word. `firsts`: where its letters begin."""
    if not len(lengths):
        return np.empty(0, np.uint32)
    distances = np.repeat(firsts + lengths - 1, lengths) - np.arange(len(spelled))
    has_long = int(lengths.max()) > _LONGEST_WORD
    if has_long:
        distances = np.minimum(distances, _LONGEST_WORD - 1)
    sums = np.bitwise_xor.reduceat(_LETTERS.take(distances << 8 | spelled), firsts)
    sums ^= _ZEROS.take(np.minimum(lengths, _LONGEST_WORD))
    if has_long:
        for place in np.flatnonzero(lengths > _LONGEST_WORD).tolist():
            sums[place] = crc32(spelled[firsts[place] :][: lengths[place]].tobytes())
    return sums


def _forms(raw: bytes, words: _Words, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> list[bytes]:
    letters = np.frombuffer(raw, np.uint8).astype(np.intp)  # as an index is wanted, three times
    counts = np.add.reduceat(_COUNTS.take(letters), begins)
    printed, alphabetic, capitals, digits, marks = (
        counts >> np.uint64(_COUNT_BITS * place) & np.uint64(2**_COUNT_BITS - 1) for place in range(len(_COUNTED))
    )
    starts, stops = _runs(_marked(raw, _PRINTED))
    upto = starts.searchsorted(ends)
    stretches = _increases(upto)
    longest = np.zeros(len(ends), np.intp)
    if len(starts):
        has_any = stretches > 0
        longest[has_any] = np.maximum.reduceat(stops - starts, (upto - stretches)[has_any])
    columns = {
        "characters": ends - begins,
        "printed": printed,
        "words": stretches,
        "longest": longest,
        "letters": alphabetic,
        "capitals": capitals,
        "digits": digits,
        "links": _links(raw, begins, ends),
        "exclamations": marks,
        "questions": _by_text(_places(raw, b"?"), ends),
        "distinct": _distinct(raw, letters, begins, ends),
        "shouted": _by_text(_shouted(raw, words), ends),
    }
    made = np.zeros((len(ends), len(TextForm._fields)), "<u2")
    for name, column in columns.items():
        made[:, TextForm._fields.index(name)] = column
    packed: list[bytes] = made.view(f"V{made.itemsize * made.shape[1]}").ravel().tolist()
    return packed


def _places(raw: bytes, byte: bytes) -> NDArray[np.intp]:
    if byte not in raw:  # many times as fast as looking at each
        return np.empty(0, np.intp)
    return np.flatnonzero(np.frombuffer(raw, np.uint8) == byte[0])


def _by_text(places: NDArray[np.intp] | list[int], ends: NDArray[np.intp]) -> NDArray[np.intp]:
    """How many of the places lie in each text."""
    return np.bincount(ends.searchsorted(np.asarray(places, np.intp)), minlength=len(ends))


def _shouted(raw: bytes, words: _Words) -> list[int]:
    """Where words of two or more capitals stand."""
    is_capital = _UPPER.take(np.frombuffer(raw, np.uint8))
    likely = is_capital[words.starts] & is_capital[words.starts + 1]
    bounds = zip(words.starts[likely].tolist(), words.stops[likely].tolist(), strict=True)
    return [start for start, stop in bounds if is_capital[start:stop].all()]


def _links(raw: bytes, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.intp]:
    text = raw.decode("ascii")
    lowered = text.lower()
    signs = np.array([found.start() for sign in LINK_SIGNS for found in sign.finditer(lowered)], np.intp)
    found = np.zeros(len(ends), np.intp)
    for place in np.unique(ends.searchsorted(signs)).tolist():
        found[place] = len(LINK.findall(text, begins[place], ends[place]))
    return found


def _distinct(
    raw: bytes, letters: NDArray[np.intp], begins: NDArray[np.intp], ends: NDArray[np.intp]
) -> NDArray[np.uint8]:
    seen = np.bitwise_count(np.bitwise_or.reduceat(_USUAL_BIT.take(letters), begins))
    if len(raw) - len(raw.translate(None, _OTHERS)) > len(ends) + 1:  # besides the gaps
        bits = _OTHER_BIT.take(letters)
        bits[ends] = 0
        seen += np.bitwise_count(np.bitwise_or.reduceat(bits, begins))
    return seen
