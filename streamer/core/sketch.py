"""A text in a few bytes: its words, to tell a copy of it from another text on the same subject, and its form.

Embeddings put two reports of one event side by side, and a template filled in anew almost on top of itself. Copies
share words, whatever was cut off, added or moved; look-alikes differ in their numbers. A sketch keeps both.

Embeddings also hear what a text says and hardly see how it is written: a message in capitals, full of numbers and
links, lies beside a plain one on the same subject. A form counts what can be seen. Counts travel, not shares: what is
usual is the reader's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from struct import Struct, pack
from typing import Final, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

SKETCH_HEADER: Final = "streamer-sketch"
FORM_HEADER: Final = "streamer-form"

SKETCH_WORDS: Final = (
    48  # of a longer text, those with the smallest hashes: the same ones in every copy (a bottom-k sketch)
)
SKETCH_NUMBERS: Final = 12
_SLOTS: Final = SKETCH_WORDS + SKETCH_NUMBERS
UNPACKED_BYTES: Final = 2 * _SLOTS
EMPTY_SLOT: Final = 0xFFFF

# A number weighs as much as this many words: another figure in a sentence of ten words makes it another sentence,
# another page number does not make an article of two hundred words another article.
_NUMBER_WEIGHT: Final = 8.0
# Of two very short texts, one lies within the other by chance.
_PRIOR_WORDS: Final = 2.0

_LONGEST: Final = 20_000  # characters looked at, so that time is bounded; copies agree on their beginning
_ASCII_WORD = re.compile(rb"[a-z0-9_]+")
# Scripts written without spaces are taken character by character.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\W{_UNSPACED}]+")


def sketch(text: str) -> bytes:
    """16-bit hashes of a text's distinct words and numbers: 1 + 2 * (at most 60) bytes, see docs/records.md.

    One byte counts the words; then, little-endian and each part ascending, the smallest 48 hashes of words and the
    smallest 12 of numbers. A number is a word that begins with a digit. About 20 us for 40 words.
    """
    text = text[:_LONGEST].lower()
    if text.isascii():
        found = set(_ASCII_WORD.findall(text.encode()))
    else:
        found = {word.encode("utf-8", "surrogatepass") for word in _WORD.findall(text)}
    digits = [word for word in found if word[0] < 58]  # "9" is 57, and every other word begins behind it
    found.difference_update(digits)
    words, numbers = _hashes(found)[:SKETCH_WORDS], _hashes(digits)[:SKETCH_NUMBERS]
    return pack(f"<B{len(words) + len(numbers)}H", len(words), *words, *numbers)


def _hashes(words: Iterable[bytes]) -> list[int]:
    # crc32 is the same in every process and spreads its low bits well; 65535 is kept for empty slots.
    return sorted({hash % EMPTY_SLOT for hash in map(crc32, words)})


def unpack(value: bytes) -> bytes | None:
    """A sketch in the form in which sketches are compared, all of one length; None for what is no sketch."""
    count, words = len(value) // 2, value[0] if value else 0
    if len(value) % 2 == 0 or words > min(SKETCH_WORDS, count) or count - words > SKETCH_NUMBERS:
        return None
    split = 1 + 2 * words
    return value[1:split].ljust(2 * SKETCH_WORDS, b"\xff") + value[split:].ljust(2 * SKETCH_NUMBERS, b"\xff")


def unpack_all(values: Sequence[bytes]) -> NDArray[np.uint8] | None:
    """The same of many at once, (n, UNPACKED_BYTES); None where one of them is no sketch."""
    sizes = np.array([*map(len, values)], np.int64)
    if not (sizes % 2).all():
        return None  # also those without a first byte
    packed = np.frombuffer(b"".join(values), np.uint8)
    first_bytes = np.cumsum(sizes) - sizes
    words = packed[first_bytes].astype(np.int64)
    numbers = sizes // 2 - words
    if (words > SKETCH_WORDS).any() or (numbers < 0).any() or (numbers > SKETCH_NUMBERS).any():
        return None
    # Row by row, words before numbers, each from the left: the order of slots that are filled is that of the hashes.
    slots = np.full((len(values), _SLOTS), EMPTY_SLOT, "<u2")
    filled = np.concatenate(
        (np.arange(SKETCH_WORDS) < words[:, None], np.arange(SKETCH_NUMBERS) < numbers[:, None]), axis=1
    )
    slots[filled] = np.delete(packed, first_bytes).view("<u2")
    return slots.view(np.uint8)


class Overlap(NamedTuple):
    """What two texts have in common, both from 0 to 1.

    `share`: how much of the shorter one the longer one repeats, a number counting as several words. `agreement`: 1 less
    the share that numbers make up which differ. A text that was cut short has lost numbers, a template has exchanged
    them: only where either text has numbers that the other lacks do they differ.
    """

    share: float
    agreement: float


def overlaps(own: Iterable[bytes], others: Iterable[bytes], *, numbers_matter: bool = True) -> list[Overlap]:
    """Pairs of unpacked sketches compared in one go: by words and numbers, or by words alone."""
    first = np.frombuffer(b"".join(own), "<u2").reshape(-1, _SLOTS)
    second = np.frombuffer(b"".join(others), "<u2").reshape(-1, _SLOTS)
    words, fewer_words = _shared(first[:, :SKETCH_WORDS], second[:, :SKETCH_WORDS])
    if not numbers_matter:
        share = words / (fewer_words + _PRIOR_WORDS)
        share[(first[:, :SKETCH_WORDS] == second[:, :SKETCH_WORDS]).all(axis=1)] = 1.0
        return [Overlap(value, 1.0) for value in share.tolist()]
    numbers, fewer_numbers = _shared(first[:, SKETCH_WORDS:], second[:, SKETCH_WORDS:])
    weight = fewer_words + _PRIOR_WORDS + _NUMBER_WEIGHT * fewer_numbers
    share = (words + _NUMBER_WEIGHT * numbers) / weight
    # Equal texts are equal, however short.
    share[(first == second).all(axis=1)] = 1.0
    agreement = 1 - _NUMBER_WEIGHT * (fewer_numbers - numbers) / weight
    return list(map(Overlap, share.tolist(), agreement.tolist()))


def _shared(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per pair: hashes in both, and in the one that has fewer, as far as both sketches reach."""
    # A part without an empty slot may leave out hashes behind its last one.
    reach = np.minimum(first[:, -1], second[:, -1])[:, None]
    reach = np.minimum(reach, EMPTY_SLOT - 1)
    in_first, in_second = first <= reach, second <= reach
    same = (first[:, :, None] == second[:, None, :]).any(axis=2) & in_first
    return same.sum(axis=1), np.minimum(in_first.sum(axis=1), in_second.sum(axis=1))


