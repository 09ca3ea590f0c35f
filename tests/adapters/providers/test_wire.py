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

from streamer.adapters.providers.wire import Unordered, count_at, matrix_of, parse, rows_in_order
from streamer.core.reading import well_formed

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
def test_other_indices_are_accepted_only_where_they_leave_no_doubt(indices):
    data = [{"index": index, "embedding": [float(place)]} for place, index in enumerate(indices)]
    known = [index for index in indices if index is not None]
    if sorted(known) in ([0, 1, 2], [1, 2, 3]):
        expected = [[float(place)] for _, place in sorted(zip(known, range(3), strict=True))]
    elif len(known) == 2 and len({*known} & {0, 1, 2}) == 2:
        (left,) = {0, 1, 2}.difference(known)
        places = [left if index is None else index for index in indices]
        expected = [[float(places.index(place))] for place in range(3)]
    elif len(known) == 1 and indices.index(known[0]) == known[0]:
        expected = [[0.0], [1.0], [2.0]]
    else:
        with pytest.raises(Unordered, match="each once"):
            rows_in_order(data, 3)
        return
    assert rows_in_order(data, 3) == expected


def test_null_where_a_number_belongs_reads_as_nan():
    assert np.isnan(matrix_of([None, [1.0, 2.0]], 2, 7)).tolist() == [[True, True], [False, False]]
    assert np.isnan(matrix_of([[1.0, None]], 1, 7)).tolist() == [[False, True]]
    assert matrix_of([None], 1, 7).shape == (1, 7)


def test_numbers_beyond_float32_are_infinite():
    assert np.isinf(matrix_of([[1e300]], 1, 1)).all()


NO_ROWS = [[], [[]], ["a"], [{}], 3, {}, True, "", "AAAAAAA=", "AAA", "AA!A", "日本", None, [10**400], [[1.0], [2.0]]]


@pytest.mark.parametrize("row", NO_ROWS, ids=str)
def test_what_is_no_row_concerns_its_text_alone(row):
    assert np.isnan(matrix_of([row, [1.0, 2.0]], 2, 2)).tolist() == [[True, True], [False, False]]
    assert np.isnan(matrix_of([row], 1, 2)).tolist() == [[True, True]]
    with pytest.raises(ValueError, match="none of 2 embeddings is a vector"):
        matrix_of([row, row], 2, 2)


def test_the_width_is_the_expected_one_else_that_of_most_rows():
    one, two, three = [1.0], [1.0, 2.0], [1.0, 2.0, 3.0]
    assert np.isnan(matrix_of([one, one, two], 3, 2)[:, 0]).tolist() == [True, True, False]
    assert np.isnan(matrix_of([one, three, three], 3, 2)[:, 0]).tolist() == [True, False, False]
    assert matrix_of([one], 1, 2).shape == (1, 1)


def test_rows_come_as_many_as_they_are():
    assert matrix_of([[1.0]], 2, 1).shape == (1, 1)
    assert matrix_of([], 2, 1).shape == (0, 1)
    others: list[object] = [None, 3, "text", {}]
    for other in others:
        with pytest.raises(ValueError, match="no list"):
            matrix_of(other, 1, 1)


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
