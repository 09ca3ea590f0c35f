"""AnomalyScorer against a slow model: the mean distance to the nearest of the latest, to the last bit for any cut."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.vectors import Matrix, unit_rows
from streamer.indexer.verdicts import anomalies
from streamer.indexer.verdicts.anomalies import FEWEST, AnomalyScorer
from tests.support.examples import examples


def units(count: int, dimensions: int, seed: int) -> Matrix:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dimensions)) + 0.3)


def scores(vectors: Matrix, edges: Sequence[int], window: int, refused: set[int]) -> list[float | None]:
    with patch.multiple(anomalies, FEWEST=3, _SHARE=0.3, _SLACK=5):
        memory = AnomalyScorer(vectors.shape[1], window)
        found: list[float | None] = []
        for start, end in pairwise(edges):
            batch = memory.compare(vectors[start:end])
            for member in range(end - start):
                found.append(batch.score(member))
                if start + member not in refused:
                    batch.accept(member)
    return found


@given(st.integers(0, 1000), st.sets(st.integers(1, 59)), st.integers(4, 30), st.sets(st.integers(0, 59)))
@settings(max_examples=examples(60))
def test_equals_the_model_however_the_stream_is_cut(seed: int, cuts: set[int], window: int, refused: set[int]) -> None:
    vectors = units(60, 48, seed)
    batched = scores(vectors, [0, *sorted(cuts), 60], window, refused)
    assert batched == scores(vectors, range(61), window, refused)
    for i, score in enumerate(batched):
        seen = [j for j in range(i) if j not in refused][-window:]
        if len(seen) < 3:
            assert score is None
            continue
        cosines = np.sort(vectors[seen].astype(float) @ vectors[i])[::-1]
        assert score is not None
        assert abs(score - (1 - cosines[: int(np.ceil(len(seen) * 0.3))].mean())) < 2e-3


def test_a_stranger_scores_higher_than_what_there_is_much_of() -> None:
    memory = AnomalyScorer(64)
    usual = unit_rows(units(500, 64, 1) + 5 * np.eye(64)[0])
    for row in usual:
        batch = memory.compare(row[None])
        batch.accept(0)
    both = memory.compare(np.stack([usual[0], np.eye(64, dtype=np.float32)[7]]))
    ordinary, strange = both.score(0), both.score(1)
    assert ordinary is not None
    assert strange is not None
    assert ordinary < 0.2 < strange


def test_the_background_is_the_mean_cosine() -> None:
    memory = AnomalyScorer(16, window=FEWEST)
    vectors = units(FEWEST * 2, 16, 3)
    for start in range(0, len(vectors), 64):
        batch = memory.compare(vectors[start : start + 64])
        for member in range(64):
            batch.accept(member)
    kept = vectors[-FEWEST:].astype(float)
    products = kept @ kept.T
    expected = (products.sum() - np.trace(products)) / (FEWEST * (FEWEST - 1))
    assert abs(memory.background - expected) < 1e-3
    assert len(memory) == FEWEST
