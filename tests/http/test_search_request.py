"""What a search may ask for."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import SpaceMismatch
from streamer.http.search_request import SearchRequest, parse_search


def test_what_a_request_leaves_out_has_a_default() -> None:
    assert parse_search(b'{"text": "hello"}', 2) == SearchRequest(text="hello", k=10, min_similarity=None)
    assert parse_search(b'{"id": "a", "k": 100, "min_similarity": -1}', 2) == SearchRequest(
        id="a", k=100, min_similarity=-1
    )


def test_a_search_for_another_space_is_told_from_a_wrong_one() -> None:
    assert parse_search(b'{"vector": [3, 4], "space": "a1"}', 2, "a1").vector is not None
    assert parse_search(b'{"text": "a", "space": null}', 2, "a1").text == "a"
    with pytest.raises(SpaceMismatch, match="the search is for space 'b2', this index is of space 'a1'"):
        parse_search(b'{"vector": [1, 2, 3], "space": "b2"}', 2, "a1")


@pytest.mark.parametrize("numbers", [[3, 4], [3e17, 4e17], [3e-20, 4e-20]])
def test_vectors_are_normalised(numbers: list[float]) -> None:
    request = parse_search(orjson.dumps({"vector": numbers}), 2)
    assert request.vector is not None
    assert request.vector.dtype == np.float32
    assert np.allclose(request.vector, [0.6, 0.8])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'"text"', "must be a JSON object"),
        (b"{}", "exactly one of 'text', 'vector' and 'id'"),
        (b'{"text": "a", "id": "b"}', "exactly one of"),
        (b'{"text": "a", "space": 3}', "'space' must be a string"),
        (b'{"text": "a", "top": 3}', "unknown key 'top'; known are text, vector, id, k, min_similarity"),
        (b'{"text": ""}', "'text' must be a string"),
        (b'{"text": 1}', "'text' must be a string"),
        (b'{"id": null}', "'id' must be a string"),
        (b'{"text": "a", "k": 0}', "'k' must be a whole number from 1 to 100"),
        (b'{"text": "a", "k": 101}', "'k' must be"),
        (b'{"text": "a", "k": 1000000}', "'k' must be"),
        (b'{"text": "a", "k": -1}', "'k' must be"),
        (b'{"text": "a", "k": NaN}', "'k' must be"),
        (b'{"vector": [NaN, 0]}', "'vector' must be a list of numbers"),
        (b'{"text": "a", "k": 1.0}', "'k' must be"),
        (b'{"text": "a", "k": true}', "'k' must be"),
        (b'{"text": "a", "min_similarity": 1.1}', "'min_similarity' must be a number from -1 to 1"),
        (b'{"text": "a", "min_similarity": "0.5"}', "'min_similarity' must be"),
        (b'{"vector": [1, 2, 3]}', "'vector' has 3 dimensions, the vectors of this index have 2"),
        (b'{"vector": []}', "'vector' has 0 dimensions"),
        (b'{"vector": [0, 0.0]}', "'vector' must not be zero"),
        (b'{"vector": [1e-300, 0]}', "'vector' must not be zero"),
        (b'{"vector": [1e19, 0]}', "'vector' must be a list of numbers between -1e+18 and 1e+18"),
        (b'{"vector": ["1", 0]}', "'vector' must be a list of numbers"),
        (b'{"vector": [true, 0]}', "'vector' must be a list of numbers"),
        (b'{"vector": [[1], 0]}', "'vector' must be a list of numbers"),
        (b'{"vector": {"0": 1}}', "'vector' must be a list of numbers"),
    ],
)
def test_bad_requests_say_what_is_wrong(body: bytes, words: str) -> None:
    """Field case 41."""
    with pytest.raises(ValueError, match=re.escape(words)):
        parse_search(body, 2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["text", "vector", "id", "k", "min_similarity", "other"])


@given(st.dictionaries(KEYS, JSON | st.lists(st.floats(allow_nan=False), min_size=2, max_size=2), max_size=4))
def test_anything_else_is_a_value_error_and_nothing_worse(document: dict[str, Any]) -> None:
    try:
        request = parse_search(orjson.dumps(document), 2)
    except ValueError:
        return
    assert sum(subject is not None for subject in (request.text, request.vector, request.id)) == 1
    if request.vector is not None:
        assert abs(float(np.linalg.norm(request.vector)) - 1) < 1e-6


@pytest.mark.parametrize(("sent", "read"), [(rb"late \ud83d", "late \ufffd"), (b"\xef\xbb\xbflate", "late")])
def test_row_8_a_query_is_read_like_a_record(sent: bytes, read: str) -> None:
    """Field case 8."""
    assert parse_search(b'{"text": "%s"}' % sent, 3).text == read


@pytest.mark.parametrize("text", [r"\u200b", r"\u0000", r"\ufeff", " "])
def test_row_27_a_query_in_which_nothing_can_be_seen_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="blank"):
        parse_search(f'{{"text": "{text}"}}'.encode(), 3)
