"""Where vectors lie on the map."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.core.vectors import Matrix
from streamer.indexer.index.plane import Plane


def flat(count: int, dimensions: int, seed: int = 0) -> tuple[Matrix, Matrix]:
    """Rows that differ in two directions only, and where they lie in these."""
    random = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(random.standard_normal((dimensions, 2)))
    inside = random.standard_normal((count, 2)) * [3.0, 1.0]
    return (inside @ axes.T + random.standard_normal(dimensions)).astype(np.float32), inside.astype(np.float32)


def distances(points: Matrix) -> Matrix:
    found: Matrix = np.linalg.norm(points[:, None] - points[None], axis=2)
    return found


@pytest.mark.parametrize("dimensions", [2, 3, 64])
def test_what_lies_in_a_plane_keeps_its_distances(dimensions: int) -> None:
    rows, inside = flat(50, dimensions)
    points, share = Plane().place(rows)
    assert share == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_allclose(distances(points), distances(inside), atol=2e-2)


def test_the_plane_is_the_best_one() -> None:
    random = np.random.default_rng(1)
    rows = (random.standard_normal((200, 30)) * np.geomspace(5, 0.1, 30)).astype(np.float32)
    _, share = Plane().place(rows)
    sizes = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert share == pytest.approx(sizes[:2].sum() / sizes.sum(), rel=0.01)


def test_what_stays_moves_little_while_others_come_and_go() -> None:
    """Also where the two axes are equally long, so that any turn of them is as good."""
    random = np.random.default_rng(2)
    rows = random.standard_normal((600, 40)).astype(np.float32) * ([4.0] * 2 + [0.5] * 38)
    plane = Plane()
    last, _ = plane.place(rows[:500])
    for start in range(1, 100, 10):
        points, _ = plane.place(rows[start : start + 500])
        moved = np.linalg.norm(points[:400] - last[start - (start - 10 if start > 10 else 0) :][:400], axis=1)
        assert np.median(moved) < 0.5, "of about 5"
        last = points


def test_a_change_of_coordinates_begins_anew() -> None:
    plane = Plane()
    plane.place(flat(20, 10)[0])
    points, share = plane.place(flat(20, 64)[0])
    assert points.shape == (20, 2)
    assert share > 0.99


@pytest.mark.parametrize("rows", [np.zeros((0, 5)), np.eye(2, 5), np.ones((9, 5)), np.ones((9, 1))])
def test_too_few_or_too_equal_lie_in_the_middle(rows: Matrix) -> None:
    points, share = Plane().place(rows.astype(np.float32))
    assert points.shape == (len(rows), 2)
    assert not points.any()
    assert share == 0.0
