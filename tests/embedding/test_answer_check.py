from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streamer.embedding.answer_check import InvalidAnswer, OtherWidth, check_answer

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.just(5)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


@given(matrices)
def test_good_rows_come_out_at_unit_length_and_in_their_direction_and_bad_ones_are_named(
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    checked = check_answer(vectors, len(vectors), 5)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    for i, (row, norm) in enumerate(zip(checked.rows, norms, strict=True)):
        if np.isfinite(norm) and 1e-6 <= norm <= 1e6:
            assert row.dtype == np.float32
            np.testing.assert_allclose(row, vectors[i] / norm, atol=1e-6)
            assert checked.is_good[i]
        elif not np.isfinite(norm) or norm < 0.9e-6 or norm > 1.1e6:
            assert not checked.is_good[i]


@pytest.mark.parametrize("count", [0, 2, 4])
def test_any_other_count_makes_the_whole_answer_useless(count: int) -> None:
    with pytest.raises(InvalidAnswer, match=f"{count} vectors were expected, 3 came"):
        check_answer(np.ones((3, 5), dtype=np.float32), count, 5)


@pytest.mark.parametrize("width", [1, 4, 6])
def test_any_other_width_is_another_space(width: int) -> None:
    with pytest.raises(OtherWidth, match=f"5 dimensions were expected, the provider sent {width}"):
        check_answer(np.ones((3, width), dtype=np.float32), 3, 5)


def test_a_matryoshka_model_may_send_more_but_not_less() -> None:
    vectors = np.arange(1, 9, dtype=np.float32).reshape(1, 8)
    [row] = check_answer(vectors, 1, 2, matryoshka=True).rows
    np.testing.assert_allclose(row, np.array([1, 2]) / np.sqrt(5), atol=1e-7)
    with pytest.raises(OtherWidth):
        check_answer(vectors, 1, 16, matryoshka=True)


def test_float32_read_in_the_wrong_byte_order_is_noticed() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    swapped = vectors.byteswap()
    assert not check_answer(swapped, 50, 384).is_good.any()


def test_an_empty_answer_to_nothing_is_fine() -> None:
    checked = check_answer(np.empty((0, 5), dtype=np.float32), 0, 5)
    assert checked.rows.shape == (0, 5)
    assert checked.is_good.shape == (0,)
