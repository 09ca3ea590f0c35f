from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamer.core.vectors import Matrix, unit_rows
from streamer.worker.json_vectors import DECIMALS, json_vectors

BOUND = 0.5 * 10**-DECIMALS
NUMBERS = st.floats(-0.9921875, 0.9921875, width=32, allow_subnormal=True)


def texts_of(matrix: Matrix) -> list[bytes]:
    return [bytes(text) for text in json_vectors(list(matrix))]


@given(st.integers(1, 70).flatmap(lambda count: arrays(np.float32, (count, 5), elements=NUMBERS)))
def test_each_number_is_off_by_half_of_the_last_decimal_at_the_most(matrix: Matrix) -> None:
    for row, text in zip(matrix, texts_of(matrix), strict=True):
        read = np.array(orjson.loads(text), np.float64)
        assert np.abs(read - row).max() <= BOUND * (1 + 1e-6)  # float64 itself is off by less than that


@given(arrays(np.float32, (67, 3), elements=NUMBERS))
def test_a_vector_has_the_same_text_whichever_are_beside_it(matrix: Matrix) -> None:
    assert texts_of(matrix) == [text for row in matrix for text in texts_of(row[None])]


def test_the_text() -> None:
    assert texts_of(unit_rows([[1, -2, 2]])) == [b"[ 0.33333334,-0.66666669, 0.66666669]"]


@pytest.mark.parametrize("number", [1.0, -1.0, 0.999999999, 1.5, 3e38, float("nan"), float("inf")])
def test_what_is_no_number_between_minus_one_and_one_has_its_vector_written_in_full(number: float) -> None:
    matrix = np.array([[0.5, 0.25], [number, 0.123456789], [0.25, 0.5]], np.float32)
    before, text, behind = texts_of(matrix)
    assert text == orjson.dumps(matrix[1], option=orjson.OPT_SERIALIZE_NUMPY)
    assert (before, behind) == (b"[ 0.50000000, 0.25000000]", b"[ 0.25000000, 0.50000000]")


def test_nothing_to_write() -> None:
    assert json_vectors([]) == []
    assert json_vectors([np.empty(0, np.float32)]) == [b"[]"]