LONGEST_FORM: Final = 4_000  # characters looked at, so that time is bounded; a form shows early
LINK = re.compile(r"https?:|www\.|\w\.(?:com|net|org|info|biz|io|ly|me|uk|de)\b", re.ASCII | re.IGNORECASE)
# Where one of these begins in the text in small letters, there may be a link; nowhere else.
LINK_SIGNS = [re.compile(r"\.(?:com|net|org|info|biz|io|ly|me|uk|de)"), re.compile("http"), re.compile(r"www\.")]
# As \b[A-Z]{2,}\b, but it begins with a capital: those are what the search then leaps to.
_SHOUTED = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]+(?!\w)")
_WORDY = re.compile(r"\w+")
_UPPER = bytes(range(65, 91))
_LETTERS = _UPPER + bytes(range(97, 123))
_DIGITS = bytes(range(48, 58))
_ASCII = bytes(range(128))


class TextForm(NamedTuple):
    """Counts of a text's characters (letters, capitals and decimal digits as Unicode has them), words and links.

    `printed`: characters that are no white space. `longest`: characters of the longest word. `distinct`: different
    characters, capitals and small letters counted once. `shouted`: words of nothing but two or more ASCII capitals.
    """

    characters: int
    printed: int
    words: int
    longest: int
    letters: int
    capitals: int
    digits: int
    beyond_ascii: int
    links: int
    exclamations: int
    questions: int
    distinct: int
    shouted: int


_FORM: Final = Struct(f"<{len(TextForm._fields)}H")


def form_of(text: str) -> bytes:
    """The counts of TextForm in its order, each a little-endian 16-bit integer, 65,535 for more. About 10 us."""
    text = text[:LONGEST_FORM]
    lowered = text.lower()
    words = text.split()
    lengths = [*map(len, words)]
    # Bytes are counted by what is left without them: that is many times as fast as looking at each character.
    raw, low = text.encode("utf-8", "surrogatepass"), lowered.encode("utf-8", "surrogatepass")
    size = len(raw)
    letters = size - len(raw.translate(None, _LETTERS))
    capitals = size - len(raw.translate(None, _UPPER))
    digits = size - len(raw.translate(None, _DIGITS))
    distinct, beyond = len(_ASCII) - len(_ASCII.translate(None, low)), ""
    if not text.isascii():
        beyond = _beyond_ascii(raw)
        distinct += len(set(_beyond_ascii(low)))
        more_letters, more_digits = _letters_and_digits(beyond)
        letters, digits = letters + more_letters, digits + more_digits
        if not ("a" + beyond).islower():
            capitals += sum(map(str.isupper, beyond))
    linked = any(sign.search(lowered) for sign in LINK_SIGNS)
    return _FORM.pack(  # in the order of TextForm; nothing is more than the characters looked at, which fit
        len(text),
        sum(lengths),
        len(words),
        max(lengths, default=0),
        letters,
        capitals,
        digits,
        len(beyond),
        len(LINK.findall(text)) if linked else 0,
        text.count("!"),
        text.count("?"),
        distinct,
        len(_SHOUTED.findall(text)) if capitals > 1 else 0,
    )


def _beyond_ascii(encoded: bytes) -> str:
    return encoded.translate(None, _ASCII).decode("utf-8", "surrogatepass")


def _letters_and_digits(text: str) -> tuple[int, int]:
    wordy = "".join(_WORDY.findall(text))
    if wordy.isalpha() or not wordy:
        return len(wordy), 0
    return sum(map(str.isalpha, wordy)), sum(map(str.isdecimal, wordy))


def unpack_form(value: bytes) -> TextForm | None:
    """The counts; None for what is no form."""
    return TextForm._make(_FORM.unpack(value)) if len(value) == _FORM.size else None
