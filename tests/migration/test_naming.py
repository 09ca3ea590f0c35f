from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.migration.naming import of_space

spaces = st.text("0123456789abcdef", min_size=12, max_size=12)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,20}(\.snapshot)?", fullmatch=True)


@given(names, spaces, spaces)
def test_names_do_not_grow_from_model_to_model(name: str, one: str, other: str) -> None:
    assert of_space(of_space(name, one), other) == of_space(name, other)
    assert one in of_space(name, one)


@given(names, spaces, spaces)
def test_another_space_has_another_name(name: str, one: str, other: str) -> None:
    assert (of_space(name, one) == of_space(name, other)) == (one == other)
    assert of_space(name, one) != name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vectors", "vectors.0123456789ab"),
        ("my.vectors", "my.vectors.0123456789ab"),
        ("vectors.ba9876543210", "vectors.0123456789ab"),
        ("streamer-index.snapshot", "streamer-index.0123456789ab.snapshot"),
        ("streamer-index.ba9876543210.snapshot", "streamer-index.0123456789ab.snapshot"),
        ("index", "index.0123456789ab"),
    ],
)
def test_topics_end_in_the_space_and_snapshots_keep_their_ending(name: str, expected: str) -> None:
    assert of_space(name, "0123456789ab") == expected
