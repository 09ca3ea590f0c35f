"""Texts onto the wire and rows off it."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamer.adapters.providers.wire import count_at, matrix_of, parse, rows_in_order, well_formed

any_text = st.text(st.characters(codec=None, exclude_categories=()))
matrices = st.integers(1, 6).flatmap(
    lambda width: arrays(np.float32, st.tuples(st.integers(1, 6), st.just(width)), elements=st.floats(width=32))
)


@given(any_text)
def test_any_text_can_be_sent(text):
    sent = well_formed(text)
    assert sent.encode().decode() == sent
    pairs = "[\ud800-\udbff][\udc00-\udfff]"
    joined = re.sub(pairs, lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    assert sent == re.sub("[\ud800-\udfff]", "\ufffd", joined)


@given(matrices, st.data())
def test_rows_come_back_as_they_were_sent(matrix, data):
    """In base64 or as numbers, row by row; NaN and infinity included."""
    rows = [
        base64.b64encode(row.astype("<f4").tobytes()).decode() if data.draw(st.booleans()) else row.tolist()
        for row in matrix
    ]
    body = parse(json.dumps({"rows": rows}).encode())
    np.testing.assert_array_equal(matrix_of(body["rows"], len(matrix), 99), matrix)


@given(st.permutations(range(5)))
def test_rows_are_put_where_their_index_says(order):
    data = [{"index": index, "embedding": [float(index)]} for index in order]
    assert rows_in_order(data, 5) == [[float(index)] for index in range(5)]


@given(st.lists(st.integers(-1, 5) | st.none(), min_size=3, max_size=3).filter(lambda indices: set(indices) != {None}))
def test_no_other_indices_are_accepted(indices):
    data = [{"index": index, "embedding": [1.0]} for index in indices]
    if sorted(index for index in indices if index is not None) == [0, 1, 2]:
        rows_in_order(data, 3)
    else:
        with pytest.raises(ValueError, match="each once"):
            rows_in_order(data, 3)


def test_null_where_a_number_belongs_reads_as_nan():
    assert np.isnan(matrix_of([None, [1.0, 2.0]], 2, 7)).tolist() == [[True, True], [False, False]]
    assert np.isnan(matrix_of([[1.0, None]], 1, 7)).tolist() == [[False, True]]
    assert matrix_of([None], 1, 7).shape == (1, 7)


def test_numbers_beyond_float32_are_infinite():
    assert np.isinf(matrix_of([[1e300]], 1, 1)).all()


@pytest.mark.parametrize(
    ("rows", "count", "why"),
    [
        (None, 1, "no list"),
        ([], 1, "0 embeddings for 1 texts"),
        ([[1.0], [1.0, 2.0]], 2, "1 and 2 dimensions"),
        (["AAAAAAA="], 1, "5 bytes"),
        (["AAA"], 1, "padding"),
        (["AA!A"], 1, "base64"),
        ([3], 1, "int"),
        ([["a"]], 1, "could not convert"),
        ([[{}]], 1, "no number"),
    ],
)
def test_what_cannot_be_a_row(rows, count, why):
    with pytest.raises(ValueError, match=f"(?i){why}"):
        matrix_of(rows, count, 1)


def test_only_a_json_object_is_a_body():
    assert parse(b'{"a": 1}') == {"a": 1}
    assert np.isnan(parse(b'{"a": NaN}')["a"])
    for broken in (b"", b"{", b"[]", b"null", b"<html>", b"\xff\xfe"):
        with pytest.raises(ValueError, match="JSON"):
            parse(broken)


def test_a_count_that_is_no_number_is_no_count():
    assert count_at({"usage": {"total_tokens": 5}}, "usage", "total_tokens") == 5
    assert count_at({"usage": {"total_tokens": 5.0}}, "usage", "total_tokens") == 5
    for other in (None, 3, {}, {"usage": None}, {"usage": {"total_tokens": "5"}}, {"usage": {"total_tokens": np.nan}}):
        assert count_at(other, "usage", "total_tokens") is None
